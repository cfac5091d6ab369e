//! Stop strings on streamed text against a plain search in the whole text.

use lm_core::tokenizer::{StopStrings, TokenizerError};
use proptest::prelude::*;

/// What is shown of pieces, and which stop string ended them.
fn matched(stops: &StopStrings, pieces: &[String]) -> (String, Option<usize>) {
    let mut matcher = stops.matcher();
    let mut text = String::new();
    for piece in pieces {
        let step = matcher.push(piece);
        text.push_str(&step.text);
        if step.matched.is_some() {
            assert_eq!(matcher.push("more").text, "");
            assert_eq!(matcher.finish().text, "");
            return (text, step.matched);
        }
    }
    let last = matcher.finish();
    (text + &last.text, last.matched)
}

proptest! {
    /// Few letters, so that beginnings, overlaps and nested strings are common; one of them is not ASCII.
    #[test]
    fn the_cut_is_that_of_a_search_in_the_whole_text(
        stops in prop::collection::vec("[abé]{1,4}", 0..4),
        pieces in prop::collection::vec("[abcé]{0,5}", 0..12),
    ) {
        let whole = pieces.concat();
        let cut = stops.iter().filter_map(|stop| whole.find(stop.as_str())).min();
        let (text, index) = matched(&StopStrings::new(stops.clone()).unwrap(), &pieces);
        prop_assert_eq!(text, &whole[..cut.unwrap_or(whole.len())]);
        prop_assert_eq!(index.is_some(), cut.is_some());
        if let (Some(index), Some(cut)) = (index, cut) {
            prop_assert!(whole[cut..].starts_with(&stops[index]));
        }
    }

    /// What is shown never has to be taken back, and nothing is held that could not be a beginning.
    #[test]
    fn only_a_possible_beginning_is_held(text in "[abc]{0,12}", stop in "[ab]{1,4}") {
        let stops = StopStrings::new([stop.clone()]).unwrap();
        let mut matcher = stops.matcher();
        let mut shown = String::new();
        for (at, letter) in text.char_indices() {
            let step = matcher.push(letter.encode_utf8(&mut [0; 4]));
            shown.push_str(&step.text);
            if step.matched.is_some() {
                break;
            }
            let held = &text[shown.len()..=at];
            prop_assert!(text.starts_with(&shown));
            prop_assert!(held.is_empty() || stop.starts_with(held), "{held:?} is held for {stop:?}");
        }
    }
}

#[test]
fn an_earlier_longer_string_wins_over_one_inside_it() {
    let stops = StopStrings::new(["c", "abcd"]).unwrap();
    let pieces = ["xab", "c", "d!"].map(str::to_owned);
    assert_eq!(matched(&stops, &pieces), ("x".to_owned(), Some(1)));
    let pieces = ["xab", "c", "e"].map(str::to_owned);
    assert_eq!(matched(&stops, &pieces), ("xab".to_owned(), Some(0)));
}

#[test]
fn an_empty_string_is_refused() {
    let error = StopStrings::new(["end", ""]).unwrap_err();
    assert!(matches!(
        error,
        TokenizerError::EmptyStopString { index: 1 }
    ));
}
