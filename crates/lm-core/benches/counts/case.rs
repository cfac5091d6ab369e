//! What a case is.

use std::hint::black_box;

/// What a case may fail with.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// What is counted.
pub(crate) type Work = Box<dyn FnMut() -> Result<(), Failure>>;

/// A work with a name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// `<part>/<work>`.
    pub(crate) name: &'static str,
    /// Makes the data; not counted.
    pub(crate) prepare: fn() -> Result<Work, Failure>,
}

/// `work` after it has been done once: what happens at the first call only (tables, detected features) is not counted.
pub(crate) fn warmed<T>(
    mut work: impl FnMut() -> Result<T, Failure> + 'static,
) -> Result<Work, Failure> {
    work()?;
    Ok(unwarmed(work))
}

/// `work` as it comes, for what remembers its first call.
pub(crate) fn unwarmed<T>(mut work: impl FnMut() -> Result<T, Failure> + 'static) -> Work {
    Box::new(move || {
        black_box(work()?);
        Ok(())
    })
}
