//! A table in plain text.

use std::fmt;

/// Columns padded to their widest entry: numbers to the right, the rest to the left.
///
/// ```
/// let table = lm_examples::table::Table::new(["head", "KL"]).row(["2-6", "0.5"]).row(["10-6", "0.25"]);
/// assert_eq!(table.to_string(), "head    KL\n2-6    0.5\n10-6  0.25\n");
/// ```
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these headings.
    pub fn new<S: Into<String>>(headings: impl IntoIterator<Item = S>) -> Self {
        Self {
            rows: vec![headings.into_iter().map(Into::into).collect()],
        }
    }

    /// Adds a row.
    #[must_use]
    pub fn row<S: Into<String>>(mut self, entries: impl IntoIterator<Item = S>) -> Self {
        self.rows
            .push(entries.into_iter().map(Into::into).collect());
        self
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let column = |index: usize| self.rows.iter().filter_map(move |row| row.get(index));
        let widths: Vec<usize> = (0..columns)
            .map(|index| {
                column(index)
                    .map(|entry| entry.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let numeric: Vec<bool> = (0..columns)
            .map(|index| {
                column(index)
                    .skip(1)
                    .all(|entry| entry.trim_end_matches('%').parse::<f64>().is_ok())
            })
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for (index, entry) in row.iter().enumerate() {
                let gap = if index == 0 { "" } else { "  " };
                let width = widths[index];
                if numeric[index] {
                    line.push_str(&format!("{gap}{entry:>width$}"));
                } else {
                    line.push_str(&format!("{gap}{entry:<width$}"));
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
