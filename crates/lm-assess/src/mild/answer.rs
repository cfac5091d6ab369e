//! Whether a reply to a plain question is right.

use serde::{Deserialize, Serialize};

use super::numbers::{numbers, same};
use super::{Check, PlainQuestion};

/// How a reply meets the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerMatch {
    /// The answer is not in it.
    No,
    /// The answer is in it, with other words.
    Contained,
    /// It is the answer and nothing else.
    Exact,
}

impl AnswerMatch {
    /// Whether the reply counts as right.
    #[must_use]
    pub fn is_correct(self) -> bool {
        self != Self::No
    }
}

impl PlainQuestion {
    /// The usual answer.
    #[must_use]
    pub fn answer(&self) -> &str {
        self.answers.first().map_or("", String::as_str)
    }

    /// Compares a reply with what is right.
    ///
    /// A **number** is right if it is the last one of the reply that the question does not name itself: a reply may repeat
    /// the question before or after it, and show its working before. Numbers in words count where a reply has no digits.
    /// A **text** is right if one of the answers stands in the reply as whole words, whatever the case and the punctuation
    /// are.
    ///
    /// Both are lenient in one way: a reply that offers several answers, or denies the right one, is taken at its words.
    #[must_use]
    pub fn check_reply(&self, reply: &str) -> AnswerMatch {
        match self.check {
            Check::Number => self.check_number(reply),
            Check::Text => self.check_text(reply),
        }
    }

    fn check_number(&self, reply: &str) -> AnswerMatch {
        let Some(&answer) = numbers(self.answer()).first() else {
            return AnswerMatch::No;
        };
        let asked = numbers(&self.question);
        let found = numbers(reply);
        let last = found
            .iter()
            .rfind(|number| !asked.iter().any(|asked| same(*asked, **number)));
        match last {
            Some(last) if same(*last, answer) => {
                if found.len() == 1 && is_only_a_number(reply) {
                    AnswerMatch::Exact
                } else {
                    AnswerMatch::Contained
                }
            }
            _ => AnswerMatch::No,
        }
    }

    fn check_text(&self, reply: &str) -> AnswerMatch {
        let reply = normalised(reply);
        let answers: Vec<String> = self.answers.iter().map(|text| normalised(text)).collect();
        let bare = ["the ", "a ", "an "]
            .iter()
            .find_map(|article| reply.strip_prefix(article))
            .unwrap_or(&reply);
        if answers
            .iter()
            .any(|answer| !answer.is_empty() && (*answer == reply || answer == bare))
        {
            return AnswerMatch::Exact;
        }
        let spaced = format!(" {reply} ");
        let contained =
            |answer: &String| !answer.is_empty() && spaced.contains(&format!(" {answer} "));
        if answers.iter().any(contained) {
            AnswerMatch::Contained
        } else {
            AnswerMatch::No
        }
    }
}

/// Lower case, apostrophes left out, everything else that is no letter or digit a single space.
fn normalised(text: &str) -> String {
    let lower = text.to_lowercase();
    let kept: String = lower
        .chars()
        .filter(|c| !matches!(c, '\'' | '’'))
        .map(|c| if c.is_alphanumeric() { c } else { ' ' })
        .collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a reply with one number in it has nothing else: no letters beside digits, or one to seven words that are all
/// part of the number.
fn is_only_a_number(reply: &str) -> bool {
    if reply.chars().any(|c| c.is_ascii_digit()) {
        return !reply.chars().any(char::is_alphabetic);
    }
    let words = normalised(reply);
    words.split(' ').all(|word| {
        matches!(
            word,
            "a" | "and" | "minus" | "negative" | "hundred" | "thousand"
        ) || !numbers(word).is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(question: &str, check: Check, answers: &[&str]) -> PlainQuestion {
        PlainQuestion {
            id: "a".to_owned(),
            category: "b".to_owned(),
            question: question.to_owned(),
            check,
            answers: answers.iter().map(|&text| text.to_owned()).collect(),
            sha256: String::new(),
        }
    }

    #[test]
    fn numbers_are_found_in_replies() {
        let asked = question("What is 12 times 12?", Check::Number, &["144"]);
        let cases = [
            ("144", AnswerMatch::Exact),
            (" 144.\n", AnswerMatch::Exact),
            ("One hundred and forty-four.", AnswerMatch::Exact),
            ("It is 144.", AnswerMatch::Contained),
            ("12 times 12 is 144.", AnswerMatch::Contained),
            ("144, because it is 12 times 12.", AnswerMatch::Contained),
            ("12·10 + 12·2 = 120 + 24 = 144", AnswerMatch::Contained),
            (
                "That makes one hundred and forty-four.",
                AnswerMatch::Contained,
            ),
            ("144 is wrong, it is 145.", AnswerMatch::No),
            ("1440", AnswerMatch::No),
            ("144.5", AnswerMatch::No),
            ("-144", AnswerMatch::No),
            ("12", AnswerMatch::No),
            ("forty-four", AnswerMatch::No),
            ("", AnswerMatch::No),
        ];
        for (reply, expected) in cases {
            assert_eq!(asked.check_reply(reply), expected, "{reply}");
        }
        let kilo = question(
            "How many grams are in 1 kilogram?",
            Check::Number,
            &["1000"],
        );
        for reply in [
            "1000",
            "1,000",
            "There are 1,000 grams in 1 kilogram.",
            "a thousand",
        ] {
            assert!(kilo.check_reply(reply).is_correct(), "{reply}");
        }
        let cold = question("What is 9 minus 14?", Check::Number, &["-5"]);
        for (reply, right) in [
            ("9 - 14 = -5", true),
            ("−5", true),
            ("minus five", true),
            ("5", false),
        ] {
            assert_eq!(cold.check_reply(reply).is_correct(), right, "{reply}");
        }
    }

    #[test]
    fn texts_are_found_as_whole_words() {
        let asked = question(
            "Which animal makes honey?",
            Check::Text,
            &["bee", "honey bee"],
        );
        let cases = [
            ("Bee", AnswerMatch::Exact),
            ("  the BEE! ", AnswerMatch::Exact),
            ("A honey-bee.", AnswerMatch::Exact),
            ("It's the bee, of course.", AnswerMatch::Contained),
            ("Beetles", AnswerMatch::No),
            ("been", AnswerMatch::No),
            ("", AnswerMatch::No),
            ("...", AnswerMatch::No),
        ];
        for (reply, expected) in cases {
            assert_eq!(asked.check_reply(reply), expected, "{reply}");
        }
        let water = question(
            "What is the formula of water?",
            Check::Text,
            &["H2O", "H₂O"],
        );
        for reply in ["H2O", "h₂o.", "The formula is **H2O**."] {
            assert!(water.check_reply(reply).is_correct(), "{reply}");
        }
    }

    #[test]
    fn a_question_without_an_answer_is_never_right() {
        assert_eq!(
            question("?", Check::Number, &[]).check_reply("1"),
            AnswerMatch::No
        );
        for answers in [&[] as &[&str], &["..."]] {
            let found = question("?", Check::Text, answers).check_reply("yes no");
            assert_eq!(found, AnswerMatch::No);
        }
    }
}
