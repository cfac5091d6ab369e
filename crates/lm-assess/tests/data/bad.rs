//! Files that are refused: what stands in the error, and that a skip counts what an error would have named.

use lm_assess::data::{DataSet, Field, Format, Item, Layout, OnBadRow, ReadOptions};

use crate::{error, error_with, file, read_with};

/// Name, bytes, the whole error.
const CASES: &[(&str, &[u8], &str)] = &[
    // Whole files.
    ("a.jsonl", b"", "a.jsonl: the file is empty"),
    (
        "a.jsonl",
        b"\n\n",
        "a.jsonl: no row in 2 bytes of JSON Lines",
    ),
    ("a.csv", b"prompt\n", "a.csv: no row in 7 bytes of CSV"),
    ("a.csv", b"\xef\xbb\xbf", "a.csv: no row in 3 bytes of CSV"),
    ("a.json", b"[ ]", "a.json: no row in 3 bytes of JSON"),
    (
        "a.txt",
        b" \n\t\n",
        "a.txt: no row in 4 bytes of plain lines",
    ),
    (
        "a.dat",
        b"hello",
        "a.dat: neither its name nor its first bytes tell the format; `ReadOptions::format` says it",
    ),
    (
        "a.txt",
        b"{\"prompt\": \"x\"}",
        "a.txt: named as plain lines, but begins like JSON Lines; `ReadOptions::format` says which it is",
    ),
    (
        "a.csv",
        b"\xff\xfep\0",
        "a.csv: expected CSV in UTF-8, found UTF-16; save it as UTF-8",
    ),
    (
        "a.jsonl",
        b"\x1f\x8b\x08",
        "a.jsonl: expected JSON Lines in UTF-8, found a gzip archive; unpack it first",
    ),
    (
        "a.csv",
        b"PK\x03\x04",
        "a.csv: expected CSV in UTF-8, found a zip archive (or a spreadsheet); unpack or export it first",
    ),
    (
        "a.csv",
        b"version https://git-lfs.github.com/spec/v1\n",
        "a.csv: expected CSV in UTF-8, found a Git LFS pointer; `git lfs pull` brings the file",
    ),
    (
        "a.csv",
        b"PAR1....",
        "a.csv: expected CSV in UTF-8, found Parquet",
    ),
    // Columns.
    (
        "a.csv",
        b"a,b\n1,2\n",
        "a.csv: no column that is known to hold prompts; there are: `a`, `b`. `ReadOptions::column(Field::Prompt, …)` names it",
    ),
    (
        "a.csv",
        b"prompt,text\n1,2\n",
        "a.csv: several columns may hold the prompt: `prompt`, `text`. `ReadOptions::column(Field::Prompt, …)` names it",
    ),
    (
        "a.csv",
        b"prompt,x,prompt\n1,2,3\n",
        "a.csv: the header has column `prompt` twice: `prompt`, `x`, `prompt`",
    ),
    (
        "a.jsonl",
        b"{\"a\": 1}\n",
        "a.jsonl:1: no column that is known to hold prompts; there are: `a`. `ReadOptions::column(Field::Prompt, …)` names it",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": \"x\"}\n{\"text\": \"y\"}\n",
        "a.jsonl:2: no column `prompt`; there are: `text`",
    ),
    (
        "a.jsonl",
        b"{}",
        "a.jsonl:1: no column that is known to hold prompts; there are: none. `ReadOptions::column(Field::Prompt, …)` names it",
    ),
    // JSON Lines.
    (
        "a.jsonl",
        b"{\"prompt\": \"x\"}\n{\"prompt\": \n",
        "a.jsonl:2: not valid JSON Lines: EOF while parsing a value at column 11",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": \"x\"} {}\n",
        "a.jsonl:1: not valid JSON Lines: trailing characters at column 17",
    ),
    (
        "a.jsonl",
        b"\"prompt\"\n",
        "a.jsonl:1: not valid JSON Lines: expected an object, found the text \"prompt\"",
    ),
    (
        "a.jsonl",
        b"[1, 2]\n",
        "a.jsonl:1: not valid JSON Lines: expected an object, found a list of 2",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": \"x\", \"prompt\": \"y\"}\n",
        "a.jsonl:1: not valid JSON Lines: the key `prompt` stands twice at column 30",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": \"x\"}\r\n\r\n{\"prompt\": \"\xff\"}\n",
        "a.jsonl:3: not valid UTF-8 at byte 31 of the file",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": \"\\ud800\"}\n",
        "a.jsonl:1: not valid JSON Lines: unexpected end of hex escape at column 19",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": NaN}\n",
        "a.jsonl:1: not valid JSON Lines: expected value at column 12",
    ),
    // JSON.
    (
        "a.json",
        b"[{\"prompt\": \"x\"},\n {\"prompt\":\n  1e999}]",
        "a.json:2: not valid JSON: number out of range at line 3, column 7",
    ),
    (
        "a.json",
        b"[{\"prompt\": \"x\"}\n",
        "a.json:1: not valid JSON: the file ends inside the list",
    ),
    (
        "a.json",
        b"[{\"prompt\": \"x\"},\n]",
        "a.json:2: not valid JSON: EOF while parsing a value at column 0",
    ),
    (
        "a.json",
        b"[{\"prompt\": \"x\"}}]",
        "a.json:1: not valid JSON: `}` closes nothing",
    ),
    (
        "a.json",
        b"[{\"prompt\": \"x\"}]\n[]",
        "a.json:2: not valid JSON: something stands after the list",
    ),
    ("a.json", b"{ }", "a.json:1: no column"),
    (
        "a.json",
        b"12",
        "a.json: expected a list of objects: `[` as the first character. An object that holds the list, or one an item, is not read",
    ),
    (
        "a.json",
        b"[\n{\"prompt\": \"x\"},\n\n{\"prompt\": \"\xc3\"}]",
        "a.json:4: not valid UTF-8 at byte 32 of the file",
    ),
    // CSV.
    (
        "a.csv",
        b"prompt,label\nx,1\ny\n",
        "a.csv:3: expected 2 fields as in the header, found 1",
    ),
    (
        "a.csv",
        b"prompt,label\nx,1,2\n",
        "a.csv:2: expected 2 fields as in the header, found 3",
    ),
    (
        "a.csv",
        b"prompt,label\n\"x\ny\nz\",1\nw\n",
        "a.csv:5: expected 2 fields as in the header, found 1",
    ),
    (
        "a.csv",
        b"prompt,label\r\n\"x\r\ny\",1\r\nw\r\n",
        "a.csv:4: expected 2 fields as in the header, found 1",
    ),
    (
        "a.csv",
        b"prompt,label\nx,1\n\"open,2\nz,3\n",
        "a.csv:3: not valid CSV: a quote opened in this record is not closed",
    ),
    (
        "a.csv",
        b"prompt,label\na 5\" pipe,1\n",
        "a.csv:2: not valid CSV: a quote inside a field that does not begin with one, in field 1",
    ),
    (
        "a.csv",
        b"prompt,label\nx,\"1\"2\n",
        "a.csv:2: not valid CSV: text after a closing quote, in field 2",
    ),
    (
        "a.csv",
        b"prompt,label\n\"x\ny\"z,1\n",
        "a.csv:2: not valid CSV: text after a closing quote on line 3, in field 1",
    ),
    (
        "a.csv",
        b"prompt,label\nx,1\n\"y\n\xe9\",2\n",
        "a.csv:3: not valid UTF-8 at byte 20 of the file",
    ),
    (
        "a.csv",
        b"pr\xe9mpt\nx\n",
        "a.csv:1: not valid UTF-8 at byte 2 of the file",
    ),
    (
        "a.csv",
        b"\"prompt\nx\n",
        "a.csv:1: not valid CSV: a quote opened in this record is not closed",
    ),
    (
        "a.tsv",
        b"prompt\tlabel\nx\t\"1\"2\n",
        "a.tsv:2: not valid TSV: text after a closing quote, in field 2",
    ),
    // Lines.
    (
        "a.txt",
        b"one\ntwo \xe2\x82\n",
        "a.txt:2: not valid UTF-8 at byte 8 of the file",
    ),
    // Values.
    (
        "a.csv",
        b"prompt\nx\n\"\"\n",
        "a.csv:3: column `prompt`: expected a text or a list of messages, found an empty text",
    ),
    (
        "a.csv",
        b"prompt\n\"  \"\n",
        "a.csv:2: column `prompt`: expected a text or a list of messages, found nothing but space",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": null}",
        "a.jsonl:1: column `prompt`: expected a text or a list of messages, found null",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": 7}",
        "a.jsonl:1: column `prompt`: expected a text or a list of messages, found the number 7",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": {\"a\": 1}}",
        "a.jsonl:1: column `prompt`: expected a text or a list of messages, found an object",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": \"x\"}\n{\"prompt\": [{\"role\": \"user\", \"content\": \"y\"}]}",
        "a.jsonl:2: column `prompt`: expected a text as in line 1, found a list of 1",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": \"x\", \"label\": true}\n\n{\"prompt\": \"y\", \"label\": \"yes\"}",
        "a.jsonl:3: column `label`: expected a boolean as in line 1, found the text \"yes\"",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": \"x\", \"label\": 0.5}",
        "a.jsonl:1: column `label`: expected a text, a whole number or a boolean, found the number 0.5",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": \"x\", \"target\": 3}",
        "a.jsonl:1: column `target`: expected a text, found the number 3",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": \"x\", \"topic\": {\"a\": 1}}",
        "a.jsonl:1: column `topic`: expected a text, a whole number or a boolean, found an object",
    ),
    // Messages.
    (
        "a.jsonl",
        b"{\"messages\": []}",
        "a.jsonl:1: column `messages`: expected at least one message, found an empty list",
    ),
    (
        "a.jsonl",
        b"{\"messages\": [\"hi\"]}",
        "a.jsonl:1: column `messages.0`: expected an object with `role` and `content`, found the text \"hi\"",
    ),
    (
        "a.jsonl",
        b"{\"messages\": [{\"role\": \"asistant\", \"content\": \"hi\"}]}",
        "a.jsonl:1: column `messages.0.role`: expected one of system, developer, user, assistant, tool, ipython, found the text \"asistant\"",
    ),
    (
        "a.jsonl",
        b"{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"user\"}]}",
        "a.jsonl:1: column `messages.1.content`: expected a text, found nothing",
    ),
    (
        "a.jsonl",
        b"{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\"}]}]}",
        "a.jsonl:1: column `messages.0.content`: expected a text, found a list of 1",
    ),
    (
        "a.jsonl",
        b"{\"messages\": [{\"role\": \"system\", \"content\": \"a\"}], \"system\": \"b\"}",
        "a.jsonl:1: column `system`: expected nothing beside the conversation's own system message, found the text \"b\"",
    ),
    (
        "a.csv",
        b"messages\n[{]\n",
        "a.csv:2: column `messages`: expected a list of messages, found a text that is no JSON: key must be a string at line 1 column 3",
    ),
    (
        "a.jsonl",
        b"{\"conversations\": [{\"from\": \"robot\", \"value\": \"hi\"}]}",
        "a.jsonl:1: column `conversations.0.from`: expected one of human, user, gpt, assistant, system, tool, observation, function_call, found the text \"robot\"",
    ),
    (
        "a.jsonl",
        b"{\"conversations\": \"hi\"}",
        "a.jsonl:1: column `conversations`: expected a list of messages, found a text that is no JSON: expected value at line 1 column 1",
    ),
    // Who is who.
    (
        "a.jsonl",
        b"{\"id\": \"a\", \"prompt\": \"x\"}\n{\"id\": \"a\", \"prompt\": \"y\"}",
        "a.jsonl:2: id `a` is that of a.jsonl:1 too, whose content differs",
    ),
    (
        "a.jsonl",
        b"{\"prompt\": \"x\", \"label\": 1}\n{\"prompt\": \"x\", \"label\": 0}",
        "a.jsonl:2: the same content as a.jsonl:1, which is labelled `1`; here it is labelled `0`",
    ),
    (
        "a.csv",
        b"prompt,label\nx,1\nx,\n",
        "a.csv:3: the same content as a.csv:2, which is labelled `1`; here it is labelled nothing",
    ),
    // YAML.
    (
        "a.yaml",
        b"seeds:\n  - value: a\n  - value: [1]\n",
        "a.yaml:3: column `value`: expected a text, found a list of 1",
    ),
    (
        "a.yaml",
        b"a: 1\nb: 2\n",
        "a.yaml:1: no column `seeds`; there are: `a`, `b`",
    ),
    (
        "a.yaml",
        b"- a\n",
        "a.yaml:1: column `seeds`: expected a mapping that holds it, found a list of 1",
    ),
    (
        "a.yaml",
        b"x: 1\nseeds: a\n",
        "a.yaml:2: column `seeds`: expected a list, found the text \"a\"",
    ),
    (
        "a.yaml",
        b"seeds:\n  - text\n",
        "a.yaml:2: column `seeds`: expected a mapping with `value`, found the text \"text\"",
    ),
    (
        "a.yaml",
        b"seeds:\n  - value: x\n    data_type: image_path\n",
        "a.yaml:2: column `data_type`: expected one of text, found the text \"image_path\"",
    ),
    (
        "a.yaml",
        b"seed_type: simulated_conversation\nseeds:\n  - value: x\n",
        "a.yaml:3: column `seed_type`: expected one of prompt, objective, found the text \"simulated_conversation\"",
    ),
    (
        "a.yaml",
        b"seeds:\n  - name: x\n",
        "a.yaml:2: no column `value`; there are: `name`, `data_type`, `seed_type`",
    ),
    (
        "a.yaml",
        b"seeds:\n  - value: x\n    value: y\n",
        "a.yaml:3: not valid YAML: the key `value` stands twice",
    ),
    (
        "a.yaml",
        b"seeds:\n  - value: \xff\n",
        "a.yaml:2: not valid UTF-8 at byte 18 of the file",
    ),
    (
        "a.yaml",
        b"seeds: []\n",
        "a.yaml: no row in 10 bytes of YAML",
    ),
];

