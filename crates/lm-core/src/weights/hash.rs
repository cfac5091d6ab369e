//! One hash for one model, whatever file it came in.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::Checkpoint;
use crate::Result;
use crate::spec::Part;

/// SHA-256, in hexadecimal, over the dequantised weights in the order of their canonical names: for each its name, its
/// shape and the SHA-256 of its values as little-endian `f32`. A GGUF and a safetensors file of the same weights agree.
pub(super) fn model_hash(checkpoint: &Checkpoint) -> Result<String> {
    let mut parts: Vec<(String, Part)> = checkpoint
        .spec()
        .parts()
        .into_iter()
        .map(|part| (part.to_string(), part))
        .collect();
    parts.sort();
    let digests = parts
        .par_iter()
        .map(|(_, part)| {
            let values = checkpoint.read_f32(*part)?;
            let mut hasher = Sha256::new();
            let mut bytes = [0_u8; 4096];
            for run in values.chunks(bytes.len() / 4) {
                for (four, value) in bytes.chunks_exact_mut(4).zip(run) {
                    four.copy_from_slice(&value.to_le_bytes());
                }
                hasher.update(&bytes[..run.len() * 4]);
            }
            Ok(hasher.finalize())
        })
        .collect::<Result<Vec<_>>>()?;
    let mut whole = Sha256::new();
    for ((name, part), digest) in parts.iter().zip(digests) {
        whole.update(format!("{name} {:?} ", checkpoint.spec().part_shape(*part)));
        whole.update(digest);
    }
    Ok(hex(&whole.finalize()))
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
