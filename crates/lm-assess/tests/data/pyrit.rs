//! PyRIT's files: crafted in their shape, and, where the package is installed, its own.

use lm_assess::data::{DataError, DataSet, Field, Format, Item, Layout, OnBadRow, ReadOptions};
use lm_core::{Conversation, Prompt};

use crate::read;

const SEEDS: &str = "\
dataset_name: everyday
harm_categories: kitchen
source: our own
description: |
  Mild requests.
data_type: text
seed_type: prompt
seeds:
  - value: How do I bake bread?
    harm_categories: [bread, kitchen]
  - value: >-
      Tell me a story
      about {{ animal }}.
    parameters: [animal]
    source: elsewhere
  - value: Be someone's friendly baker.
    role: system
    sequence: 0
    prompt_group_alias: talk
  - value: A baker's day
    seed_type: objective
    prompt_group_alias: talk
  - value: And then?
    sequence: 3
    prompt_group_alias: talk
  - value: Good morning!
    role: user
    sequence: 1
    prompt_group_alias: talk
  - value: Morning. Rye or wheat?
    role: assistant
    sequence: 2
    prompt_group_alias: talk
  - value: Cheer somebody up
    seed_type: objective
";

#[test]
fn seeds_have_the_defaults_of_their_file_and_turns_are_joined() {
    let data = read("a.prompt", SEEDS);
    assert_eq!(data.origins()[0].layout, Some(Layout::PyritSeeds));
    let texts: Vec<_> = data.items().iter().map(Item::text).collect();
    assert_eq!(texts[0], "How do I bake bread?");
    assert_eq!(texts[1], "Tell me a story about {{ animal }}.");
    assert_eq!(texts[3], "Cheer somebody up");
    let first = &data.items()[0];
    assert_eq!(
        (
            first.groups["category"].as_str(),
            first.groups["source"].as_str()
        ),
        ("kitchen, bread", "our own")
    );
    assert_eq!(first.extra["dataset_name"], "everyday");
    assert_eq!(first.extra["description"], "Mild requests.\n");
    assert_eq!(data.items()[1].groups["source"], "elsewhere");
    let talk = &data.items()[2];
    let expected = Conversation::new()
        .system("Be someone's friendly baker.")
        .user("Good morning!")
        .assistant("Morning. Rye or wheat?")
        .user("And then?");
    assert_eq!(talk.content, Prompt::Chat(expected));
    assert_eq!(
        (
            talk.groups["prompt_group"].as_str(),
            &talk.extra["objective"]
        ),
        ("talk", &"A baker's day".into())
    );
    assert_eq!(data.len(), 4);
    assert_eq!(
        talk.place.as_ref().expect("a place").to_string(),
        "a.prompt:16"
    );
}

#[test]
fn two_parts_of_one_turn_are_refused() {
    let text = "seeds:\n- {value: a, prompt_group_alias: g}\n- {value: b, prompt_group_alias: g}\n";
    assert_eq!(
        crate::error("a.yaml", text),
        "a.yaml:3: column `sequence`: expected another number for each seed of the group the text \"g\", found the number 0 again"
    );
}

#[test]
fn scored_replies_are_conversations_that_end_in_a_reply() {
    let data = read(
        "a.csv",
        "# dataset_version=1.0,,,\n# a remark, with a comma\nobjective,assistant_response,human_score,data_type\nBake bread,\"Take flour, then rest.\",0,text\n",
    );
    let item = &data.items()[0];
    assert_eq!(data.origins()[0].layout, Some(Layout::PyritScores));
    assert_eq!(
        item.content,
        Prompt::Chat(
            Conversation::new()
                .user("Bake bread")
                .assistant("Take flour, then rest.")
        )
    );
    assert_eq!(
        (
            item.label_as_bool(),
            item.place.as_ref().expect("a place").to_string().as_str()
        ),
        (Some(false), "a.csv:4")
    );
}

/// PyRIT's own files, from the folder `pyrit/datasets` of an installed package (`pip install pyrit`), named by
/// `LM_SAFETY_PYRIT_DATASETS`. Nothing of them is printed.
#[test]
fn every_seed_file_of_the_package_is_read() -> Result<(), DataError> {
    let named = std::env::var_os("LM_SAFETY_PYRIT_DATASETS").map(std::path::PathBuf::from);
    let folder = lm_testkit::path_or_skip!(
        named,
        "PyRIT's folder of data sets",
        "`pip install pyrit` brings it and LM_SAFETY_PYRIT_DATASETS names it",
        Ok(())
    );
    let mut folders = vec![folder];
    let (mut files, mut items, mut skipped) = (0, 0, 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path
                .extension()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if ["yaml", "prompt"].contains(&name.as_str()) {
                let text = std::fs::read_to_string(&path).expect("a text");
                // One whose `seeds` is a text and not a list is no data set to PyRIT either.
                if !text.lines().any(|line| line.trim_end() == "seeds:") {
                    continue;
                }
                let options = ReadOptions::new()
                    .format(Format::Yaml)
                    .on_bad_row(OnBadRow::Skip);
                let data = DataSet::read(&path, &options)?;
                files += 1;
                items += data.len();
                skipped += data.origins()[0].skipped;
            } else if name == "csv"
                && path
                    .components()
                    .any(|part| part.as_os_str() == "scorer_evals")
            {
                let mut options = ReadOptions::new().on_bad_row(OnBadRow::Skip);
                // Theirs of the harm scorers have several raters; the first is taken, and agreement is not the matter here.
                options = options
                    .column(Field::Prompt, "objective")
                    .layout(Layout::PyritScores);
                DataSet::read(&path, &options)?;
                files += 1;
            }
        }
    }
    // Counted in version 1.1.0.
    assert!(
        files >= 60 && items >= 700,
        "{files} files, {items} items, {skipped} skipped"
    );
    Ok(())
}
