//! Our strict reading against the `csv` crate: what its writer writes, we read; what we read, its reader reads the same.

use lm_assess::data::{Field, ReadOptions};
use proptest::prelude::*;

use crate::read_with;

fn cell() -> impl Strategy<Value = String> {
    // What tables stumble over, and letters.
    proptest::collection::vec(
        prop_oneof![
            Just(','),
            Just('"'),
            Just('\n'),
            Just('\t'),
            Just(' '),
            Just('#'),
            Just('é'),
            Just('x'),
            Just('\u{feff}')
        ],
        0..8,
    )
    .prop_map(|letters| letters.into_iter().collect())
}

proptest! {
    #[test]
    fn tables_come_back(rows in proptest::collection::vec((cell(), cell()), 1..12), crlf in any::<bool>(), always in any::<bool>()) {
        let mut writer = csv::WriterBuilder::new();
        if crlf {
            writer.terminator(csv::Terminator::CRLF);
        }
        if always {
            writer.quote_style(csv::QuoteStyle::Always);
        }
        let mut writer = writer.from_writer(Vec::new());
        writer.write_record(["n", "prompt", "other"]).expect("a header");
        for (number, (prompt, other)) in rows.iter().enumerate() {
            // Each prompt is different and none is blank.
            writer.write_record([&number.to_string(), &format!("{number}{prompt}"), other]).expect("a row");
        }
        let bytes = writer.into_inner().expect("a table");
        let options = ReadOptions::new().column(Field::Id, "n");
        let data = read_with("a.csv", &bytes, &options).expect("a data set");
        let read: Vec<_> = data.items().iter().map(|item| (item.text(), item.extra["other"].clone())).collect();
        let mut reader = csv::Reader::from_reader(&bytes[..]);
        let expected: Vec<_> = reader
            .records()
            .map(|record| record.expect("a row"))
            .map(|record| (record[1].to_owned(), serde_json::Value::from(&record[2])))
            .collect();
        prop_assert_eq!(read, expected);
        // Where a row begins is the row before and its line breaks.
        let mut line = 2;
        for (item, (prompt, other)) in data.items().iter().zip(&rows) {
            let place = item.place.as_ref().expect("a place");
            prop_assert_eq!(place.to_string(), format!("a.csv:{line}"));
            line += 1 + prompt.matches('\n').count() + other.matches('\n').count();
        }
    }
}
