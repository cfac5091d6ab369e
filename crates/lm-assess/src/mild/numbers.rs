//! Numbers in running text.

/// The numbers of a text in order: those in digits, or, where there are none, whole numbers in English words.
///
/// Digits may have a sign, thousands separated by commas, and decimals after a point. Digits inside a word (`H2O`) are no
/// number; a unit may follow (`3km`). Words that follow each other are one number: `one hundred and five`.
pub(super) fn numbers(text: &str) -> Vec<f64> {
    let digits = in_digits(text);
    if digits.is_empty() {
        in_words(text)
    } else {
        digits
    }
}

/// Whether two numbers are the same, apart from the rounding of decimals.
pub(super) fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

fn in_digits(text: &str) -> Vec<f64> {
    let characters: Vec<char> = text.chars().collect();
    let at = |index: usize| characters.get(index).copied();
    let is_digit = |index: usize| at(index).is_some_and(|c| c.is_ascii_digit());
    let mut found = Vec::new();
    let mut index = 0;
    while let Some(character) = at(index) {
        let starts = character.is_ascii_digit() || (character == '.' && is_digit(index + 1));
        if !starts {
            index += 1;
            continue;
        }
        let start = index;
        let mut number = String::new();
        while let Some(character) = at(index) {
            let thousands = character == ','
                && !number.is_empty()
                && !number.contains('.')
                && (index + 1..=index + 3).all(is_digit)
                && !is_digit(index + 4);
            let point = character == '.' && !number.contains('.') && is_digit(index + 1);
            if character.is_ascii_digit() || point {
                number.push(character);
            } else if !thousands {
                break;
            }
            index += 1;
        }
        let before = start.checked_sub(1).and_then(at);
        if before.is_some_and(char::is_alphanumeric) {
            continue;
        }
        let sign_before = start.checked_sub(2).and_then(at);
        let negative = before.is_some_and(|c| matches!(c, '-' | '−'))
            && !sign_before.is_some_and(|c| c.is_alphanumeric() || c == ')');
        if let Ok(value) = number.parse::<f64>() {
            found.push(if negative { -value } else { value });
        }
    }
    found
}

const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 8] = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];

/// Below 20, or a multiple of 10 below 100.
fn word(text: &str) -> Option<u32> {
    let at = |list: &[&str]| list.iter().position(|word| *word == text);
    let small = at(&SMALL).and_then(|index| u32::try_from(index).ok());
    let tens = at(&TENS).and_then(|index| u32::try_from(10 * (index + 2)).ok());
    small.or(tens)
}

/// A number being put together from words.
#[derive(Clone, Copy, Default)]
struct Words {
    /// Whole thousands.
    thousands: f64,
    /// What stands after them so far.
    rest: u32,
    /// The last word's own value, which says what may follow.
    last: u32,
    negative: bool,
}

impl Words {
    fn value(self) -> f64 {
        let value = self.thousands + f64::from(self.rest);
        if self.negative { -value } else { value }
    }
}

fn in_words(text: &str) -> Vec<f64> {
    let lower = text.to_lowercase();
    let mut found = Vec::new();
    let mut number: Option<Words> = None;
    let mut negative = false;
    for token in lower
        .split(|c: char| !c.is_alphabetic())
        .filter(|token| !token.is_empty())
    {
        match (token, word(token), &mut number) {
            ("hundred", _, Some(words)) if (1..10).contains(&words.rest) => {
                words.rest *= 100;
                words.last = 100;
            }
            ("thousand", _, Some(words)) if words.thousands == 0.0 && words.rest > 0 => {
                words.thousands = 1000.0 * f64::from(words.rest);
                words.rest = 0;
                words.last = 1000;
            }
            // "a hundred", "a thousand".
            ("hundred", _, None) => {
                number = Some(Words {
                    rest: 100,
                    last: 100,
                    negative,
                    ..Words::default()
                });
            }
            ("thousand", _, None) => {
                number = Some(Words {
                    thousands: 1000.0,
                    last: 1000,
                    negative,
                    ..Words::default()
                });
            }
            ("and", _, Some(words)) if words.last >= 100 => {}
            (_, Some(value), Some(words))
                if words.last >= 100 || (words.last >= 20 && (1..10).contains(&value)) =>
            {
                words.rest += value;
                words.last = value;
            }
            (_, value, current) => {
                found.extend(current.take().map(Words::value));
                number = value.map(|value| Words {
                    rest: value,
                    last: value,
                    negative,
                    ..Words::default()
                });
            }
        }
        negative = matches!(token, "minus" | "negative");
    }
    found.extend(number.map(Words::value));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits() {
        let cases: [(&str, &[f64]); 15] = [
            ("", &[]),
            ("It is 15.", &[15.0]),
            ("9 - 14 = -5", &[9.0, 14.0, -5.0]),
            ("9-14=−5", &[9.0, 14.0, -5.0]),
            ("(9)-14", &[9.0, 14.0]),
            ("1,000 or 1,000,000.", &[1000.0, 1_000_000.0]),
            ("1,2,3 and 10,20", &[1.0, 2.0, 3.0, 10.0, 20.0]),
            ("1,2345", &[1.0, 2345.0]),
            ("0.75, .5 and 3.", &[0.75, 0.5, 3.0]),
            ("1.2.3", &[1.2]),
            ("H2O and CO2", &[]),
            ("3km, 20%", &[3.0, 20.0]),
            ("one of 2", &[2.0]),
            ("1,", &[1.0]),
            ("7°", &[7.0]),
        ];
        for (text, expected) in cases {
            assert_eq!(numbers(text), expected, "{text}");
        }
    }

    #[test]
    fn words() {
        let cases: [(&str, &[f64]); 14] = [
            ("no number here", &[]),
            ("Fifteen.", &[15.0]),
            ("forty-two", &[42.0]),
            ("one hundred and forty-four", &[144.0]),
            ("a hundred", &[100.0]),
            ("a thousand", &[1000.0]),
            ("one thousand and twenty-four", &[1024.0]),
            ("nine hundred ninety nine thousand five", &[999_005.0]),
            ("minus five", &[-5.0]),
            ("negative twenty-one", &[-21.0]),
            ("six and seven", &[6.0, 7.0]),
            ("one two three", &[1.0, 2.0, 3.0]),
            ("twenty ten", &[20.0, 10.0]),
            ("five hundred hundred", &[500.0]),
        ];
        for (text, expected) in cases {
            assert_eq!(numbers(text), expected, "{text}");
        }
    }

    #[test]
    fn every_number_below_a_thousand_in_words() {
        for value in 0..1000_usize {
            let below_hundred = |value: usize| match value {
                0..20 => SMALL[value].to_owned(),
                _ if value.is_multiple_of(10) => TENS[value / 10 - 2].to_owned(),
                _ => format!("{}-{}", TENS[value / 10 - 2], SMALL[value % 10]),
            };
            let text = match (value / 100, value % 100) {
                (0, rest) => below_hundred(rest),
                (hundreds, 0) => format!("{} hundred", SMALL[hundreds]),
                (hundreds, rest) => {
                    format!("{} hundred and {}", SMALL[hundreds], below_hundred(rest))
                }
            };
            assert_eq!(numbers(&text), [value as f64], "{text}");
        }
    }

    #[test]
    fn sameness() {
        assert!(same(0.1 + 0.2, 0.3));
        assert!(!same(15.0, 15.001));
        assert!(!same(f64::NAN, f64::NAN));
    }
}
