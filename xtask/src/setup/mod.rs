//! `cargo xtask setup`: libtorch and the demo model, from a machine that has Rust, a C++ compiler and Python 3 with pip.
//!
//! libtorch is taken from the first of these that fits:
//! 1. the folder of `--libtorch`, or of the variable `LIBTORCH`: one that does not fit is an error;
//! 2. what an earlier set-up chose for this clone;
//! 3. a `python3` on the path that has the right torch;
//! 4. the pinned wheels, fetched into the per-user [`cache`] and shared by all clones.
//!
//! The choice is a link in the ignored folder `.libtorch`, next to the file that `.cargo/config.toml` includes. Whatever takes
//! long is made beside its place and moved there when it is whole, so an interrupted set-up leaves no half of anything.

mod libtorch;
mod model;
pub(crate) mod python;
#[cfg(test)]
mod tests;
mod tokenizers;
mod wheel;

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::cache;
use crate::host::Host;
use crate::pins::{PINS, Pins, TORCH};

pub(crate) use self::libtorch::Libtorch;

/// What the user asks of a set-up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// A libtorch with CUDA.
    pub(crate) cuda: bool,
    /// The libtorch in this folder.
    pub(crate) libtorch: Option<PathBuf>,
}

/// A set-up; its parts are replaceable for tests.
#[derive(Clone, Debug)]
pub(crate) struct Setup<'a> {
    host: &'a Host,
    pins: &'a Pins,
    free_bytes: fn(&Path) -> io::Result<u64>,
}

impl<'a> Setup<'a> {
    /// The set-up of this workspace.
    pub(crate) fn new(host: &'a Host) -> Self {
        Self {
            host,
            pins: &PINS,
            free_bytes: cache::free_bytes,
        }
    }

    /// Brings what is missing, says what was chosen and why, and returns the demo model's file.
    pub(crate) fn run(&self, wanted: &Wanted) -> Result<PathBuf> {
        if self.host.use_pytorch {
            println!(
                "note: LIBTORCH_USE_PYTORCH is set, so torch-sys asks Python and not what is chosen here; unset it"
            );
        }
        let (chosen, why) = self.choose(wanted)?;
        self.link(&chosen)?;
        let kind = if chosen.cuda { "with CUDA" } else { "CPU" };
        println!(
            "libtorch {TORCH} ({kind}): {}, {why}",
            chosen.folder.display()
        );
        let model = self.model()?;
        println!("demo model: {}", model.display());
        Ok(model)
    }

    fn choose(&self, wanted: &Wanted) -> Result<(Libtorch, &'static str)> {
        let given = wanted
            .libtorch
            .as_deref()
            .map(|folder| (folder, "--libtorch"));
        let environment = self
            .host
            .libtorch
            .as_deref()
            .map(|folder| (folder, "LIBTORCH"));
        if let Some((folder, name)) = given.or(environment) {
            let libtorch = self.inspect_given(folder, wanted.cuda).map_err(|reason| {
                anyhow!(
                    "{name}: {reason:#}; name the `torch` folder of a torch {TORCH} there, or leave {name} out and set-up brings one"
                )
            })?;
            let why = if given.is_some() {
                "as --libtorch says"
            } else {
                "as the variable LIBTORCH says"
            };
            return Ok((libtorch, why));
        }
        let enough = |libtorch: &Libtorch| libtorch.cuda || !wanted.cuda;
        if let Some(libtorch) = self.linked().filter(enough) {
            return Ok((libtorch, "chosen by an earlier set-up"));
        }
        if let Some(folder) = python::torch_folder(self.host) {
            let tried = Libtorch::inspect(&folder)
                .and_then(|libtorch| libtorch.try_out(self.host).map(|()| libtorch))
                .and_then(|libtorch| {
                    ensure!(enough(&libtorch), "{} has no CUDA half", folder.display());
                    Ok(libtorch)
                });
            match tried {
                Ok(libtorch) => return Ok((libtorch, "because the Python on the PATH has it")),
                Err(reason) => println!("not using Python's torch: {reason:#}"),
            }
        }
        Ok((
            self.cached(wanted.cuda)?,
            "from the pinned wheels in the per-user cache",
        ))
    }

    fn inspect_given(&self, folder: &Path, cuda: bool) -> Result<Libtorch> {
        let folder = std::path::absolute(folder).context("not a path")?;
        let libtorch = Libtorch::inspect(&folder)?;
        ensure!(
            libtorch.cuda || !cuda,
            "{} has no CUDA half (lib/libtorch_cuda.so)",
            folder.display()
        );
        libtorch.try_out(self.host)?;
        Ok(libtorch)
    }

    /// What an earlier set-up linked, if that is still there and whole.
    fn linked(&self) -> Option<Libtorch> {
        let config = std::fs::read_to_string(self.host.root.join(CONFIG)).ok()?;
        let name = LINKS.into_iter().find(|name| config == config_text(name))?;
        let target = std::fs::read_link(self.host.root.join(name)).ok()?;
        Libtorch::inspect(&target).ok()
    }

    /// Points the clone at a libtorch.
    fn link(&self, libtorch: &Libtorch) -> Result<()> {
        let [cpu, cuda] = LINKS;
        let name = if libtorch.cuda { cuda } else { cpu };
        let link = self.host.root.join(name);
        if std::fs::read_link(&link).ok().as_deref() != Some(&libtorch.folder) {
            ensure!(
                link.is_symlink() || !link.exists(),
                "{} is in the way of the link that set-up makes: move it elsewhere",
                link.display()
            );
            let linking = || {
                format!(
                    "cannot link {} to {}",
                    link.display(),
                    libtorch.folder.display()
                )
            };
            let beside = link.with_extension("new");
            cache::remove(&beside)?;
            std::fs::create_dir_all(self.host.root.join(".libtorch")).with_context(linking)?;
            std::os::unix::fs::symlink(&libtorch.folder, &beside).with_context(linking)?;
            std::fs::rename(&beside, &link).with_context(linking)?;
        }
        cache::write(&self.host.root.join(CONFIG), &config_text(name))
    }
}

/// The file that `.cargo/config.toml` includes.
const CONFIG: &str = ".libtorch/config.toml";

/// The clone's links, without and with CUDA. Two names, because `torch-sys` is built again only when the *name* of the folder
/// changes, and it must be: it looks for the CUDA half when it is built.
const LINKS: [&str; 2] = [".libtorch/torch", ".libtorch/torch-cuda"];

fn config_text(link: &str) -> String {
    format!(
        "# Written by `cargo xtask setup`; the path starts at the clone's root.\n\
         [env]\n\
         LIBTORCH = {{ value = \"{link}\", relative = true }}\n"
    )
}
