//! Files that pyarrow wrote (`tests/data/parquet/make.py`).

use std::path::PathBuf;

use lm_assess::data::{DataSet, Field, Format, Item, Layout, ReadOptions};
use lm_core::{Conversation, Prompt};

use crate::{error_with, read_with};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/parquet")
        .join(name)
}

#[test]
fn rows_have_the_ids_they_have_elsewhere() {
    let data = DataSet::read(path("prompts.parquet"), &ReadOptions::new()).expect("a data set");
    let origin = &data.origins()[0];
    assert_eq!(
        (origin.format, origin.layout, origin.rows),
        (Format::Parquet, Some(Layout::Columns), 3)
    );
    assert_eq!(
        origin.bytes,
        std::fs::metadata(path("prompts.parquet"))
            .expect("a file")
            .len()
    );
    let item = &data.items()[1];
    assert_eq!(
        item.id,
        Item::user("Where do swallows winter?\nBriefly.").id
    );
    assert_eq!(
        (item.label_as_bool(), item.groups["topic"].as_str()),
        (Some(false), "birds")
    );
    assert_eq!(
        (item.extra["score"].as_f64(), item.extra["number"].as_i64()),
        (Some(1.0), Some(2))
    );
    assert_eq!(
        item.place.as_ref().expect("a place").to_string(),
        "prompts.parquet: row 2"
    );
    assert_eq!(data.items()[2].text(), "Ünïcödé 🙂");
    assert!(data.items()[2].groups.is_empty());
}

#[test]
fn lists_of_messages_are_conversations() {
    let data = DataSet::read(path("chats.parquet"), &ReadOptions::new()).expect("a data set");
    assert_eq!(data.origins()[0].layout, Some(Layout::Messages));
    assert_eq!(
        data.items()[0].content,
        Prompt::Chat(Conversation::new().user("Hi"))
    );
    let Prompt::Chat(conversation) = &data.items()[1].content else {
        panic!("no conversation")
    };
    assert!(conversation.ends_in_assistant());
    assert_eq!(conversation.messages()[1].extra["name"], "Ann");
    assert!(conversation.messages()[0].extra.is_empty());
}

#[test]
fn what_cannot_be_read_is_refused() {
    let found =
        DataSet::read(path("zstd.parquet"), &ReadOptions::new()).expect_err("a codec that is off");
    assert!(found.to_string().to_lowercase().contains("zstd"), "{found}");
    let options = ReadOptions::new().column(Field::Prompt, "absent");
    let found = DataSet::read(path("prompts.parquet"), &options).expect_err("no column");
    assert!(
        found.to_string().ends_with(
            "no column `absent`; there are: `prompt`, `label`, `topic`, `score`, `number`"
        ),
        "{found}"
    );
    let short = ReadOptions::new().max_line_bytes(30);
    let found = DataSet::read(path("prompts.parquet"), &short).expect_err("a long row");
    assert!(
        found
            .to_string()
            .ends_with("row 2: longer than 30 bytes (`max_line_bytes`)"),
        "{found}"
    );
    assert!(
        error_with("a.parquet", "PAR1", &ReadOptions::new())
            .starts_with("a.parquet: not valid Parquet: ")
    );
}

/// Every byte changed and every length cut: an error or a data set, never a panic.
#[test]
fn damaged_files_do_not_panic() {
    let whole = std::fs::read(path("prompts.parquet")).expect("a file");
    let options = ReadOptions::new();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(3) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        refused += usize::from(read_with("a.parquet", &bytes, &options).is_err());
        refused += usize::from(read_with("a.parquet", &whole[..at], &options).is_err());
    }
    assert!(refused > whole.len() / 3, "{refused}");
}
