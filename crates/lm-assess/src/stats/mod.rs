//! Statistics: intervals, tests, agreement, rank comparison. Pure functions in `f64`.
