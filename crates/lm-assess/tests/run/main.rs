//! Runs that survive: whatever happens to a journal, the report is the one of a run nobody disturbed.
#![allow(missing_docs)]

mod config;
mod faults;
mod kill;
mod merge;
mod plan;
mod study;
mod tear;
