//! Reading of weights: GGUF blocks to `f32`, and the headers of a folder.

use std::hint::black_box;

use lm_core::Checkpoint;
use lm_core::weights::gguf::{GgmlType, dequantize};
use lm_testkit::TinyLlama;

use crate::case::{Case, Failure, Work, warmed};

/// Weights of a tensor: whole blocks of every type.
const WEIGHTS: usize = 1 << 20;

/// A folder is opened so often: each time its hash maps have other seeds, and a single time differs by 2 % from the next.
const OPENED: usize = 16;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "gguf/q4-1",
            prepare: || blocks(GgmlType::Q4_1),
        },
        Case {
            name: "gguf/q8-0",
            prepare: || blocks(GgmlType::Q8_0),
        },
        Case {
            name: "gguf/q4-k",
            prepare: || blocks(GgmlType::Q4K),
        },
        Case {
            name: "safetensors/open",
            prepare: open,
        },
    ]
}

fn blocks(ty: GgmlType) -> Result<Work, Failure> {
    let size = WEIGHTS / ty.block_weights() * ty.block_bytes();
    // Any bytes are some block, and no type branches on them.
    let bytes: Vec<u8> = (0..size)
        .map(|index| (index.wrapping_mul(167) >> 3) as u8)
        .collect();
    let mut out = vec![0.0_f32; WEIGHTS];
    warmed(move || Ok(dequantize(ty, &bytes, &mut out)?))
}

/// Configuration and header of as many tensors as SmolLM2 has (272), each small.
fn open() -> Result<Work, Failure> {
    let folder = tempfile::tempdir()?;
    let model = TinyLlama {
        layers: 30,
        hidden_size: 8,
        intermediate_size: 8,
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        ..TinyLlama::default()
    };
    model.write(folder.path())?;
    warmed(move || {
        for _ in 0..OPENED {
            black_box(Checkpoint::open(folder.path())?);
        }
        Ok(())
    })
}
