//! What the programs in `examples/` share: flags, prompts, tables, figures, files.
//!
//! The programs themselves hold every call to [`lm_core`], so that one file is enough to copy from.
//!
//! | module | holds |
//! | --- | --- |
//! | [`args`] | the flags that all programs have in common |
//! | [`command`] | what can be typed into `chat` |
//! | [`model`] | which model is meant when none is named |
//! | [`prompts`] | prompts from flags and from JSON Lines |
//! | [`results`] | the JSON that the programs write |
//! | [`output`] | files that are whole or absent, text a terminal can be trusted with, exit codes |
//! | [`table`], [`figure`] | how numbers are shown |
#![forbid(unsafe_code)]

pub mod args;
pub mod command;
pub mod figure;
pub mod model;
pub mod output;
pub mod prompts;
pub mod results;
pub mod table;

/// The program in the root README, held to compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
