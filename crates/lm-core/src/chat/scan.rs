//! Where a template's tags are, as the engine's lexer sees them.

use std::collections::BTreeSet;
use std::ops::Range;

/// What kind of tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TagKind {
    /// `{# … #}`
    Comment,
    /// `{{ … }}`
    Expression,
    /// `{% … %}`
    Statement,
}

/// One tag: the bytes between its delimiters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) kind: TagKind,
    pub(super) inside: Range<usize>,
    /// Operators outside strings: arithmetic, `~`, comparisons and `not`.
    pub(super) operators: usize,
}

/// Finds the tags in order; a tag that is not closed reaches to the end. Raw blocks have no tags inside.
pub(super) fn tags(source: &str) -> impl Iterator<Item = Tag> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let open = at + source.get(at..)?.find('{')?;
            let kind = match source.as_bytes().get(open + 1) {
                Some(b'#') => TagKind::Comment,
                Some(b'{') => TagKind::Expression,
                Some(b'%') => TagKind::Statement,
                _ => {
                    at = open + 1;
                    continue;
                }
            };
            let start = open + 2;
            let (end, operators) = end_of_tag(source, start, kind);
            at = end + 2;
            if kind == TagKind::Statement && word(&source[start..end]) == "raw" {
                at = source
                    .get(at..)
                    .and_then(|rest| rest.find("endraw"))
                    .map_or(source.len(), |offset| at + offset);
            }
            return Some(Tag {
                kind,
                inside: start..end,
                operators,
            });
        }
    })
}

/// The inside of a tag without whitespace control.
pub(super) fn word(inside: &str) -> &str {
    inside
        .trim_start_matches(['-', '+'])
        .trim_end_matches(['-', '+'])
        .trim()
}

/// What stands in quotes inside tags, without the white space around it.
pub(super) fn literals(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for tag in tags(source).filter(|tag| tag.kind != TagKind::Comment) {
        let mut characters = source[tag.inside].chars();
        while let Some(quote) = characters.find(|character| matches!(character, '"' | '\'')) {
            let mut literal = String::new();
            while let Some(character) = characters.next().filter(|&character| character != quote) {
                literal.extend(match character {
                    '\\' => characters.next().map(|escaped| match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        other => other,
                    }),
                    other => Some(other),
                });
            }
            let word = literal.trim();
            if !word.is_empty() {
                found.insert(word.to_owned());
            }
        }
    }
    found
}

/// Where a tag ends and how many operators it has. Strings and brackets are skipped, so that `"}}"` and nested
/// dictionaries do not end it.
fn end_of_tag(source: &str, start: usize, kind: TagKind) -> (usize, usize) {
    let close: &[u8] = match kind {
        TagKind::Comment => b"#}",
        TagKind::Expression => b"}}",
        TagKind::Statement => b"%}",
    };
    let bytes = source.as_bytes();
    let mut balance = 0_i64;
    let mut quote = None;
    let mut operators = 0;
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        match (quote, byte) {
            _ if kind == TagKind::Comment => {
                if bytes[at..].starts_with(close) {
                    return (at, operators);
                }
            }
            (Some(_), b'\\') => at += 1,
            (Some(open), _) => {
                if byte == open {
                    quote = None;
                }
            }
            (None, _) if balance == 0 && bytes[at..].starts_with(close) => {
                return (at, operators);
            }
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => balance += 1,
            (None, b')' | b']' | b'}') => balance -= 1,
            (None, b'~' | b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' | b'!') => {
                operators += 1;
            }
            (None, b'n') if bytes[at..].starts_with(b"not") => operators += 1,
            (None, _) => {}
        }
        at += 1;
    }
    (bytes.len(), operators)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_of_tags() {
        let source = "'no' {# 'no' #}{{ 'a\\n<b>' ~ \"it's\" ~ '\\n' }}{% if 'a' in x %}";
        let found: Vec<String> = literals(source).into_iter().collect();
        assert_eq!(found, ["a", "a\n<b>", "it's"]);
    }

    #[test]
    fn strings_brackets_comments_and_raw_blocks_are_seen_as_the_lexer_sees_them() {
        let source = "é{ {{ {'a': {'}}': 1}} }}{#- {{ x #}{%- set s = '%}\\'%}' -%}{% raw %}{{ no }}{% endraw %}{{ open";
        let found: Vec<_> = tags(source)
            .map(|tag| (tag.kind, &source[tag.inside]))
            .collect();
        use TagKind::{Comment, Expression, Statement};
        assert_eq!(
            found,
            [
                (Expression, " {'a': {'}}': 1}} "),
                (Comment, "- {{ x "),
                (Statement, "- set s = '%}\\'%}' -"),
                (Statement, " raw "),
                (Expression, " open"),
            ]
        );
        let operators: Vec<_> = tags(source).map(|tag| tag.operators).collect();
        assert_eq!(operators, [0, 0, 3, 0, 0]);
        let count = |source| tags(source).map(|tag| tag.operators).sum::<usize>();
        assert_eq!(count("{{ not a ~ 'b + c' ** -1 }}{# 1 + 1 #} 1 + 1"), 5);
        assert_eq!(word("- raw -"), "raw");
    }
}
