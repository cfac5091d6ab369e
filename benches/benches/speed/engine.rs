//! The libtorch engine: reading a prompt, one step, a fork, loading.

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use lm_benches::prompt;
use lm_core::{Dtype, LanguageModel, LoadOptions, Session, TorchModel};

use crate::{Failure, Named};

const PROMPTS: [usize; 3] = [16, 128, 512];
const ROWS: [usize; 4] = [1, 2, 8, 20];
/// Tokens in the cache when a step or a fork is timed.
const READ: usize = 64;

pub(crate) fn benches(criterion: &mut Criterion, models: &[Named]) -> Result<(), Failure> {
    for model in models {
        load(criterion, model)?;
        for dtype in [Dtype::F32, Dtype::Bf16] {
            let options = LoadOptions::default().dtype(dtype);
            let loaded = TorchModel::open_with(&model.path, options)?;
            let name = format!("{}-{dtype}", model.name);
            prefill(criterion, &loaded, &name)?;
            unequal(criterion, &loaded, &name)?;
            step(criterion, &loaded, &name)?;
            fork(criterion, &loaded, &name)?;
        }
    }
    Ok(())
}

/// A group whose samples are as few runs as fit: one run may take a second.
fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group
}

fn load(criterion: &mut Criterion, model: &Named) -> Result<(), Failure> {
    TorchModel::open(&model.path)?;
    let mut group = group(criterion, "load");
    group.bench_function(model.name, |bench| {
        bench.iter_with_large_drop(|| TorchModel::open(&model.path));
    });
    group.finish();
    Ok(())
}

fn prefill(criterion: &mut Criterion, model: &TorchModel, name: &str) -> Result<(), Failure> {
    let mut group = group(criterion, "prefill");
    for length in PROMPTS {
        let tokens = prompt(length, model.vocab_size());
        model.begin(1)?.extend(&[&tokens])?;
        group.throughput(Throughput::Elements(length as u64));
        group.bench_with_input(BenchmarkId::new(name, length), &tokens, |bench, tokens| {
            bench.iter(|| model.begin(1)?.extend(&[tokens]));
        });
    }
    group.finish();
    Ok(())
}

/// Four prompts of unequal length, which takes positions and a mask of their own.
fn unequal(criterion: &mut Criterion, model: &TorchModel, name: &str) -> Result<(), Failure> {
    let prompts: Vec<Vec<u32>> = [16, 40, 64, 120]
        .map(|length| prompt(length, model.vocab_size()))
        .to_vec();
    let rows: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
    model.begin(rows.len())?.extend(&rows)?;
    let mut group = group(criterion, "prefill, four unequal rows");
    group.throughput(Throughput::Elements(prompts.concat().len() as u64));
    group.bench_function(name, |bench| {
        bench.iter(|| model.begin(rows.len())?.extend(&rows));
    });
    group.finish();
    Ok(())
}

/// One token in each row, taken back afterwards so that every step sees the same cache.
fn step(criterion: &mut Criterion, model: &TorchModel, name: &str) -> Result<(), Failure> {
    let mut group = group(criterion, "decode step");
    for rows in ROWS {
        let mut session = filled(model)?;
        session.select(&vec![0; rows])?;
        let (tokens, lengths) = (vec![7; rows], vec![READ; rows]);
        let mut append = || -> lm_core::Result<_> {
            let logits = session.append(&tokens)?;
            session.rewind(&lengths)?;
            Ok(logits)
        };
        append()?;
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(BenchmarkId::new(name, rows), |bench| {
            bench.iter(&mut append);
        });
    }
    group.finish();
    Ok(())
}

/// One row of the cache into twenty.
fn fork(criterion: &mut Criterion, model: &TorchModel, name: &str) -> Result<(), Failure> {
    const COPIES: usize = 20;
    filled(model)?.select(&[0; COPIES])?;
    let mut group = group(criterion, "fork");
    group.throughput(Throughput::Elements(COPIES as u64));
    group.bench_function(name, |bench| {
        bench.iter_batched(
            || filled(model),
            |session| -> lm_core::Result<_> {
                let mut session = session?;
                session.select(&[0; COPIES])?;
                // Handed back so that freeing it is not timed.
                Ok(session)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    Ok(())
}

fn filled(model: &TorchModel) -> lm_core::Result<Box<dyn Session + '_>> {
    let mut session = model.begin(1)?;
    session.extend(&[&prompt(READ, model.vocab_size())])?;
    Ok(session)
}
