//! What time it is, and how long something took.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime};

/// Two clocks. That of the calendar may jump in any direction; it is only ever written down. That of durations never goes
/// back.
pub trait Clock: Debug + Send + Sync {
    /// The time of the calendar.
    fn now(&self) -> SystemTime;

    /// Time since some fixed moment.
    fn monotonic(&self) -> Duration;
}

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// Clocks whose durations begin now.
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}
