//! Malformed files are refused, each for its own reason, and none panics.

use std::collections::HashMap;

use lm_core::weights::gguf::{Gguf, fuzz_check};
use proptest::prelude::*;

use crate::builder::sound;
use crate::corpus;

#[test]
fn each_file_of_the_corpus_is_refused_for_its_own_reason() {
    let mut wrong = Vec::new();
    for case in corpus::refused() {
        match Gguf::parse(&case.file) {
            Ok(_) => wrong.push(format!("{}: accepted", case.name)),
            Err(error) if error.to_string() != case.error => {
                wrong.push(format!(
                    "{}:\n  expected {}\n  found    {error}",
                    case.name, case.error
                ));
            }
            Err(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_two_files_of_the_corpus_share_an_error() {
    let mut seen = HashMap::new();
    for case in corpus::refused() {
        // The two differ in size only: what is too deep is found before the rest is looked at.
        if case.name == "200,000 nested arrays" {
            continue;
        }
        if let Some(other) = seen.insert(case.error, case.name) {
            panic!(
                "{other} and {} have the same error: {}",
                case.name, case.error
            );
        }
    }
    assert!(seen.len() >= 60);
}

#[test]
fn costly_files_are_accepted() {
    for (name, file) in corpus::costly() {
        assert!(Gguf::parse(&file).is_ok(), "{name}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = sound().build();
    assert!(Gguf::parse(&file).is_ok());
    for length in 0..file.len() {
        assert!(
            Gguf::parse(&file[..length]).is_err(),
            "cut to {length} of {} bytes",
            file.len()
        );
    }
}

#[test]
fn a_file_with_any_one_byte_changed_keeps_the_promises() {
    let file = sound().build();
    for position in 0..file.len() {
        for byte in 0..=u8::MAX {
            let mut file = file.clone();
            file[position] = byte;
            fuzz_check(&file);
        }
    }
}

/// Numbers at which arithmetic on counts, sizes and offsets goes wrong.
fn telling_number() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0_u32..64).prop_map(|bit| 1 << bit),
        (0_u32..64).prop_map(|bit| u64::MAX >> bit),
        (0_u64..300),
        any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn mutated_files_keep_the_promises(
        bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        numbers in prop::collection::vec((any::<prop::sample::Index>(), telling_number()), 0..4),
        length in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut file = sound().build();
        for (position, byte) in bytes {
            *position.get_mut(&mut file) = byte;
        }
        for (position, number) in numbers {
            let start = position.index(file.len() - 7);
            file[start..start + 8].copy_from_slice(&number.to_le_bytes());
        }
        if let Some(length) = length {
            file.truncate(length.index(file.len() + 1));
        }
        fuzz_check(&file);
    }

    #[test]
    fn arbitrary_bytes_after_the_version_keep_the_promises(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_check(&[b"GGUF\x03\0\0\0", bytes.as_slice()].concat());
    }
}