#[test]
fn every_bad_file_is_refused_with_its_place() {
    let wrong: Vec<String> = CASES
        .iter()
        .filter_map(|(name, bytes, expected)| {
            let found = error(name, bytes);
            // `{ }` in a file named JSON is JSON Lines without a column: only the beginning is compared.
            let same = found == *expected
                || (*expected == "a.json:1: no column" && found.starts_with(expected));
            (!same).then(|| {
                format!(
                    "{}\n  expected {expected}\n  found    {found}",
                    bytes.escape_ascii()
                )
            })
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        CASES.len(),
        wrong.join("\n")
    );
    assert!(CASES.len() >= 40);
}

#[test]
fn named_columns_must_be_there() {
    let options = ReadOptions::new()
        .column(Field::Prompt, "Goal")
        .column(Field::Label, "Class");
    assert_eq!(
        error_with("a.csv", "Goal,Target\nx,y\n", &options),
        "a.csv: no column `Class`; there are: `Goal`, `Target`"
    );
    // In JSON a row may do without, but not every row.
    assert_eq!(
        error_with(
            "a.jsonl",
            "{\"Goal\": \"x\"}\n{\"Goal\": \"y\"}\n",
            &options
        ),
        "a.jsonl: no row has the column `Class`; there are: `Goal`"
    );
    let some = "{\"Goal\": \"x\"}\n{\"Goal\": \"y\", \"Class\": \"b\"}\n";
    let data = read_with("a.jsonl", some, &options).expect("a data set");
    assert_eq!(data.items()[0].label, None);
    assert_eq!(data.items()[1].label.as_deref(), Some("b"));
    assert_eq!(
        error_with(
            "a.csv",
            "prompt\nx\n",
            &ReadOptions::new().layout(Layout::AdvBench)
        ),
        "a.csv: no column `goal`; there are: `prompt`"
    );
}

#[test]
fn unknown_columns_are_kept_or_refused() {
    let text = "prompt,mood\nx,good\n";
    let kept = read_with("a.csv", text, &ReadOptions::new()).expect("a data set");
    assert_eq!(kept.items()[0].extra["mood"], "good");
    assert_eq!(
        error_with(
            "a.csv",
            text,
            &ReadOptions::new().refuse_unknown_columns(true)
        ),
        "a.csv:2: column `mood` stands for no field, and `refuse_unknown_columns` is set"
    );
}

#[test]
fn limits_hold() {
    let long = format!("{{\"prompt\": \"{}\"}}\n", "x".repeat(100));
    let options = ReadOptions::new().max_line_bytes(64);
    for (name, text, line) in [
        ("a.jsonl", format!("{{\"prompt\": \"y\"}}\n{long}"), 2),
        ("a.json", format!("[{{\"prompt\": \"y\"}},\n\n{long}]"), 3),
        ("a.csv", format!("prompt\ny\n{long}"), 3),
        ("a.csv", format!("prompt\ny\n\"{}\"\n", "z\n".repeat(40)), 3),
        ("a.csv", format!("{long}y\n"), 1),
        ("a.txt", format!("y\n{long}"), 2),
    ] {
        let expected = format!("{name}:{line}: longer than 64 bytes (`max_line_bytes`)");
        assert_eq!(error_with(name, &text, &options), expected, "{text}");
    }
    // Exactly as long as allowed, with every kind of line break.
    for end in ["\n", "\r\n", ""] {
        let data = read_with("a.txt", format!("{}{end}", "x".repeat(64)), &options);
        assert_eq!(data.expect("a data set").len(), 1);
        assert!(read_with("a.txt", format!("{}{end}", "x".repeat(65)), &options).is_err());
    }
    assert_eq!(
        error_with("a.txt", "a\nb\n\nc\n", &ReadOptions::new().max_rows(2)),
        "a.txt: more than 2 rows (`max_rows`); the first beyond is line 4"
    );
    assert_eq!(
        error_with("a.txt", "a\nb\nc\n", &ReadOptions::new().max_file_bytes(5)),
        "a.txt: more than 5 bytes (`max_file_bytes`)"
    );
    assert_eq!(
        error_with("a.yaml", "x: 1\n".repeat(60), &options),
        "a.yaml: more than 256 bytes of YAML (four times `max_line_bytes`)"
    );
}

/// A line of 100 MB is read past, not kept.
#[test]
fn a_line_of_100_megabytes_is_a_counted_skip() {
    let mut text = b"{\"prompt\": \"before\"}\n".to_vec();
    text.resize(100_000_000, b'x');
    text.extend_from_slice(b"\n{\"prompt\": \"after\"}\n");
    let (_folder, path) = file("a.jsonl", &text);
    drop(text);
    let options = ReadOptions::new().on_bad_row(OnBadRow::Skip);
    let data = DataSet::read(&path, &options).expect("a data set");
    assert_eq!(
        data.items().iter().map(Item::text).collect::<Vec<_>>(),
        ["before", "after"]
    );
    let origin = &data.origins()[0];
    assert_eq!(
        (origin.rows, origin.skipped, origin.bytes),
        (3, 1, 100_000_021)
    );
    assert_eq!(
        origin.skips[0].reason,
        "longer than 16777216 bytes (`max_line_bytes`)"
    );
    assert_eq!(origin.skips[0].position.to_string(), "line 2");
}

#[test]
fn skips_are_counted_and_listed_up_to_a_hundred() {
    let options = ReadOptions::new().on_bad_row(OnBadRow::Skip);
    let mut text =
        "{\"prompt\": \"x\", \"label\": 1}\n{\"prompt\": 1}\n{\"prompt\": \"x\", \"label\": 2}\n"
            .to_owned();
    text.push_str(&"nonsense\n".repeat(150));
    text.push_str("{\"prompt\": \"last\"}\n");
    let data = read_with("a.jsonl", &text, &options).expect("a data set");
    assert_eq!(data.len(), 2);
    let origin = &data.origins()[0];
    assert_eq!(
        (origin.rows, origin.skipped, origin.skips.len()),
        (154, 152, 100)
    );
    let kinds: Vec<_> = origin
        .skipped_by_kind
        .iter()
        .map(|(kind, count)| (*kind, *count))
        .collect();
    assert_eq!(kinds, [("labels", 1), ("syntax", 150), ("value", 1)]);
    // A record of a table that is wrong ends with its line.
    let table = "prompt,label\na,1\nb \"x\",1\nc,2,3\n\"d\"e,1\nf,1\n";
    let data = read_with("a.csv", table, &options).expect("a data set");
    assert_eq!(
        data.items().iter().map(Item::text).collect::<Vec<_>>(),
        ["a", "f"]
    );
    // A first row without the columns tells nothing about the file, skip or not.
    assert_eq!(
        error_with("a.csv", "prompt,label\na,1\n\"b,1\nc,1\n", &options),
        "a.csv:3: not valid CSV: a quote opened in this record is not closed"
    );
    // Bytes that are no text in a quoted field: the field still ends where it ends.
    let data = read_with("a.csv", b"prompt\n\"a\n\xff\nb\"\nc\n", &options).expect("a data set");
    assert_eq!(
        data.items().iter().map(Item::text).collect::<Vec<_>>(),
        ["c"]
    );
    assert_eq!(data.origins()[0].skipped_by_kind["utf8"], 1);
}

#[test]
fn a_whole_file_that_is_skipped_is_a_data_set_of_none() {
    let options = ReadOptions::new().on_bad_row(OnBadRow::Skip);
    let data = read_with("a.jsonl", "nonsense\n", &options).expect("a data set");
    assert!(data.is_empty());
    assert_eq!(
        (data.origins()[0].skipped, data.origins()[0].layout),
        (1, None)
    );
}

#[test]
fn options_that_contradict_each_other_are_refused() {
    let refused = |options: ReadOptions| error_with("a.csv", "prompt\nx\n", &options);
    assert_eq!(
        refused(ReadOptions::new().max_line_bytes(0)),
        "`max_line_bytes`: expected at least 1, found 0"
    );
    assert_eq!(
        refused(
            ReadOptions::new()
                .column(Field::Prompt, "a")
                .column(Field::Messages, "b")
        ),
        "`column`: expected either a prompt or messages, found both"
    );
    assert_eq!(
        refused(
            ReadOptions::new()
                .column(Field::Prompt, "a")
                .column(Field::Label, "a")
        ),
        "`column`: expected one field a column, found `a` for Prompt and Label"
    );
    assert_eq!(
        refused(ReadOptions::new().raw(true).column(Field::System, "s")),
        "`raw`: expected no column for a message of its own, found System"
    );
    assert_eq!(
        refused(
            ReadOptions::new()
                .column(Field::Topic, "a")
                .group("topic", "b")
        ),
        "`group`: expected one column a group, found two columns for `topic`"
    );
    // One column as label and as a group is wanted: to stratify by what is also a field.
    let options = ReadOptions::new()
        .column(Field::Label, "c")
        .group("kind", "c");
    let data = read_with("a.csv", "prompt,c\nx,1\n", &options).expect("a data set");
    assert_eq!(data.items()[0].groups["kind"], "1");
}

#[test]
fn folders_and_absent_files_are_named() {
    let (folder, _) = file("a.csv", "");
    let found = DataSet::read(folder.path(), &ReadOptions::new()).expect_err("a folder");
    assert!(
        found
            .to_string()
            .ends_with(": a folder; a data set is a file"),
        "{found}"
    );
    let absent = folder.path().join("absent.csv");
    let found = DataSet::read(&absent, &ReadOptions::new()).expect_err("no file");
    assert!(
        found.to_string().contains("absent.csv: No such file"),
        "{found}"
    );
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_without_its_feature_says_so() {
    assert_eq!(
        error("a.parquet", "PAR1"),
        "a.parquet: Parquet needs lm-assess's feature `parquet`, which is off"
    );
}

#[test]
fn items_in_memory_are_held_to_the_same() {
    let found = DataSet::from_items([Item::user("x").with_id("a"), Item::user("y").with_id("a")]);
    assert_eq!(
        found.expect_err("one id").to_string(),
        "item 1: id `a` is that of an earlier item too, whose content differs"
    );
    let found = DataSet::from_items([
        Item::user("x").with_label("1"),
        Item::user("x").with_label("0"),
    ]);
    assert_eq!(
        found.expect_err("two labels").to_string(),
        "item 1: the same content as an earlier item, which is labelled `1`; here it is labelled `0`"
    );
}

/// Bytes that nobody wrote: an error or a data set, never a panic.
mod any_bytes {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn are_read_or_refused(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just("\"".to_owned()), Just("\n".to_owned()), Just("\r\n".to_owned()), Just(",".to_owned()),
                    Just("{".to_owned()), Just("}".to_owned()), Just("[".to_owned()), Just("]".to_owned()),
                    Just("prompt".to_owned()), Just(": ".to_owned()), Just("- ".to_owned()), Just("seeds:".to_owned()),
                    Just("\\".to_owned()), Just("  ".to_owned()), Just("&a ".to_owned()), Just("*a".to_owned()),
                    any::<char>().prop_map(String::from),
                ],
                0..40,
            ),
            bad in proptest::option::of((any::<u8>(), any::<prop::sample::Index>())),
            skip in any::<bool>(),
        ) {
            let mut bytes = pieces.concat().into_bytes();
            if let (Some((byte, at)), false) = (bad, bytes.is_empty()) {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let on_bad_row = if skip { OnBadRow::Skip } else { OnBadRow::Error };
            for format in [Format::Jsonl, Format::Json, Format::Csv, Format::Tsv, Format::Lines, Format::Yaml] {
                let options = ReadOptions::new().format(format).on_bad_row(on_bad_row).max_line_bytes(60);
                let _ = read_with("a", &bytes, &options);
            }
        }
    }
}
