//! A line of the journal: a record between its length and checksum and the newline.
//!
//! `{"len":22,"crc":"0a1b2c3d","record":{…}}`: one JSON object a line, which `jq .record` reads like any other. `len` and
//! `crc` (CRC-32 of zlib and gzip, eight hexadecimal digits) are of the bytes between `"record":` and the last brace, as they
//! stand. The whole line is a function of those bytes, so a reader makes the line again and compares: no byte of it can
//! change unseen.

/// Longest record, in bytes.
pub const MAX_RECORD: usize = 256 << 20;

/// Longest line: what stands around a record has at most 64 bytes.
pub(super) const MAX_LINE: usize = MAX_RECORD + 64;

const LEN: &[u8] = br#"{"len":"#;
const CRC: &[u8] = br#","crc":""#;
const RECORD: &[u8] = br#"","record":"#;
const END: &[u8] = b"}\n";

/// The line that holds `payload`, which must be compact JSON.
pub(super) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut line = head(payload).into_bytes();
    line.reserve_exact(payload.len() + END.len());
    line.extend_from_slice(payload);
    line.extend_from_slice(END);
    line
}

fn head(payload: &[u8]) -> String {
    let crc = crc32fast::hash(payload);
    format!(r#"{{"len":{},"crc":"{crc:08x}","record":"#, payload.len())
}

/// The record of a `line` (with its newline), or what is wrong with it.
pub(super) fn unframe(line: &[u8]) -> Result<&[u8], &'static str> {
    let Some(body) = line.strip_suffix(END) else {
        return Err(match line.last() {
            Some(b'\n') => "it does not end as a record does",
            _ => "its end is missing",
        });
    };
    let other = "it does not begin as a record does";
    let rest = body.strip_prefix(LEN).ok_or(other)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (length, rest) = rest.split_at_checked(digits).ok_or(other)?;
    let rest = rest.strip_prefix(CRC).ok_or(other)?;
    let (_, rest) = rest.split_at_checked(8).ok_or(other)?;
    let payload = rest.strip_prefix(RECORD).ok_or(other)?;
    // Compared before anything is summed up, so that searching damage for whole records takes a look at each beginning.
    if length != payload.len().to_string().as_bytes() {
        return Err("its length is not the one it states");
    }
    if body.strip_suffix(payload) == Some(head(payload).as_bytes()) {
        Ok(payload)
    } else {
        Err("its checksum does not hold")
    }
}

/// The record that stands at the end of a damaged line, if one is whole there.
pub(super) fn within(line: &[u8]) -> Option<&[u8]> {
    let starts = line.windows(LEN.len()).enumerate().skip(1);
    starts
        .filter(|(_, window)| *window == LEN)
        .find_map(|(at, _)| unframe(line.get(at..)?).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_is_zlibs() {
        // Python: '%08x' % zlib.crc32(b'{"seq":0,"kind":"run"}').
        let line = br#"{"len":22,"crc":"f12fdca5","record":{"seq":0,"kind":"run"}}
"#;
        assert_eq!(frame(br#"{"seq":0,"kind":"run"}"#), line);
        assert_eq!(unframe(line), Ok(br#"{"seq":0,"kind":"run"}"#.as_slice()));
    }

    #[test]
    fn no_byte_changes_unseen() {
        let line = frame(br#"{"seq":3,"kind":"done","item":"a","repeat":0,"data":{"text":"x"}}"#);
        for at in 0..line.len() {
            for bit in 0..8 {
                let mut changed = line.clone();
                changed[at] ^= 1 << bit;
                assert!(unframe(&changed).is_err(), "byte {at}, bit {bit}");
            }
            assert!(unframe(&line[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_whole_record_is_found_behind_damage() {
        let mut line = b"{\"len\":5,\"crc".to_vec();
        line.extend(frame(b"{}"));
        assert_eq!(within(&line), Some(b"{}".as_slice()));
        assert_eq!(within(&frame(b"{}")), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = unframe(&bytes);
            let _ = within(&bytes);
            let line = frame(&bytes);
            prop_assert_eq!(unframe(&line), Ok(bytes.as_slice()));
        }
    }
}
