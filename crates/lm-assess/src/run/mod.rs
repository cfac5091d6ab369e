//! Runs that survive: a journal, exact resume, shards and their merge.
