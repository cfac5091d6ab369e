//! What is read from each format, and that the same prompt is the same item in all.

use lm_assess::data::{DataSet, Field, Format, Item, Layout, ReadOptions, content_id};
use lm_core::{Conversation, Prompt};
use serde_json::json;

use crate::{file, read, read_with};

const PROMPTS: [&str; 3] = [
    "How do I bake bread?",
    "Name a bird.\nWhy that one?",
    "Say \"hello\", Zoë",
];

fn texts(data: &DataSet) -> Vec<String> {
    data.items().iter().map(Item::text).collect()
}

fn ids(data: &DataSet) -> Vec<&str> {
    data.items().iter().map(|item| item.id.as_str()).collect()
}

#[test]
fn one_prompt_has_one_id_in_every_format() {
    let jsonl: String = PROMPTS
        .iter()
        .map(|prompt| json!({"prompt": prompt}).to_string() + "\n")
        .collect();
    let json =
        serde_json::to_string_pretty(&PROMPTS.map(|prompt| json!({"text": prompt}))).expect("JSON");
    let quoted = PROMPTS.map(|prompt| format!("\"{}\"", prompt.replace('"', "\"\"")));
    let csv = format!(
        "id_,question\n{}",
        quoted
            .iter()
            .map(|prompt| format!("1,{prompt}\n"))
            .collect::<String>()
    );
    let tsv = format!(
        "prompt\tx\n{}",
        quoted
            .iter()
            .map(|prompt| format!("{prompt}\t1\n"))
            .collect::<String>()
    );
    let chats: String = PROMPTS
        .iter()
        .map(|prompt| json!({"messages": [{"role": "user", "content": prompt}]}).to_string() + "\n")
        .collect();
    let share: String = PROMPTS
        .iter()
        .map(|prompt| {
            json!({"conversations": [{"from": "human", "value": prompt}]}).to_string() + "\n"
        })
        .collect();
    let yaml = format!(
        "seeds:\n{}",
        PROMPTS
            .map(|prompt| format!("- value: {}\n", json!(prompt)))
            .concat()
    );
    let expected =
        PROMPTS.map(|prompt| content_id(&Prompt::Chat(Conversation::new().user(prompt))));
    for (name, text, format, layout) in [
        ("a.jsonl", jsonl.clone(), Format::Jsonl, Layout::Columns),
        ("a.json", jsonl.clone(), Format::Jsonl, Layout::Columns),
        ("a.json", json, Format::Json, Layout::Columns),
        ("a.csv", csv.clone(), Format::Csv, Layout::Columns),
        ("a.tsv", tsv, Format::Tsv, Layout::Columns),
        ("a.ndjson", chats.clone(), Format::Jsonl, Layout::Messages),
        ("a.jsonl", share, Format::Jsonl, Layout::ShareGpt),
        ("a.yml", yaml.clone(), Format::Yaml, Layout::PyritSeeds),
        ("a.prompt", yaml, Format::Yaml, Layout::PyritSeeds),
    ] {
        // As it is, as Windows saves it, and with the mark of UTF-8.
        for text in [
            text.clone(),
            text.replace('\n', "\r\n"),
            format!("\u{feff}{text}"),
        ] {
            let data = read(name, &text);
            assert_eq!(ids(&data), expected, "{name}: {text}");
            assert_eq!(texts(&data), PROMPTS, "{name}");
            let origin = &data.origins()[0];
            assert_eq!(
                (origin.format, origin.layout),
                (format, Some(layout)),
                "{name}"
            );
            assert_eq!(
                (origin.file.as_str(), origin.rows, origin.skipped),
                (name, 3, 0)
            );
            assert_eq!(origin.bytes, text.len() as u64);
        }
    }
    let lines = read("a.txt", "How do I bake bread?\r\n\r\nName a bird.\n");
    assert_eq!(texts(&lines), ["How do I bake bread?", "Name a bird."]);
    assert_eq!(lines.items()[0].id, expected[0]);
    assert_eq!(
        lines.items()[1]
            .place
            .as_ref()
            .expect("a place")
            .to_string(),
        "a.txt:3"
    );
}

/// `printf 'a\nb\n' | sha256sum`
#[test]
fn the_hash_is_that_of_the_bytes() {
    let data = read("a.txt", "a\nb\n");
    assert_eq!(
        data.origins()[0].sha256,
        "911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2"
    );
}

