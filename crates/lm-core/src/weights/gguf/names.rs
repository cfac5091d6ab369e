//! Finding an entry of a list by its name.

/// The positions of a list's entries, sorted by name. Costs four bytes an entry and copies no name.
#[derive(Debug, Clone, Default)]
pub(super) struct NameIndex(Vec<u32>);

impl NameIndex {
    /// Sorts `count` entries, or gives two positions, first before second, of one and the same name.
    pub(super) fn new<'a>(
        count: u32,
        name: impl Fn(usize) -> &'a str,
    ) -> Result<Self, (usize, usize)> {
        let mut positions: Vec<u32> = (0..count).collect();
        // Stable, so that equal names stay in the order of the file.
        positions.sort_by_key(|&position| name(position as usize));
        for pair in positions.windows(2) {
            let (first, second) = (pair[0] as usize, pair[1] as usize);
            if name(first) == name(second) {
                return Err((first, second));
            }
        }
        Ok(Self(positions))
    }

    /// Position of the entry called `wanted`.
    pub(super) fn find<'a>(&self, wanted: &str, name: impl Fn(usize) -> &'a str) -> Option<usize> {
        self.0
            .binary_search_by(|&position| name(position as usize).cmp(wanted))
            .ok()
            .map(|found| self.0[found] as usize)
    }
}
