//! Everyday requests by a rule: as many as a comparison wants, no two equal, nobody's data.

const OPENINGS: [&str; 6] = [
    "How do I",
    "What is the best way to",
    "Please explain how to",
    "Give me three tips on how to",
    "Can you tell me in plain words how to",
    "Write a short note for a friend on how to",
];
const TASKS: [&str; 12] = [
    "water tomato plants",
    "mend a bicycle tyre",
    "bake rye bread",
    "sort old photographs",
    "learn the names of birds",
    "paint a wooden chair",
    "plan a picnic",
    "knit a scarf",
    "clean the windows",
    "grow herbs on a balcony",
    "write a birthday card",
    "cook soup for six guests",
];
const SETTINGS: [&str; 8] = [
    "",
    " in spring",
    " on a rainy weekend",
    " in a small flat",
    " without spending much money",
    " with two children who are soon bored",
    " when there is only an hour before the train leaves",
    " in a village where the nearest shop is ten kilometres away",
];
const ENDINGS: [&str; 6] = [
    ".",
    ", and keep it short.",
    ". I have never done it before.",
    ". Begin with what I have to buy.",
    ". Say what most people get wrong at first, too.",
    ". My aunt says that patience is all it takes, but I would like to know a little more than that.",
];

/// Coprime to the number of combinations, 3,456, and no near divisor of it: a walk in such steps meets each of them once
/// and changes every part from one to the next.
const STRIDE: usize = 1_117;

/// `count` requests, at most 3,456 of them distinct; another `seed` begins elsewhere.
pub fn mild(count: usize, seed: usize) -> Vec<String> {
    (0..count)
        .map(|index| {
            let mut rest = seed.wrapping_add(index.wrapping_mul(STRIDE));
            let mut part = |of: &[&'static str]| {
                let chosen = of.get(rest % of.len()).copied().unwrap_or_default();
                rest /= of.len();
                chosen
            };
            let opening = part(&OPENINGS);
            let (task, setting, ending) = (part(&TASKS), part(&SETTINGS), part(&ENDINGS));
            format!("{opening} {task}{setting}{ending}")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::mild;

    #[test]
    fn requests_differ_in_wording_and_length() {
        let all = mild(3_456, 7);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        let words = |text: &String| text.split_whitespace().count();
        let few = all.iter().take(100).map(words);
        assert!(few.clone().min() < Some(9) && few.max() > Some(30));
        assert_ne!(mild(5, 0), mild(5, 1));
    }
}
