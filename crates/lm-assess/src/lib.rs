#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod baseline;
pub mod data;
mod error;
pub mod mild;
pub mod progress;
pub mod run;
pub mod stats;

pub use error::{Error, Result};
