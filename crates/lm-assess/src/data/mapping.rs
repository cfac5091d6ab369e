//! Which column stands for which field.

use std::collections::BTreeMap;

use super::error::listed;
use super::options::{Field, Layout, ReadOptions};

/// Names under which a request is looked for.
const PROMPTS: [&str; 3] = ["prompt", "text", "question"];

/// What everybody calls by the field's name.
const PLAIN: [(Field, &str); 8] = [
    (Field::Id, "id"),
    (Field::System, "system"),
    (Field::Target, "target"),
    (Field::Label, "label"),
    (Field::Category, "category"),
    (Field::Topic, "topic"),
    (Field::Source, "source"),
    (Field::Person, "person"),
];

/// The columns of one file.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    pub(super) layout: Layout,
    pub(super) columns: BTreeMap<Field, String>,
    pub(super) groups: BTreeMap<String, String>,
    /// Columns the caller named: some row must have them.
    pub(super) named: Vec<String>,
}

impl Mapping {
    /// From the names that the first row has.
    pub(super) fn new(options: &ReadOptions, names: &[String]) -> Result<Self, String> {
        let has = |name: &str| names.iter().any(|found| found == name);
        let chosen = options
            .columns
            .get(&Field::Prompt)
            .or_else(|| options.columns.get(&Field::Messages));
        let layout = match (options.layout, chosen) {
            (Some(layout), _) => layout,
            (None, Some(_)) => Layout::Columns,
            (None, None) => detect(names)?,
        };
        let mut columns = preset(layout);
        if layout == Layout::Columns && chosen.is_none() {
            columns.insert(Field::Prompt, prompt(names)?.to_owned());
        }
        if options.columns.contains_key(&Field::Prompt) {
            columns.remove(&Field::Messages);
        }
        if options.columns.contains_key(&Field::Messages) {
            columns.remove(&Field::Prompt);
        }
        let mut groups = preset_groups(layout);
        // What the caller says of a column is all that it stands for; a preset for it gives way.
        let said: Vec<&String> = options
            .columns
            .values()
            .chain(options.groups.values())
            .collect();
        columns.retain(|_, column| !options.columns.values().any(|said| said == column));
        groups.retain(|_, column| !said.contains(&&*column));
        columns.extend(options.columns.clone());
        groups.extend(options.groups.clone());
        if layout == Layout::PyritScores && !options.columns.contains_key(&Field::Label) {
            let score = ["human_score", "human_score_1"]
                .into_iter()
                .find(|name| has(name));
            columns.extend(score.map(|name| (Field::Label, name.to_owned())));
        }
        Ok(Self {
            layout,
            columns,
            groups,
            named: said.into_iter().cloned().collect(),
        })
    }

    /// The column that a row cannot do without.
    pub(super) fn main(&self) -> Option<(Field, &str)> {
        [Field::Messages, Field::Prompt]
            .into_iter()
            .find_map(|field| Some((field, self.columns.get(&field)?.as_str())))
    }

    /// Whether anything is made of a column.
    pub(super) fn uses(&self, name: &str) -> bool {
        self.columns
            .values()
            .chain(self.groups.values())
            .any(|used| used == name)
    }
}

fn detect(names: &[String]) -> Result<Layout, String> {
    let has = |wanted: &[&str]| {
        wanted
            .iter()
            .all(|name| names.iter().any(|found| found == name))
    };
    // From the most telling names to the least.
    let known = [
        (Layout::HarmBench, &["Behavior", "BehaviorID"][..]),
        (Layout::JailbreakBench, &["Goal", "Target", "Behavior"]),
        (Layout::PyritScores, &["objective", "assistant_response"]),
        (Layout::ShareGpt, &["conversations"]),
        (Layout::Messages, &["messages"]),
        (Layout::AdvBench, &["goal", "target"]),
    ];
    if let Some((layout, _)) = known.into_iter().find(|(_, wanted)| has(wanted)) {
        return Ok(layout);
    }
    prompt(names).map(|_| Layout::Columns)
}

fn prompt(names: &[String]) -> Result<&'static str, String> {
    let found: Vec<_> = PROMPTS
        .into_iter()
        .filter(|name| names.iter().any(|found| found == name))
        .collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err(format!(
            "no column that is known to hold prompts; there are: {}. `ReadOptions::column(Field::Prompt, …)` names it",
            listed(names)
        )),
        _ => Err(format!(
            "several columns may hold the prompt: {}. `ReadOptions::column(Field::Prompt, …)` names it",
            listed(
                &found
                    .iter()
                    .map(|&name| name.to_owned())
                    .collect::<Vec<_>>()
            )
        )),
    }
}

fn preset(layout: Layout) -> BTreeMap<Field, String> {
    let special: &[(Field, &str)] = match layout {
        Layout::Columns => &[],
        Layout::Messages => &[(Field::Messages, "messages")],
        Layout::ShareGpt => &[(Field::Messages, "conversations")],
        Layout::AdvBench => &[(Field::Prompt, "goal"), (Field::Target, "target")],
        Layout::HarmBench => &[
            (Field::Id, "BehaviorID"),
            (Field::Prompt, "Behavior"),
            (Field::Context, "ContextString"),
            (Field::Category, "SemanticCategory"),
        ],
        Layout::JailbreakBench => &[
            (Field::Prompt, "Goal"),
            (Field::Target, "Target"),
            (Field::Category, "Category"),
            (Field::Source, "Source"),
        ],
        Layout::PyritSeeds => &[
            (Field::Prompt, "value"),
            (Field::Category, "harm_categories"),
            (Field::Source, "source"),
        ],
        Layout::PyritScores => &[
            (Field::Prompt, "objective"),
            (Field::Reply, "assistant_response"),
            (Field::Category, "harm_category"),
        ],
    };
    let plain: &[_] = match layout {
        Layout::Columns | Layout::Messages | Layout::ShareGpt => &PLAIN,
        _ => &[],
    };
    special
        .iter()
        .chain(plain)
        .map(|&(field, name)| (field, name.to_owned()))
        .collect()
}

fn preset_groups(layout: Layout) -> BTreeMap<String, String> {
    let groups: &[(&str, &str)] = match layout {
        Layout::HarmBench => &[("functional_category", "FunctionalCategory")],
        Layout::JailbreakBench => &[("behavior", "Behavior")],
        Layout::PyritSeeds => &[("prompt_group", "prompt_group_alias")],
        _ => &[],
    };
    groups
        .iter()
        .map(|&(name, column)| (name.to_owned(), column.to_owned()))
        .collect()
}