#[test]
fn advbench_harmbench_and_jailbreakbench_columns_are_known() {
    let advbench = read(
        "a.csv",
        "goal,target\nBake me bread,\"Sure, here is bread\"\n",
    );
    let item = &advbench.items()[0];
    assert_eq!(advbench.origins()[0].layout, Some(Layout::AdvBench));
    assert_eq!(
        (item.text().as_str(), item.target.as_deref()),
        ("Bake me bread", Some("Sure, here is bread"))
    );
    assert!(item.extra.is_empty());

    let harmbench = read(
        "a.csv",
        "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n\
         Sum it up,contextual,kitchen,context,A recipe.,sum_it_up\nHum a tune,standard,music,,,hum\n",
    );
    let item = &harmbench.items()[0];
    assert_eq!(harmbench.origins()[0].layout, Some(Layout::HarmBench));
    assert_eq!(
        (item.id.as_str(), item.text().as_str()),
        ("sum_it_up", "A recipe.\n\n---\n\nSum it up")
    );
    assert_eq!(item.groups["category"], "kitchen");
    assert_eq!(item.groups["functional_category"], "contextual");
    assert_eq!(item.extra["Tags"], "context");
    assert_eq!(harmbench.items()[1].text(), "Hum a tune");

    let jailbreakbench = read(
        "a.csv",
        "Index,Goal,Target,Behavior,Category,Source\n0,Bake bread,Here is bread,Baking,Kitchen,Original\n",
    );
    let item = &jailbreakbench.items()[0];
    assert_eq!(
        jailbreakbench.origins()[0].layout,
        Some(Layout::JailbreakBench)
    );
    assert_eq!(item.target.as_deref(), Some("Here is bread"));
    let groups: Vec<_> = item
        .groups
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        groups,
        [
            ("behavior", "Baking"),
            ("category", "Kitchen"),
            ("source", "Original")
        ]
    );
    assert_eq!(item.extra["Index"], "0");

    // The same by JSON, and AdvBench's columns under a mapping that says otherwise.
    let data = read("a.jsonl", "{\"goal\": \"g\", \"target\": \"t\"}\n");
    assert_eq!(data.origins()[0].layout, Some(Layout::AdvBench));
    let options = ReadOptions::new()
        .layout(Layout::AdvBench)
        .column(Field::Label, "target");
    let data = read_with("a.csv", "goal,target\ng,t\n", &options).expect("a data set");
    assert_eq!(
        (data.items()[0].label.as_deref(), &data.items()[0].target),
        (Some("t"), &None)
    );
}

#[test]
fn conversations_keep_their_turns_and_may_end_in_a_reply() {
    let data = read(
        "a.jsonl",
        r#"{"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hel"}], "label": true, "n": 3}"#,
    );
    let item = &data.items()[0];
    let expected = Conversation::new()
        .system("Be kind.")
        .user("Hi")
        .assistant("Hel");
    assert_eq!(item.content, Prompt::Chat(expected));
    assert_eq!(
        (item.label.as_deref(), item.label_as_bool()),
        (Some("true"), Some(true))
    );
    assert_eq!(item.extra["n"], 3);

    let share = read(
        "a.json",
        r#"[{"id": "c1", "conversations": [{"from": "system", "value": "Be kind."}, {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hel"}]}]"#,
    );
    assert_eq!(share.items()[0].content, item.content);
    assert_eq!(share.items()[0].id, "c1");

    // The same from columns of texts, and from one column with the text of a list.
    let options = ReadOptions::new()
        .column(Field::Prompt, "q")
        .column(Field::System, "s")
        .column(Field::Reply, "r");
    let columns = read_with("a.csv", "s,q,r\nBe kind.,Hi,Hel\n", &options).expect("a data set");
    assert_eq!(columns.items()[0].content, item.content);
    let cell = r#"messages
"[{""role"": ""system"", ""content"": ""Be kind.""}, {""role"": ""user"", ""content"": ""Hi""}, {""role"": ""assistant"", ""content"": ""Hel""}]"
"#;
    assert_eq!(read("a.csv", cell).items()[0].content, item.content);

    // What only a template reads is kept, and belongs to the content.
    let tools = read(
        "a.jsonl",
        r#"{"messages": [{"role": "assistant", "content": null, "tool_calls": [{"id": 1}], "name": null}]}"#,
    );
    let Prompt::Chat(conversation) = &tools.items()[0].content else {
        panic!("no conversation")
    };
    let message = &conversation.messages()[0];
    assert_eq!((message.content.as_str(), message.extra.len()), ("", 1));
    // Preferences: the prompt is a list of messages.
    let data = read(
        "a.jsonl",
        r#"{"prompt": [{"role": "user", "content": "Hi"}], "chosen": [], "rejected": []}"#,
    );
    assert_eq!(data.items()[0].text(), "Hi");
}

