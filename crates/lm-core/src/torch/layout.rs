//! Where the tokens of each row stand in the cache, and which of them may see which.
//!
//! All rows of a session share one slot axis. Rows of unequal length leave *holes*: a chunk shorter than the batch's
//! widest is put at the right end of the new slots, so the newest token of every row is always in the last slot. Position
//! numbers count a row's own tokens and so never depend on its neighbours. This one type makes positions and masks for
//! whole prompts, left-padded batches, prompts in parts and single steps alike.

use std::ops::Range;

/// Slots and rows of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    slots: usize,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Row {
    tokens: usize,
    /// Slots without a token: sorted, disjoint.
    holes: Vec<Range<usize>>,
}

/// The slots a forward pass fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// First new slot.
    pub(super) start: usize,
    /// New slots.
    pub(super) width: usize,
    /// Position number of each row's new slots, `[row, width]` row-major; 0 in holes.
    pub(super) positions: Vec<i64>,
}

/// Which keys a query may attend to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mask {
    /// One query that sees every key: no mask.
    Everything,
    /// One query that sees the newest so many keys: no mask, but fewer keys.
    Newest(usize),
    /// Every query sees the keys up to itself, and there are no others: libtorch's own causal mask. (That one aligns at
    /// the top left, so it is right only when no key stands before the first query.)
    Causal,
    /// `[row, query, key]` row-major, true where the query may look. One row where all are alike.
    Explicit(Vec<bool>),
}

impl Layout {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            slots: 0,
            rows: vec![Row::default(); rows],
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Slots in use.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Tokens of each row.
    pub(super) fn lengths(&self) -> Vec<usize> {
        self.rows.iter().map(|row| row.tokens).collect()
    }

    /// Slots of `row` without a token.
    pub(super) fn holes(&self, row: usize) -> &[Range<usize>] {
        self.rows.get(row).map_or(&[], |row| &row.holes)
    }

    /// One past the slot of the last token that each row keeps when it is cut to `lengths[row]` tokens.
    pub(super) fn ends(&self, lengths: &[usize]) -> Vec<usize> {
        let rows = self.rows.iter().zip(lengths);
        rows.map(|(row, &length)| row.slot_after(length)).collect()
    }

    /// The slots that hold the tokens of `row`, in order.
    pub(super) fn token_slots(&self, row: usize) -> Vec<i64> {
        let holes = self.holes(row);
        (0..self.slots)
            .filter(|slot| !holes.iter().any(|hole| hole.contains(slot)))
            .map(|slot| slot as i64)
            .collect()
    }

    /// The layout after `lengths[row]` more tokens in each row, and how to compute them.
    pub(super) fn extended(&self, lengths: &[usize]) -> (Self, Step) {
        let width = lengths.iter().copied().max().unwrap_or(0);
        let start = self.slots;
        let mut next = self.clone();
        next.slots += width;
        let mut positions = Vec::with_capacity(width * self.rows.len());
        for (row, &length) in next.rows.iter_mut().zip(lengths) {
            let pads = width - length;
            positions.extend(std::iter::repeat_n(0, pads));
            // A row is at most as long as the context, which the specification bounds.
            positions.extend((row.tokens..row.tokens + length).map(|position| position as i64));
            row.tokens += length;
            if pads > 0 {
                row.holes.push(start..start + pads);
            }
        }
        (
            next,
            Step {
                start,
                width,
                positions,
            },
        )
    }

