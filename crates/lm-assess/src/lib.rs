#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod data;
mod error;
pub mod mild;
pub mod run;
pub mod stats;

pub use error::{Error, Result};