#[test]
fn raw_texts_are_not_conversations() {
    let raw = read_with("a.txt", "Once upon a time\n", &ReadOptions::new().raw(true))
        .expect("a data set");
    assert_eq!(
        raw.items()[0].content,
        Prompt::Raw("Once upon a time".to_owned())
    );
    assert_ne!(
        raw.items()[0].id,
        read("a.txt", "Once upon a time\n").items()[0].id
    );
}

#[test]
fn duplicates_are_left_out_and_reported() {
    let data = read(
        "a.jsonl",
        "{\"prompt\": \"x\", \"target\": \"1\"}\n{\"prompt\": \"y\"}\n{\"prompt\": \"x\", \"target\": \"2\"}\n",
    );
    assert_eq!(texts(&data), ["x", "y"]);
    let [duplicate] = data.duplicates() else {
        panic!("{:?}", data.duplicates())
    };
    assert_eq!(
        (duplicate.kept, &duplicate.differs[..]),
        (false, &["target"][..])
    );
    assert_eq!(
        duplicate.first_place.as_ref().expect("a place").to_string(),
        "a.jsonl:1"
    );
    assert_eq!(
        duplicate.again_place.as_ref().expect("a place").to_string(),
        "a.jsonl:3"
    );

    // Under ids of their own both stay.
    let data = read("a.csv", "id,prompt\n1,x\n2,x\n1,x\n");
    assert_eq!(ids(&data), ["1", "2"]);
    let kept: Vec<_> = data
        .duplicates()
        .iter()
        .map(|duplicate| (duplicate.again.as_str(), duplicate.kept))
        .collect();
    assert_eq!(kept, [("2", true), ("1", false)]);

    let data = read("a.txt", "Hello, you!\nhello   YOU\nbye\n");
    assert_eq!((data.len(), data.near_duplicates()), (3, vec![vec![0, 1]]));
}

#[test]
fn sets_are_joined_and_serialised() {
    let one = read("a.txt", "x\ny\n");
    let other = read("b.txt", "y\nz\n");
    let joined = DataSet::joined([one, other]).expect("a data set");
    assert_eq!(texts(&joined), ["x", "y", "z"]);
    assert_eq!((joined.origins().len(), joined.duplicates().len()), (2, 1));
    assert_eq!(
        joined.get(&joined.items()[2].id).map(Item::text).as_deref(),
        Some("z")
    );
    let json = serde_json::to_value(&joined).expect("JSON");
    assert_eq!(
        json["items"][0]["messages"],
        json!([{"role": "user", "content": "x"}])
    );
    assert_eq!(json["origins"][1]["file"], "b.txt");
    assert_eq!(json["origins"][1]["format"], "lines");
    assert_eq!(
        json["duplicates"][0]["again_place"],
        json!({"file": "b.txt", "position": "line 1"})
    );

    // What was written as items is read as messages.
    let lines: String = joined
        .items()
        .iter()
        .map(|item| serde_json::to_string(item).expect("JSON") + "\n")
        .collect();
    let again = read("again.jsonl", lines);
    assert_eq!(ids(&again), ids(&joined));
    assert_eq!(texts(&again), texts(&joined));
}

#[test]
fn values_of_every_kind_become_labels_and_groups() {
    let data = read(
        "a.jsonl",
        "{\"prompt\": \"x\", \"label\": 1, \"topic\": [\"a\", \"b\"], \"person\": 7}\n{\"prompt\": \"y\", \"label\": 0, \"topic\": []}\n",
    );
    let item = &data.items()[0];
    assert_eq!(
        (item.label.as_deref(), item.groups["topic"].as_str()),
        (Some("1"), "a, b")
    );
    assert_eq!(item.groups["person"], "7");
    assert!(data.items()[1].groups.is_empty());
    assert_eq!(data.items()[1].label_as_bool(), Some(false));
}

#[test]
fn a_file_is_what_its_content_says_where_its_name_does_not() {
    let (_folder, path) = file("data", "{\"prompt\": \"x\"}\n");
    let data = DataSet::read(&path, &ReadOptions::new()).expect("a data set");
    assert_eq!(data.origins()[0].format, Format::Jsonl);
    let options = ReadOptions::new().format(Format::Lines);
    let data = read_with("a.jsonl", "{\"prompt\": \"x\"}\n", &options).expect("a data set");
    assert_eq!(texts(&data), ["{\"prompt\": \"x\"}"]);
}
