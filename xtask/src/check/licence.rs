//! SPDX licence expressions, as far as manifests use them: names, `WITH`, `AND`, `OR`, parentheses, and the old `/` for `OR`.

use anyhow::{Result, bail, ensure};

/// Whether the expression can be satisfied with accepted licences only.
pub(super) fn satisfied(expression: &str, accepted: &[&str]) -> Result<bool> {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut parser = Parser {
        words: spaced.split_whitespace().collect(),
        at: 0,
        accepted,
    };
    let satisfied = parser.any_of()?;
    ensure!(
        parser.peek().is_none(),
        "`{expression}` goes on after its end"
    );
    Ok(satisfied)
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
    accepted: &'a [&'a str],
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).copied()
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        self.at += usize::from(found);
        found
    }

    fn any_of(&mut self) -> Result<bool> {
        let mut satisfied = self.all_of()?;
        while self.take("OR") {
            satisfied |= self.all_of()?;
        }
        Ok(satisfied)
    }

    fn all_of(&mut self) -> Result<bool> {
        let mut satisfied = self.one()?;
        while self.take("AND") {
            satisfied &= self.one()?;
        }
        Ok(satisfied)
    }

    fn one(&mut self) -> Result<bool> {
        if self.take("(") {
            let satisfied = self.any_of()?;
            ensure!(self.take(")"), "a parenthesis is not closed");
            return Ok(satisfied);
        }
        let mut name = match self.peek() {
            Some(word) if !["AND", "OR", "WITH", ")"].contains(&word) => word.to_owned(),
            Some(word) => bail!("`{word}` stands where a licence should"),
            None => bail!("a licence is missing at the end"),
        };
        self.at += 1;
        if self.take("WITH") {
            let Some(exception) = self.peek() else {
                bail!("an exception is missing after WITH")
            };
            self.at += 1;
            name = format!("{name} WITH {exception}");
        }
        Ok(self.accepted.contains(&name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_spdx_says() -> Result<()> {
        let accepted = [
            "MIT",
            "Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
            "Unicode-3.0",
        ];
        let cases = [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("GPL-3.0-only/MIT", true),
            ("MIT AND GPL-3.0-only", false),
            ("(MIT OR GPL-3.0-only) AND Unicode-3.0", true),
            // AND binds tighter than OR.
            ("MIT OR GPL-3.0-only AND GPL-2.0-only", true),
            ("(MIT OR GPL-3.0-only) AND GPL-2.0-only", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0 WITH Other-exception", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(satisfied(expression, &accepted)?, expected, "{expression}");
        }
        Ok(())
    }

    #[test]
    fn nonsense_is_an_error() {
        for expression in [
            "",
            "MIT OR",
            "(MIT",
            "MIT)",
            "OR MIT",
            "MIT Apache-2.0",
            "Apache-2.0 WITH",
        ] {
            assert!(
                satisfied(expression, &["MIT", "Apache-2.0"]).is_err(),
                "{expression}"
            );
        }
    }
}
