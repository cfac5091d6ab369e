//! Criterion benches: `cargo bench -p lm-benches`. Names are `<part>/<work>/<model or size>`; what follows `--` filters.
//!
//! On a tiny random model they show what the library adds to the arithmetic; on the demo model, where it is on this
//! machine, what a user waits for.

mod engine;
mod host;
mod text;
mod weights;

use std::path::PathBuf;
use std::time::Duration;

use criterion::Criterion;
use lm_testkit::TinyLlama;

/// What a bench may fail with.
type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    // Few and short: a whole pass should take no more than two minutes, since nobody runs a bench that takes ten.
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let folder = tempfile::tempdir()?;
    let models = models(folder.path().to_owned())?;
    host::benches(&mut criterion)?;
    weights::benches(&mut criterion)?;
    text::benches(&mut criterion, &models)?;
    engine::benches(&mut criterion, &models)?;
    criterion.final_summary();
    Ok(())
}

/// A model to bench, by the name it has in the results.
#[derive(Debug)]
struct Named {
    name: &'static str,
    path: PathBuf,
}

/// The tiny model, written to `folder`, and the demo model if it is here.
fn models(folder: PathBuf) -> Result<Vec<Named>, Failure> {
    let tiny = TinyLlama {
        context: 1024,
        ..TinyLlama::default()
    };
    tiny.write(&folder)?;
    let mut models = vec![Named {
        name: "tiny",
        path: folder,
    }];
    match lm_testkit::demo_model() {
        Some(path) => models.push(Named {
            name: "SmolLM2-135M",
            path,
        }),
        None => lm_testkit::note_skip(
            "SmolLM2-135M",
            "the demo model",
            "`cargo xtask setup` fetches it",
        ),
    }
    Ok(models)
}
