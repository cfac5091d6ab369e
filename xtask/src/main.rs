//! The workspace's own commands, run as `cargo xtask <command>`: set-up, tests, checks, reference files, benches.
//!
//! An ordinary program of the workspace, so that the project needs no shell, no `make` and no second language for its chores.
//! It depends on nothing that needs libtorch and builds in seconds.
//!
//! | command | does | module |
//! | --- | --- | --- |
//! | `setup` | brings libtorch and the demo model | [`setup`] |
//! | `env` | prints what a crate outside the clone needs | [`outside`] |
//! | `demo`, `test` | set up what is missing, then run the main job or every test | [`mod@run`] |
//! | `gpu-check` | the reference numbers and laws of the engine on a GPU | [`mod@run`] |
//! | `check` | what a change must pass besides the tests | [`check`] |
//! | `tidy` | the rules no general tool knows | [`check::tidy`] |
//! | `golden` | regenerates or compares the reference files | [`golden`] |
//! | `bench` | measures, alone or against a peer, or counts instructions | [`mod@bench`] |
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line program speaks on its standard streams"
)]

mod bench;
mod cache;
mod check;
mod golden;
mod host;
mod outside;
mod pins;
mod run;
mod setup;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::host::Host;
use crate::setup::Setup;

/// The commands of this workspace.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    about,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring libtorch and the demo model; afterwards plain cargo works in this clone.
    Setup(SetupArgs),
    /// Print what a crate outside this clone needs to use ours.
    Env {
        /// As one JSON object, for scripts.
        #[arg(long)]
        json: bool,
    },
    /// Set up what is missing, then run every test; with arguments, `cargo test` with just those.
    Test {
        /// Given to `cargo test` as they are.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Set up libtorch with CUDA, then hold the engine against the reference numbers on a GPU.
    GpuCheck {
        /// Where layers are, as `--device` of the examples takes it [default: cuda:0, then again with half of them on the CPU]
        device: Option<String>,
    },
    /// Set up what is missing, then run the main job on a real model.
    Demo {
        /// Given to the example after its own arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Everything a change must pass besides the tests, cheapest first.
    Check,
    /// Only the project's own rules; part of `check`.
    Tidy,
    /// Regenerate the reference files from the pinned Python environment.
    Golden {
        /// Folders of `golden/`; all of them when none is named.
        cases: Vec<String>,
        /// Regenerate aside and compare with what is committed.
        #[arg(long)]
        check: bool,
    },
    /// Run the benches, measure against a peer in the same run, or compare instruction counts.
    Bench {
        /// The peer to set up and measure against.
        #[arg(long, value_enum)]
        vs: Option<bench::Peer>,
        /// Count instructions of the pure-Rust works and compare them with those recorded; needs valgrind, not libtorch.
        #[arg(long, conflicts_with_all = ["vs", "args"])]
        counts: bool,
        /// Record the counts that are found.
        #[arg(long, requires = "counts")]
        accept: bool,
        /// Count only this case; may be given several times.
        #[arg(long, requires = "counts", value_name = "NAME")]
        only: Vec<String>,
        /// Given to the benches, or to the comparison, as they are.
        #[arg(last = true)]
        args: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct SetupArgs {
    /// A libtorch built for CUDA: everything the wheels hold, about 5 GB, instead of the CPU subset.
    #[arg(long)]
    cuda: bool,
    /// Use the libtorch in this folder (the one that holds `lib/` and `include/`).
    #[arg(long, value_name = "DIR")]
    libtorch: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let host = Host::from_env()?;
    match command {
        Command::Setup(SetupArgs { cuda, libtorch }) => {
            let setup = Setup::new(&host);
            setup.run(&setup::Wanted { cuda, libtorch })?;
            setup.tokenizers()
        }
        Command::Env { json } => outside::print(&host, json),
        Command::Test { args } => run::test(&host, &args),
        Command::GpuCheck { device } => run::gpu_check(&host, device.as_deref()),
        Command::Demo { args } => run::demo(&host, &args),
        Command::Check => check::all(&host),
        Command::Tidy => check::tidy::run(&host),
        Command::Golden { cases, check } => golden::run(&host, &cases, check),
        Command::Bench {
            counts: true,
            accept,
            only,
            ..
        } => bench::counts::run(&host, accept, &only),
        Command::Bench { vs, args, .. } => bench::run(&host, vs, &args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