    /// Who sees whom, for queries from slot `start` on. With a window a query sees itself and the `window - 1` tokens of its
    /// row before it.
    pub(super) fn mask(&self, start: usize, window: Option<usize>) -> Mask {
        let keys = self.slots;
        let window = window.filter(|&window| window < keys);
        let full = self.rows.iter().all(|row| row.holes.is_empty());
        if full && keys - start == 1 {
            return window.map_or(Mask::Everything, Mask::Newest);
        }
        if full && start == 0 && window.is_none() {
            return Mask::Causal;
        }
        let rows = if full { 1 } else { self.rows.len() };
        let mut mask = vec![false; rows * (keys - start) * keys];
        let mut lines = mask.chunks_exact_mut(keys.max(1));
        for row in self.rows.iter().take(rows) {
            for (query, line) in (start..keys).zip(&mut lines) {
                let first = window.map_or(0, |window| row.window_start(query, window));
                line[first..=query].fill(true);
                for hole in &row.holes {
                    line[hole.start.min(query + 1)..hole.end.min(query + 1)].fill(false);
                }
                // A query with nothing to look at gives NaN in some kernels: a hole sees itself, and is never read.
                line[query] = true;
            }
        }
        Mask::Explicit(mask)
    }

    /// The layout of the rows `rows`, which must exist.
    pub(super) fn selected(&self, rows: &[usize]) -> Self {
        Self {
            slots: self.slots,
            rows: rows.iter().map(|&row| self.rows[row].clone()).collect(),
        }
    }

    /// The layout with each row cut to `lengths[row]` tokens, which it must have.
    pub(super) fn rewound(&self, lengths: &[usize]) -> Self {
        let mut next = self.clone();
        let mut slots = 0;
        for (row, &length) in next.rows.iter_mut().zip(lengths) {
            let end = row.slot_after(length);
            row.tokens = length;
            row.holes.retain(|hole| hole.start < end);
            row.holes.push(end..self.slots);
            slots = slots.max(end);
        }
        next.slots = slots;
        for row in &mut next.rows {
            for hole in &mut row.holes {
                hole.end = hole.end.min(slots);
            }
            row.holes.retain(|hole| hole.start < hole.end);
        }
        next
    }
}

impl Row {
    /// First slot of the window of the query in slot `query`: `window` slots back, and one more for each hole between.
    fn window_start(&self, query: usize, window: usize) -> usize {
        let mut first = (query + 1).saturating_sub(window);
        for hole in self.holes.iter().rev() {
            if hole.end <= query && hole.end > first {
                first = first.saturating_sub(hole.len());
            }
        }
        first
    }

