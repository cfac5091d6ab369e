//! The two sides of a comparison, each in a process of its own.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::job::{Job, Outcome};
use crate::ours::unix_time;

/// Which engine we are measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Peer {
    /// Hugging Face transformers.
    Python,
    /// llama.cpp through its Python binding `xllamacpp`.
    Llamacpp,
}

impl Peer {
    /// Its name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Python => "transformers",
            Self::Llamacpp => "llama.cpp",
        }
    }

    fn script(self) -> PathBuf {
        script(match self {
            Self::Python => "hf.py",
            Self::Llamacpp => "llamacpp.py",
        })
    }
}

/// A file of `benches/peers`.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("peers")
        .join(name)
}

/// A command that does jobs.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    program: PathBuf,
    arguments: Vec<PathBuf>,
}

impl Side {
    /// This program's own `once`.
    pub(crate) fn ours() -> Result<Self> {
        Ok(Self {
            program: env::current_exe().context("cannot find this program's own file")?,
            arguments: vec!["once".into()],
        })
    }

    /// The script of `peer`, run by `python`.
    pub(crate) fn peer(peer: Peer, python: &Path) -> Self {
        Self {
            program: python.to_owned(),
            arguments: vec![peer.script()],
        }
    }

    /// Starts a process, gives it `job` and waits for its outcome.
    pub(crate) fn run(&self, job: &Job) -> Result<Outcome> {
        let name = self.program.display();
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let job = Job {
            started: unix_time()?,
            ..job.clone()
        };
        let mut stdin = child.stdin.take().context("the child has no input")?;
        // A child that died at once does not read; its status below says more than the broken pipe.
        let _ = stdin.write_all(&serde_json::to_vec(&job)?);
        drop(stdin);
        let output = child.wait_with_output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{name} failed ({}): {}",
            output.status,
            tail(&errors)
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next_back().unwrap_or_default();
        serde_json::from_str(line).with_context(|| {
            format!(
                "{name} printed no outcome: {}{}",
                tail(&text),
                tail(&errors)
            )
        })
    }
}

/// The last lines of what a process said.
fn tail(text: &str) -> String {
    const LINES: usize = 12;
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_fails_says_why() {
        let side = Side {
            program: "sh".into(),
            arguments: vec!["-c".into(), "echo reason >&2; exit 3".into()],
        };
        let error = side.run(&job()).unwrap_err().to_string();
        assert_eq!(error, "sh failed (exit status: 3): reason");
    }

    #[test]
    fn a_process_that_prints_something_else_is_shown() {
        let side = Side {
            program: "sh".into(),
            arguments: vec!["-c".into(), "echo hello".into()],
        };
        let error = side.run(&job()).unwrap_err().to_string();
        assert_eq!(error, "sh printed no outcome: hello");
    }

    fn job() -> Job {
        Job {
            weights: PathBuf::new(),
            dtype: lm_core::Dtype::F32,
            task: crate::works::Task::Load,
            repeats: 1,
            started: 0.0,
        }
    }
}
