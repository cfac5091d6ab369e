//! Shared by the programs of this package.

mod mild;

pub use mild::mild;

/// `length` token ids below `vocab` that look like nothing in particular: what a dense decoder costs does not depend on
/// which tokens it reads, so every engine can be given the same ones without a tokenizer.
pub fn prompt(length: usize, vocab: usize) -> Vec<u32> {
    // Ids below 1,000 hold the special tokens and single bytes of the usual vocabularies.
    let first = if vocab > 2_000 { 1_000 } else { 0 };
    let span = vocab.saturating_sub(first).max(1);
    (0..length)
        // A step coprime to every vocabulary that is not a multiple of it: no id comes twice in a short prompt.
        .map(|index| (first + index.wrapping_mul(7_919) % span) as u32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::prompt;

    #[test]
    fn prompts_stay_in_the_vocabulary_and_do_not_repeat() {
        let ids = prompt(1_700, 49_152);
        assert!(ids.iter().all(|id| (1_000..49_152).contains(id)));
        let mut distinct = ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), ids.len());
        assert!(prompt(10, 264).iter().all(|&id| id < 264));
        assert_eq!(prompt(3, 0), [0, 0, 0]);
    }
}
