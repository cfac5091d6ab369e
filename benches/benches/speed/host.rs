//! Pure functions on one row of logits, which run for every token of every row.

use criterion::{Criterion, Throughput};
use lm_core::{RowKey, Sampling, logits};

use crate::Failure;

/// SmolLM2's vocabulary.
const VOCAB: usize = 49_152;

pub(crate) fn benches(criterion: &mut Criterion) -> Result<(), Failure> {
    // A few likely tokens over a long tail, as a language model has them.
    let row: Vec<f32> = (0..VOCAB)
        .map(|id| {
            let noise = (id.wrapping_mul(2_654_435_761) % 10_007) as f32 / 10_007.0;
            12.0 * noise.powi(16) - 2.0 * noise
        })
        .collect();
    let other: Vec<f32> = row.iter().rev().copied().collect();
    let key = RowKey::new(0, "bench", 0);

    let mut group = criterion.benchmark_group("sampling");
    group.throughput(Throughput::Elements(VOCAB as u64));
    for (name, sampling) in [
        ("greedy", Sampling::greedy()),
        ("temperature", Sampling::temperature(1.0)),
        (
            "top-k 50",
            Sampling {
                top_k: Some(50),
                ..Sampling::temperature(1.0)
            },
        ),
        (
            "top-p 0.95",
            Sampling {
                top_p: Some(0.95),
                ..Sampling::temperature(1.0)
            },
        ),
        (
            "min-p 0.05",
            Sampling {
                min_p: Some(0.05),
                ..Sampling::temperature(1.0)
            },
        ),
    ] {
        sampling.check()?;
        sampling
            .choose(&row, &[], &key, 0)
            .ok_or("nothing to choose from")?;
        group.bench_function(name, |bench| {
            let mut step = 0;
            bench.iter(|| {
                step += 1;
                sampling.choose(&row, &[], &key, step)
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("logits");
    group.throughput(Throughput::Elements(VOCAB as u64));
    group.bench_function("log_prob", |bench| bench.iter(|| logits::log_prob(&row, 1)));
    group.bench_function("kl_divergence", |bench| {
        bench.iter(|| logits::kl_divergence(&row, &other));
    });
    group.bench_function("top 10", |bench| bench.iter(|| logits::top(&row, 10)));
    group.finish();
    Ok(())
}
