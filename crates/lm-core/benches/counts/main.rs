//! Works whose machine instructions are counted: `cargo xtask bench --counts`.
//!
//! `--case NAME` prepares one work and then does it inside of [`counted_work`], the only function callgrind is told to count.
//! `--list` prints the names. Otherwise, as under `cargo bench` and `cargo test`, every case runs once (of those whose name
//! holds an argument, if one is given) and prints its name. All of it is pure Rust: `--no-default-features` builds it.
#![allow(
    clippy::print_stdout,
    reason = "a program speaks on its standard output"
)]

mod case;
mod data;
mod logits;
mod sampling;
mod scores;
mod text;
mod weights;

use std::hint::black_box;

use crate::case::{Case, Failure, Work};

fn main() -> Result<(), Failure> {
    let cases = [
        sampling::cases(),
        logits::cases(),
        text::cases(),
        weights::cases(),
        scores::cases(),
    ]
    .concat();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [flag, name] if flag == "--case" => {
            let case = cases.iter().find(|case| case.name == name);
            let case =
                case.ok_or_else(|| format!("there is no case `{name}`; `--list` names them"))?;
            run(case)
        }
        [flag] if flag == "--list" => {
            cases.iter().for_each(|case| println!("{}", case.name));
            Ok(())
        }
        // What cargo and its users give to any test or bench: flags that mean nothing here, and a part of a name.
        arguments => {
            let part = arguments.iter().find(|argument| !argument.starts_with('-'));
            let wanted = |case: &&Case| part.is_none_or(|part| case.name.contains(part.as_str()));
            for case in cases.iter().filter(wanted) {
                run(case).map_err(|failure| format!("{}: {failure}", case.name))?;
                println!("{}: ran", case.name);
            }
            Ok(())
        }
    }
}

fn run(case: &Case) -> Result<(), Failure> {
    let mut work = (case.prepare)()?;
    counted_work(&mut work)
}

/// Callgrind finds it by its name, which no other function's holds. Not generic and never inlined, so that there is one symbol.
#[inline(never)]
fn counted_work(work: &mut Work) -> Result<(), Failure> {
    black_box(work())
}