    /// One past the slot of the row's `count`-th token.
    fn slot_after(&self, count: usize) -> usize {
        if count == 0 {
            return 0;
        }
        let mut slot = count;
        for hole in &self.holes {
            if hole.start < slot {
                slot += hole.len();
            }
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A window that no test reaches.
    const ALL: usize = 1000;

    /// Token positions by slot: the plain picture that the layout must agree with.
    #[derive(Clone, Debug, Default)]
    struct Picture {
        rows: Vec<Vec<Option<i64>>>,
    }

    impl Picture {
        fn extend(&mut self, lengths: &[usize]) {
            let width = lengths.iter().copied().max().unwrap();
            for (row, &length) in self.rows.iter_mut().zip(lengths) {
                let tokens = row.iter().flatten().count() as i64;
                row.extend(std::iter::repeat_n(None, width - length));
                row.extend((tokens..tokens + length as i64).map(Some));
            }
        }

        fn rewind(&mut self, lengths: &[usize]) {
            for (row, &length) in self.rows.iter_mut().zip(lengths) {
                for slot in row.iter_mut() {
                    *slot = slot.filter(|&position| position < length as i64);
                }
            }
            let used = |row: &Vec<Option<i64>>| {
                row.iter()
                    .rposition(Option::is_some)
                    .map_or(0, |slot| slot + 1)
            };
            let slots = self.rows.iter().map(used).max().unwrap();
            self.rows.iter_mut().for_each(|row| row.truncate(slots));
        }

        /// `[row][query][key]` for the last `width` slots.
        fn mask(&self, width: usize, window: usize) -> Vec<bool> {
            let mut mask = Vec::new();
            for row in &self.rows {
                for query in row.len() - width..row.len() {
                    for (key, position) in row.iter().enumerate() {
                        let sees = match (row[query], position) {
                            (Some(at), Some(position)) => {
                                *position <= at && *position > at - window as i64
                            }
                            (None, Some(_)) => key < query && window == ALL,
                            (_, None) => key == query,
                        };
                        mask.push(sees);
                    }
                }
            }
            mask
        }
    }

    #[derive(Clone, Debug)]
    enum Action {
        Extend(Vec<usize>),
        Rewind(Vec<usize>),
        Select(Vec<usize>),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            4 => prop::collection::vec(1_usize..5, 3).prop_map(Action::Extend),
            1 => prop::collection::vec(0_usize..6, 3).prop_map(Action::Rewind),
            1 => prop::collection::vec(0_usize..3, 3).prop_map(Action::Select),
        ]
    }

    /// With a window the lines of holes are free, so long as they see something.
    fn agree(
        found: &[bool],
        expected: &[bool],
        picture: &Picture,
        width: usize,
        window: usize,
    ) -> bool {
        let slots = picture.rows[0].len();
        let queries = picture
            .rows
            .iter()
            .flat_map(|row| &row[row.len() - width..]);
        let lines = found.chunks_exact(slots).zip(expected.chunks_exact(slots));
        found.len() == expected.len()
            && queries.zip(lines).all(|(query, (found, expected))| {
                let free = query.is_none() && window != ALL;
                found == expected || free && found.iter().any(|&sees| sees)
            })
    }

    proptest! {
        #[test]
        fn positions_and_masks_agree_with_the_plain_picture(
            actions in prop::collection::vec(action(), 1..8),
            window in 1_usize..6,
        ) {
            let mut layout = Layout::new(3);
            let mut picture = Picture { rows: vec![Vec::new(); 3] };
            for action in actions {
                match action {
                    Action::Extend(lengths) => {
                        let (next, step) = layout.extended(&lengths);
                        picture.extend(&lengths);
                        for window in [ALL, window] {
                            let expected = picture.mask(step.width, window);
                            let rows = expected.len() / 3;
                            match &next.mask(step.start, Some(window)) {
                                Mask::Explicit(mask) => {
                                    let mask = if mask.len() == rows { mask.repeat(3) } else { mask.clone() };
                                    prop_assert!(agree(&mask, &expected, &picture, step.width, window));
                                }
                                Mask::Everything => prop_assert!(step.width == 1 && expected.iter().all(|&sees| sees)),
                                Mask::Newest(count) => {
                                    prop_assert_eq!(step.width, 1);
                                    for line in expected.chunks_exact(next.slots()) {
                                        let unseen = next.slots() - count;
                                        prop_assert!(line.iter().enumerate().all(|(key, &sees)| sees == (key >= unseen)));
                                    }
                                }
                                Mask::Causal => {
                                    let causal: Vec<bool> = (0..3 * step.width * step.width)
                                        .map(|i| i % step.width <= i / step.width % step.width)
                                        .collect();
                                    prop_assert_eq!(&causal, &expected);
                                }
                            }
                        }
                        let positions: Vec<i64> = picture
                            .rows
                            .iter()
                            .flat_map(|row| row[row.len() - step.width..].iter().map(|slot| slot.unwrap_or(0)))
                            .collect();
                        prop_assert_eq!(&step.positions, &positions);
                        layout = next;
                    }
                    Action::Rewind(lengths) => {
                        let present = layout.lengths();
                        let lengths: Vec<usize> =
                            lengths.iter().zip(&present).map(|(&wanted, &present)| wanted.min(present)).collect();
                        layout = layout.rewound(&lengths);
                        picture.rewind(&lengths);
                    }
                    Action::Select(rows) => {
                        layout = layout.selected(&rows);
                        picture.rows = rows.iter().map(|&row| picture.rows[row].clone()).collect();
                    }
                }
                prop_assert_eq!(layout.slots(), picture.rows[0].len());
                let tokens: Vec<usize> = picture.rows.iter().map(|row| row.iter().flatten().count()).collect();
                prop_assert_eq!(layout.lengths(), tokens);
            }
        }
    }
}
