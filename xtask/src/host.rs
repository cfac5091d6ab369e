//! The machine and the clone this program runs in: where things are, and how other programs are started.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::Cache;

/// The compiler, as it calls itself.
#[derive(Clone, Debug)]
pub(crate) struct Rustc {
    /// Name, version, commit and date.
    pub(crate) version: String,
    /// The platform it runs on and builds for.
    pub(crate) host: String,
}

/// What the environment says, read once. Tests build their own.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// The workspace's root folder.
    pub(crate) root: PathBuf,
    /// `LIBTORCH`, where the user set it.
    pub(crate) libtorch: Option<PathBuf>,
    /// Whether `LIBTORCH_USE_PYTORCH` is set; to anything, as `torch-sys` reads it.
    pub(crate) use_pytorch: bool,
    /// `CXX`, the C++ compiler `torch-sys` would use too.
    pub(crate) cxx: Option<OsString>,
    /// Where programs are looked for.
    pub(crate) path: OsString,
    /// The per-user cache.
    pub(crate) cache: Cache,
}

impl Host {
    /// Reads the environment.
    pub(crate) fn from_env() -> Result<Self> {
        // `cargo run` says where the package is now; the folder it was built in is the answer for a binary started by itself.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package
            .parent()
            .context("the xtask package has no parent folder")?
            .to_owned();
        let libtorch = users_libtorch(&root, std::env::var_os("LIBTORCH"));
        Ok(Self {
            libtorch,
            use_pytorch: std::env::var_os("LIBTORCH_USE_PYTORCH").is_some(),
            cxx: std::env::var_os("CXX").filter(|cxx| !cxx.is_empty()),
            path: std::env::var_os("PATH").unwrap_or_default(),
            cache: Cache::from_env()?,
            root,
        })
    }

    /// The first executable of this name on the search path.
    pub(crate) fn find(&self, program: impl AsRef<OsStr>) -> Option<PathBuf> {
        let program = Path::new(program.as_ref());
        if program.components().count() > 1 {
            return is_executable(program).then(|| program.to_owned());
        }
        std::env::split_paths(&self.path)
            .map(|folder| folder.join(program))
            .find(|candidate| is_executable(candidate))
    }

    /// Python, which brings pip.
    pub(crate) fn python(&self) -> Result<PathBuf> {
        self.find("python3").context(
            "no `python3` on the PATH: install Python 3.9 or newer with pip (Debian, Ubuntu: `apt install python3 python3-pip`; \
             Fedora: `dnf install python3 python3-pip`)",
        )
    }

    /// The compiler that `torch-sys` will be built with: `CXX`, else `c++`.
    pub(crate) fn cxx(&self) -> Result<PathBuf> {
        let named = self.cxx.as_deref().unwrap_or(OsStr::new("c++"));
        self.find(named).with_context(|| {
            format!(
                "no C++ compiler: `{}` is not on the PATH; install one (Debian, Ubuntu: `apt install g++`; \
                 Fedora: `dnf install gcc-c++`) or name yours in the variable CXX",
                named.display()
            )
        })
    }

    /// A program that sees this host's search path.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", &self.path).current_dir(&self.root);
        command
    }

    /// The compiler that cargo uses.
    pub(crate) fn rustc(&self) -> Result<Rustc> {
        let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let text = output(self.command(program).arg("-vV"))?;
        let host = text.lines().find_map(|line| line.strip_prefix("host: "));
        Ok(Rustc {
            version: text.lines().next().unwrap_or_default().to_owned(),
            host: host.context("`rustc -vV` names no host")?.to_owned(),
        })
    }

    /// Cargo, in the workspace's root.
    ///
    /// This program was itself started by cargo, which put the clone's `[env]` table into our environment. Passed on, that
    /// value would win over the table as it is *now*, after set-up has changed it.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        match &self.libtorch {
            Some(folder) => command.env("LIBTORCH", folder),
            None => command.env_remove("LIBTORCH"),
        };
        command
    }
}

/// `LIBTORCH` as the user set it: not the value that cargo took from the clone's own configuration.
fn users_libtorch(root: &Path, value: Option<OsString>) -> Option<PathBuf> {
    let folder = PathBuf::from(value.filter(|value| !value.is_empty())?);
    let ours = [".cargo", ".libtorch"]
        .iter()
        .any(|name| folder.starts_with(root.join(name)));
    (!ours).then_some(folder)
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Runs a command with our streams, says which, and fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    announce(command);
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    if !status.success() {
        bail!("`{}` failed ({status})", line(command));
    }
    Ok(())
}

/// Prints a command before it runs.
pub(crate) fn announce(command: &Command) {
    println!("$ {}", line(command));
}

/// What a command prints to its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", command.get_program().display()))?;
    if !output.status.success() {
        let last = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed ({}): {}",
            line(command),
            output.status,
            last.trim_end()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed text that is not UTF-8", line(command)))
}

/// A command as one would type it, without the folder of the program.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let mut line = name.display().to_string();
    for argument in command.get_args() {
        line.push(' ');
        let text = argument.to_string_lossy();
        if text.contains(char::is_whitespace) {
            line.push_str(&format!("'{text}'"));
        } else {
            line.push_str(&text);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargos_own_value_of_libtorch_is_not_the_users() {
        let root = Path::new("/clone");
        let users = |value: &str| users_libtorch(root, Some(value.into()));
        assert_eq!(users("/clone/.cargo/not-set-up"), None);
        assert_eq!(users("/clone/.libtorch/torch"), None);
        assert_eq!(users(""), None);
        assert_eq!(users_libtorch(root, None), None);
        assert_eq!(
            users("/clone-two/.libtorch/torch"),
            Some("/clone-two/.libtorch/torch".into())
        );
    }

    #[test]
    fn a_command_prints_as_typed() {
        let mut command = Command::new("/usr/bin/python3");
        command.args(["-m", "pip", "two words"]);
        assert_eq!(line(&command), "python3 -m pip 'two words'");
    }
}
