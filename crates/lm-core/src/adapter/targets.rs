//! Which matrices an adapter is on, and with which numbers: PEFT's rules for names.

use fancy_regex::Regex;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Names of the matrices an adapter is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Targets {
    /// Whole names (`model.layers.0.self_attn.q_proj`) or ends of names (`q_proj`).
    Names(Vec<String>),
    /// A regular expression that matches the whole name, or `all-linear` for every matrix of every block.
    Pattern(String),
}

/// What PEFT writes for every matrix of every block.
const ALL: &str = "all-linear";

impl Targets {
    /// Ends of names.
    pub fn names<T: Into<String>>(names: impl IntoIterator<Item = T>) -> Self {
        Self::Names(names.into_iter().map(Into::into).collect())
    }

    /// Every matrix of every block.
    #[must_use]
    pub fn all() -> Self {
        Self::Pattern(ALL.to_owned())
    }

    pub(super) fn compiled(&self) -> std::result::Result<Matcher<'_>, String> {
        Ok(match self {
            Self::Names(names) => Matcher::Names(names),
            Self::Pattern(text) if text == ALL => Matcher::All,
            Self::Pattern(text) => Matcher::Pattern(compile(&format!(r"\A(?:{text})\z"))?),
        })
    }
}

/// [`Targets`], ready to be asked.
pub(super) enum Matcher<'a> {
    Names(&'a [String]),
    All,
    Pattern(Regex),
}

impl Matcher<'_> {
    pub(super) fn matches(&self, module: &str) -> std::result::Result<bool, String> {
        match self {
            Self::Names(names) => Ok(names.iter().any(|name| ends_with(module, name))),
            Self::All => Ok(true),
            Self::Pattern(pattern) => matches(pattern, module),
        }
    }
}

fn ends_with(module: &str, name: &str) -> bool {
    module
        .strip_suffix(name)
        .is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

/// A value for the matrices whose names match, else a general one.
pub(super) struct Patterns<T> {
    all: Vec<(Regex, T)>,
}

impl<T: Copy> Patterns<T> {
    /// In this order; the first that matches counts.
    pub(super) fn new(patterns: &[(String, T)], key: &str) -> Result<Self> {
        let all = patterns.iter().map(|(text, value)| {
            let pattern = compile(&format!(r"\A(?:.*\.)?(?:{text})\z"));
            let wrong = |why| Error::argument(key, "regular expressions", why);
            Ok((pattern.map_err(wrong)?, *value))
        });
        Ok(Self {
            all: all.collect::<Result<_>>()?,
        })
    }

    pub(super) fn of(&self, module: &str) -> std::result::Result<Option<T>, String> {
        for (pattern, value) in &self.all {
            if matches(pattern, module)? {
                return Ok(Some(*value));
            }
        }
        Ok(None)
    }
}

/// Longest regular expression that is read.
const LONGEST: usize = 10_000;

fn compile(pattern: &str) -> std::result::Result<Regex, String> {
    if pattern.len() > LONGEST {
        return Err(format!("one of {} bytes", pattern.len()));
    }
    Regex::new(pattern).map_err(|error| format!("`{}` ({error})", pattern.escape_debug()))
}

/// An expression that runs away is an error: the engine has a limit on its steps.
fn matches(pattern: &Regex, name: &str) -> std::result::Result<bool, String> {
    pattern
        .is_match(name)
        .map_err(|error| format!("`{}` ({error})", pattern.as_str().escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(targets: &Targets, module: &str) -> bool {
        targets.compiled().unwrap().matches(module).unwrap()
    }

    #[test]
    fn names_are_whole_or_ends_at_a_dot() {
        let targets = Targets::names(["q_proj", "a.b"]);
        for (name, expected) in [
            ("q_proj", true),
            ("x.q_proj", true),
            ("x.nq_proj", false),
            ("x.q_proj.y", false),
            ("x.a.b", true),
            ("a.b", true),
            ("x.b", false),
        ] {
            assert_eq!(found(&targets, name), expected, "{name}");
        }
    }

    #[test]
    fn a_pattern_matches_the_whole_name() {
        let targets = Targets::Pattern(r"x\.[02]\.q|y".to_owned());
        for (name, expected) in [
            ("x.0.q", true),
            ("y", true),
            ("x.1.q", false),
            ("x.0.qq", false),
        ] {
            assert_eq!(found(&targets, name), expected, "{name}");
        }
        assert!(found(&Targets::all(), "anything"));
        assert!(Targets::Pattern("(".to_owned()).compiled().is_err());
    }

    #[test]
    fn the_first_pattern_counts() {
        let list = [
            ("^x.0.q".to_owned(), 1),
            ("q".to_owned(), 2),
            ("1.q".to_owned(), 3),
        ];
        let patterns = Patterns::new(&list, "rank_pattern").unwrap();
        assert_eq!(patterns.of("x.0.q").unwrap(), Some(1));
        assert_eq!(patterns.of("z.x.0.q").unwrap(), Some(2));
        assert_eq!(patterns.of("x.1.q").unwrap(), Some(2));
        assert_eq!(patterns.of("x.1.nq").unwrap(), None);
    }
}
