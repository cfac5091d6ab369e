//! The GGUF reader: sound files read, malformed files refused, weights bit-equal to the reference.

mod builder;
mod corpus;
mod dequantizing;
mod hostile;
mod reading;
