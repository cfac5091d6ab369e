//! Reading of weights: bytes of a GGUF file to `f32`.

use criterion::{Criterion, Throughput};
use lm_core::weights::gguf::{DEQUANTIZABLE, dequantize};

use crate::Failure;

/// Elements of one of SmolLM2's projections, rounded to whole blocks of every type.
const ELEMENTS: usize = 1_536 * 576 / 256 * 256;

pub(crate) fn benches(criterion: &mut Criterion) -> Result<(), Failure> {
    let mut out = vec![0.0_f32; ELEMENTS];
    let mut group = criterion.benchmark_group("dequantize");
    // What comes out is what costs: all types write the same number of bytes.
    group.throughput(Throughput::Bytes(4 * ELEMENTS as u64));
    for &ty in DEQUANTIZABLE {
        let size = ELEMENTS / ty.block_weights() * ty.block_bytes();
        // Any bytes are some block, and no type branches on them.
        let bytes: Vec<u8> = (0..size)
            .map(|index| (index.wrapping_mul(167) >> 3) as u8)
            .collect();
        dequantize(ty, &bytes, &mut out)?;
        group.bench_function(ty.name(), |bench| {
            bench.iter(|| dequantize(ty, &bytes, &mut out));
        });
    }
    group.finish();
    Ok(())
}
