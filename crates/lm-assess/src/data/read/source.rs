//! Bytes of a file in the order they come: counted, hashed, never held as a whole.

use std::io::{self, BufRead as _, BufReader, Read};

use sha2::{Digest as _, Sha256};

use super::super::identity::hex;

/// What stands at the start of many files that Windows programs wrote.
const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

/// Why no more bytes come.
#[derive(Debug)]
pub(in super::super) enum Stop {
    /// The system refused.
    Io(io::Error),
    /// More than [`max_file_bytes`](crate::data::ReadOptions::max_file_bytes).
    TooLarge(u64),
}

pub(super) struct Source<R> {
    reader: BufReader<R>,
    hasher: Sha256,
    /// Bytes taken so far.
    offset: u64,
    limit: u64,
}

impl<R: Read> Source<R> {
    pub(super) fn new(reader: R, limit: u64) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 16, reader),
            hasher: Sha256::new(),
            offset: 0,
            limit,
        }
    }

    /// The next bytes without taking them; none at the end.
    pub(super) fn peek(&mut self) -> Result<&[u8], Stop> {
        loop {
            match self.reader.fill_buf() {
                // Twice, for the borrow checker; the second finds the buffer filled.
                Ok(_) => return self.reader.fill_buf().map_err(Stop::Io),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stop::Io(error)),
            }
        }
    }

    /// Takes bytes that [`peek`](Self::peek) showed.
    pub(super) fn take(&mut self, count: usize) -> Result<(), Stop> {
        let shown = self.reader.buffer();
        let count = count.min(shown.len());
        self.hasher.update(shown.get(..count).unwrap_or_default());
        self.reader.consume(count);
        self.offset += count as u64;
        if self.offset > self.limit {
            return Err(Stop::TooLarge(self.limit));
        }
        Ok(())
    }

    /// Takes the mark of UTF-8, if it stands here.
    pub(super) fn skip_bom(&mut self) -> Result<(), Stop> {
        // A buffer of a file is filled with more than three bytes at once unless there are no more.
        if self.peek()?.starts_with(&BOM) {
            self.take(BOM.len())?;
        }
        Ok(())
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Everything that is left, up to a limit; `None` beyond it.
    pub(super) fn rest(&mut self, limit: usize) -> Result<Option<Vec<u8>>, Stop> {
        let mut bytes = Vec::new();
        loop {
            let shown = self.peek()?;
            let count = shown.len();
            if count == 0 {
                return Ok(Some(bytes));
            }
            if bytes.len() + count > limit {
                return Ok(None);
            }
            bytes.extend_from_slice(shown);
            self.take(count)?;
        }
    }

    /// The number of bytes and their SHA-256, after the last was taken.
    pub(super) fn finish(self) -> (u64, String) {
        (self.offset, hex(&self.hasher.finalize(), 32))
    }
}

/// One line of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// Of its first byte in the file.
    pub(super) offset: u64,
    /// Whether it was longer than allowed; then only its beginning is in the buffer.
    pub(super) too_long: bool,
}

/// Lines of a text, ended by LF or CRLF.
pub(super) struct Lines<R> {
    source: Source<R>,
    number: u64,
    limit: usize,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(mut source: Source<R>, limit: usize) -> Result<Self, Stop> {
        source.skip_bom()?;
        Ok(Self {
            source,
            number: 0,
            limit,
        })
    }

    /// Reads the next line to the end of the buffer, without its line break; `None` at the end of the file.
    pub(super) fn next(&mut self, buffer: &mut Vec<u8>) -> Result<Option<Line>, Stop> {
        let start = buffer.len();
        let mut line = Line {
            number: self.number + 1,
            offset: self.source.offset(),
            too_long: false,
        };
        let mut empty = true;
        loop {
            let shown = self.source.peek()?;
            if shown.is_empty() {
                if empty {
                    return Ok(None);
                }
                break;
            }
            empty = false;
            let end = shown.iter().position(|byte| *byte == b'\n');
            let part = shown.get(..end.unwrap_or(shown.len())).unwrap_or_default();
            // One more than allowed is kept: it may be the CR of the line break.
            let room = (self.limit + 1).saturating_sub(buffer.len() - start);
            line.too_long |= part.len() > room;
            buffer.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
            let count = part.len() + usize::from(end.is_some());
            self.source.take(count)?;
            if end.is_some() {
                break;
            }
        }
        self.number += 1;
        if buffer.len() > start && buffer.last() == Some(&b'\r') {
            buffer.pop();
        }
        line.too_long |= buffer.len() - start > self.limit;
        Ok(Some(line))
    }

    pub(super) fn finish(self) -> (u64, String) {
        self.source.finish()
    }
}
