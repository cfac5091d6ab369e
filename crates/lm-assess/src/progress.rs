//! Where progress goes. Libraries never print: they are given one of these.

use std::io::Write;

use serde_json::{Value, json};

/// Is told how far something has come.
pub trait Progress {
    /// A stage begins; `total` is how many steps it has, if that is known.
    fn begin(&mut self, stage: &str, total: Option<u64>);

    /// `steps` more are done for good.
    fn advance(&mut self, steps: u64);

    /// Something that a person should see and that stops nothing.
    fn note(&mut self, text: &str);

    /// The stage that began last ends, complete or not.
    fn end(&mut self);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: &str, _: Option<u64>) {}

    fn advance(&mut self, _: u64) {}

    fn note(&mut self, _: &str) {}

    fn end(&mut self) {}
}

/// Writes a line of JSON at each event, for runs without a terminal: `{"event":"advance","stage":"run","done":3,"total":9}`.
/// A writer that fails is not written to again: progress stops nothing.
#[derive(Debug)]
pub struct JsonLines<W> {
    writer: Option<W>,
    stage: String,
    done: u64,
    total: Option<u64>,
}

impl<W: Write> JsonLines<W> {
    /// Progress to `writer`.
    pub fn new(writer: W) -> Self {
        Self {
            writer: Some(writer),
            stage: String::new(),
            done: 0,
            total: None,
        }
    }

    fn line(&mut self, event: &str, note: Option<&str>) {
        let mut line =
            json!({"event": event, "stage": self.stage, "done": self.done, "total": self.total});
        if let (Some(note), Some(fields)) = (note, line.as_object_mut()) {
            fields.insert("note".to_owned(), Value::from(note));
        }
        if let Some(writer) = &mut self.writer
            && writeln!(writer, "{line}")
                .and_then(|()| writer.flush())
                .is_err()
        {
            self.writer = None;
        }
    }
}

impl<W: Write> Progress for JsonLines<W> {
    fn begin(&mut self, stage: &str, total: Option<u64>) {
        stage.clone_into(&mut self.stage);
        self.done = 0;
        self.total = total;
        self.line("begin", None);
    }

    fn advance(&mut self, steps: u64) {
        self.done = self.done.saturating_add(steps);
        self.line("advance", None);
    }

    fn note(&mut self, text: &str) {
        self.line("note", Some(text));
    }

    fn end(&mut self) {
        self.line("end", None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_a_line() {
        let mut written = Vec::new();
        let mut progress = JsonLines::new(&mut written);
        progress.begin("run", Some(2));
        progress.advance(2);
        progress.note("a \"word\"");
        progress.end();
        assert_eq!(
            String::from_utf8(written).unwrap(),
            r#"{"event":"begin","stage":"run","done":0,"total":2}
{"event":"advance","stage":"run","done":2,"total":2}
{"event":"note","stage":"run","done":2,"total":2,"note":"a \"word\""}
{"event":"end","stage":"run","done":2,"total":2}
"#
        );
    }

    #[test]
    fn a_writer_that_fails_stops_nothing() {
        let mut room = [0; 60];
        let mut progress = JsonLines::new(room.as_mut_slice());
        progress.begin("run", None);
        progress.advance(1);
        progress.end();
        assert!(progress.writer.is_none());
    }
}
