//! `cargo xtask bench`: our benches, a comparison with a peer that runs on the same machine in the same minutes, or counts of
//! instructions, which no other program on the machine disturbs.

pub(crate) mod counts;
mod record;

use std::ffi::OsString;

use anyhow::Result;
use clap::ValueEnum;

use crate::golden::reference_python;
use crate::host::{self, Host};
use crate::pins::LLAMACPP;
use crate::setup::{Setup, Wanted, python};

/// Room that these take.
const LLAMACPP_BYTES: u64 = 400_000_000;

/// What we measure against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// Hugging Face transformers on PyTorch, of the same versions as the reference files.
    Python,
    /// llama.cpp through its Python binding.
    Llamacpp,
}

/// Runs the benches, or sets a peer up and runs the comparison.
pub(crate) fn run(host: &Host, peer: Option<Peer>, args: &[OsString]) -> Result<()> {
    let model = Setup::new(host).run(&Wanted::default())?;
    let Some(peer) = peer else {
        return host::run(
            host.cargo()
                .args(["bench", "--package", "lm-benches", "--"])
                .args(args),
        );
    };
    let (name, python) = match peer {
        Peer::Python => ("python", reference_python(host)?),
        Peer::Llamacpp => (
            "llamacpp",
            python::environment(host, LLAMACPP, LLAMACPP_BYTES)?,
        ),
    };
    host::run(
        host.cargo()
            .args([
                "run",
                "--release",
                "--package",
                "lm-benches",
                "--bin",
                "versus",
                "--",
                "--peer",
                name,
                "--python",
            ])
            .arg(python)
            .args(args)
            .env("LM_SAFETY_DEMO_MODEL", &model)
            .env("LM_SAFETY_CACHE", host.cache.root()),
    )
}
