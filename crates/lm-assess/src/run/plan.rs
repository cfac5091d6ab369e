//! What a run would do, before it does it.

use serde::Serialize;

use super::driver::Task;
use super::error::{Result, RunError};
use super::identity::Item;
use super::scan::Cut;
use super::shard::Shard;

/// What a run would do, and what it has done already. Items are counted once for each repeat, unless said otherwise.
#[derive(Debug)]
#[non_exhaustive]
pub struct Plan<'a, T: Item> {
    /// Items of the data set, once each.
    pub items: usize,
    /// How often each is done.
    pub repeats: u32,
    /// The part this run does.
    pub shard: Shard,
    /// Items of this part, once each.
    pub shard_items: usize,
    /// With a result.
    pub done: u64,
    /// Without a result, tried and failed; these are also left.
    pub failed: u64,
    /// What is still to do, in the order in which it will be done.
    pub left: Vec<Task<'a, T>>,
    /// What would be cut off the journal's end.
    pub cut: Option<Cut>,
}

/// Tokens of one piece of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Tokens that a model reads.
    pub input: u64,
    /// Tokens that it writes.
    pub output: u64,
}

/// What tokens cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// Of a million tokens that a model reads, in whatever currency.
    pub input_per_million: f64,
    /// Of a million tokens that it writes.
    pub output_per_million: f64,
}

/// What is left of a run, in tokens and money.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Tokens of all that is left.
    pub tokens: Tokens,
    /// What they cost, in the currency of the prices; `None` without prices.
    pub cost: Option<f64>,
}

impl<T: Item> Plan<'_, T> {
    /// Adds up what is left, by what one piece of work on an item takes.
    ///
    /// # Errors
    /// [`RunError::Argument`] for a price that is negative or no number, and for more tokens than 64 bits count.
    pub fn estimate(
        &self,
        mut tokens: impl FnMut(&T) -> Tokens,
        prices: Option<Prices>,
    ) -> Result<Estimate> {
        let mut all = Tokens::default();
        for task in &self.left {
            let own = tokens(task.item);
            let sum = |a: u64, b: u64| {
                a.checked_add(b)
                    .ok_or_else(|| RunError::argument("tokens", "less than 2^64", "more"))
            };
            all.input = sum(all.input, own.input)?;
            all.output = sum(all.output, own.output)?;
        }
        let cost = match prices {
            None => None,
            Some(prices) => {
                let (input, output) = (prices.input_per_million, prices.output_per_million);
                for (name, price) in [("price of input", input), ("price of output", output)] {
                    if !(price.is_finite() && price >= 0.0) {
                        return Err(RunError::argument(
                            name,
                            "a number from 0",
                            price.to_string(),
                        ));
                    }
                }
                Some((all.input as f64 * input + all.output as f64 * output) / 1e6)
            }
        };
        Ok(Estimate { tokens: all, cost })
    }
}
