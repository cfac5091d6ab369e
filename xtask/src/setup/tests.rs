//! Set-up on a machine made for the test: a `python3` that plays pip, small wheels with real shared libraries, an empty cache.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{Setup, Wanted};
use crate::cache::{Cache, sha256};
use crate::host::Host;
use crate::pins::{File, Held, Model, Package, Pins, TORCH, Templates, Wheel};

/// What pip does with a wheel that is asked for; `$name` is the package, `$dest` the folder it goes to.
const SERVE: &str = r#"cp "$wheels/$name.whl" "$dest/""#;

struct Machine {
    folder: TempDir,
    host: Host,
    pins: &'static Pins,
}

impl Machine {
    /// A machine whose pins name no files for tests.
    fn new() -> Result<Self> {
        let mut machine = Self::with_test_files()?;
        machine.pins = Box::leak(Box::new(Pins {
            tokenizers: &[],
            templates: &[],
            ..*machine.pins
        }));
        Ok(machine)
    }

    fn with_test_files() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        for name in ["bin", "wheels", "clone"] {
            fs::create_dir(at(name))?;
        }
        let pins = make_wheels(folder.path())?;
        let host = Host {
            root: at("clone"),
            libtorch: None,
            use_pytorch: false,
            cxx: None,
            path: at("bin").into(),
            cache: Cache::at(at("cache")),
        };
        let machine = Self { folder, host, pins };
        // Not a link: a compiler looks for its linker on the search path.
        machine.program(
            "c++",
            &format!(
                "PATH=/usr/bin:/bin exec '{}' \"$@\"",
                real("c++")?.display()
            ),
        )?;
        machine.python(SERVE, "exit 0")?;
        Ok(machine)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a `python3` on the path: `download` is what its pip does, `find_torch` what it says of an installed torch. Scripts
    /// that it is given run in the real one.
    fn python(&self, download: &str, find_torch: &str) -> Result<()> {
        self.python_that(
            download,
            find_torch,
            &format!("exec '{}' \"$@\"", real("python3")?.display()),
        )
    }

    fn python_that(&self, download: &str, find_torch: &str, unpack: &str) -> Result<()> {
        self.program(
            "python3",
            &format!(
                r#"PATH=/usr/bin:/bin
wheels='{wheels}'
case "$*" in
    "-m pip download"*) ;;
    "-I "*) {unpack} ;;
    *) {find_torch} ;;
esac
while [ $# -gt 1 ]; do
    case "$1" in --dest) dest=$2 ;; --requirement) requirement=$2 ;; esac
    shift
done
name=$(sed 's/==.*//' "$requirement")
echo "$name" >> "$wheels/asked"
mkdir -p "$dest"
{download}
"#,
                wheels = self.at("wheels").display(),
            ),
        )
    }

    fn program(&self, name: &str, script: &str) -> Result<()> {
        // Written by another process: a file this one still held open for writing, through a fork elsewhere, could not be started.
        let path = self.at("bin").join(name);
        let mut tee = Command::new("tee")
            .arg(&path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()?;
        tee.stdin
            .take()
            .context("piped")?
            .write_all(format!("#!/bin/sh\n{script}").as_bytes())?;
        ensure!(tee.wait()?.success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    fn setup(&self) -> Result<PathBuf> {
        self.setup_wanting(&Wanted::default())
    }

    fn setup_wanting(&self, wanted: &Wanted) -> Result<PathBuf> {
        let setup = Setup {
            host: &self.host,
            pins: self.pins,
            free_bytes: |_| Ok(u64::MAX),
        };
        let model = setup.run(wanted)?;
        setup.tokenizers()?;
        Ok(model)
    }

    /// The error of a set-up, as the program prints it.
    fn refused(&self) -> String {
        match self.setup() {
            Ok(_) => "no error".to_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    /// What pip was asked for so far.
    fn asked(&self) -> Vec<String> {
        let log = fs::read_to_string(self.at("wheels/asked")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Puts an `npm` on the path that packs: `pack` is what it does, `$name` the package.
    fn npm(&self, pack: &str) -> Result<()> {
        self.program(
            "npm",
            &format!(
                r#"PATH=/usr/bin:/bin
wheels='{wheels}'
for last; do :; done
name=${{last%@1.0}}
echo "$name" >> "$wheels/asked"
{pack}
"#,
                wheels = self.at("wheels").display(),
            ),
        )
    }

    /// Set-up with another amount of room on the disk.
    fn test_files(&self, free_bytes: fn(&Path) -> std::io::Result<u64>) -> Result<()> {
        Setup {
            host: &self.host,
            pins: self.pins,
            free_bytes,
        }
        .packages()
    }

    /// The error of a set-up that wants these variables of the Python file with templates.
    fn strings_refused(&self, variables: &'static [(&'static str, &'static str)]) -> String {
        let mut templates = self.pins.templates.to_vec();
        for templates in &mut templates {
            if let Held::Strings { file, .. } = templates.held {
                templates.held = Held::Strings { file, variables };
            }
        }
        let pins = Pins {
            templates: templates.leak(),
            ..*self.pins
        };
        let setup = Setup {
            host: &self.host,
            pins: &pins,
            free_bytes: |_| Ok(u64::MAX),
        };
        match setup.templates() {
            Ok(()) => "no error".to_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    /// A folder like an installed `torch`, with some version.
    fn installed_torch(&self, version: &str) -> Result<PathBuf> {
        let torch = self.at("site-packages/torch");
        make_torch(&torch, version)?;
        Ok(torch)
    }
}

/// A program of the real machine, with links and shims resolved as far as a start from elsewhere needs.
fn real(program: &str) -> Result<PathBuf> {
    if program == "python3" {
        let output = Command::new(program)
            .args(["-c", "import sys; print(sys.executable)"])
            .output()?;
        return Ok(String::from_utf8(output.stdout)?.trim().into());
    }
    let path = std::env::var_os("PATH").context("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.exists())
        .context("not on the PATH")
}

fn make_torch(torch: &Path, version: &str) -> Result<()> {
    let header = torch.join("include/torch/csrc/api/include/torch");
    fs::create_dir_all(&header)?;
    fs::write(header.join("torch.h"), "")?;
    fs::create_dir_all(torch.join("lib"))?;
    fs::write(
        torch.join("version.py"),
        format!("debug = False\n__version__ = '{version}'\n"),
    )?;
    for name in ["c10", "torch_cpu", "torch"] {
        let status = Command::new("c++")
            .args(["-shared", "-fPIC", "-x", "c++", "/dev/null", "-o"])
            .arg(torch.join(format!("lib/lib{name}.so")))
            .status()?;
        ensure!(status.success());
    }
    Ok(())
}

/// Wheels in the layout of the real ones, `torch` with a CUDA half that a CPU set-up leaves out.
fn make_wheels(machine: &Path) -> Result<&'static Pins> {
    let content = machine.join("content");
    make_torch(&content.join("torch"), &format!("{TORCH}+cu130"))?;
    fs::write(content.join("torch/lib/libtorch_cuda.so"), "CUDA")?;
    fs::create_dir_all(content.join("nvidia/lib"))?;
    fs::write(content.join("nvidia/lib/libcudart.so.13"), "runtime")?;
    fs::create_dir_all(content.join("models"))?;
    fs::write(content.join("models/tiny.gguf"), "a model")?;
    let wheel =
        |name: &'static str, folder: &str, keep: &'static [&'static str]| -> Result<Wheel> {
            let file = machine.join(format!("wheels/{name}.whl"));
            let zip = Command::new("python3")
                .args(["-m", "zipfile", "-c"])
                .arg(&file)
                .arg(content.join(folder))
                .status()?;
            ensure!(zip.success());
            let sha256 = sha256(&file)?.leak();
            Ok(Wheel {
                name,
                version: "1.0",
                sha256,
                bytes: 500_000_000,
                keep,
                kept_bytes: 250_000_000,
            })
        };
    let cpu = vec![
        wheel(
            "torch",
            "torch",
            &[
                "torch/lib/libtorch_cpu.so",
                "torch/lib/libc10.so",
                "torch/include/",
                "torch/version.py",
            ],
        )?,
        wheel("cuda-runtime", "nvidia", &["nvidia/lib/libcudart.so.13"])?,
    ];
    let model = Model {
        wheel: wheel("model", "models", &["models/tiny.gguf"])?,
        file: "tiny.gguf",
        sha256: sha256(&content.join("models/tiny.gguf"))?.leak(),
    };
    let folder = content.join("chat/jinja");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("plain.jinja"), "a template")?;
    fs::write(folder.join("other.jinja"), "not pinned")?;
    fs::create_dir_all(content.join("trainer"))?;
    fs::write(content.join("trainer/chat.py"), MODULE)?;
    fs::write(folder.join("string.jinja"), STRING)?;
    let templates = vec![
        Templates {
            wheel: wheel("templates", "chat", &["chat/jinja/"])?,
            held: Held::Files("chat/jinja"),
            files: vec![pinned("plain.jinja", &folder)?].leak(),
        },
        Templates {
            wheel: wheel("trainer", "trainer", &["trainer/chat.py"])?,
            held: Held::Strings {
                file: "trainer/chat.py",
                variables: &[("first_template", "string.jinja")],
            },
            files: vec![pinned("string.jinja", &folder)?].leak(),
        },
    ];
    let mut tokenizers = Vec::new();
    for name in ["first", "second"] {
        let models = content.join(name).join("package/models");
        fs::create_dir_all(&models)?;
        fs::write(models.join("tokenizer.json"), format!("{name} tokenizer"))?;
        fs::write(
            models.join("tokenizer_config.json"),
            format!("{name} roles"),
        )?;
        let tar = Command::new("tar")
            .arg("-czf")
            .arg(machine.join(format!("wheels/{name}.tgz")))
            .arg("-C")
            .args([&content.join(name), Path::new("package")])
            .status()?;
        ensure!(tar.success());
        tokenizers.push(Package {
            name,
            version: "1.0",
            folder: name,
            bytes: 10_000_000,
            files: vec![
                pinned("tokenizer.json", &models)?,
                pinned("tokenizer_config.json", &models)?,
            ]
            .leak(),
        });
    }
    Ok(Box::leak(Box::new(Pins {
        cpu: cpu.leak(),
        cuda: &[],
        model,
        tokenizers: tokenizers.leak(),
        templates: templates.leak(),
    })))
}

fn pinned(name: &'static str, folder: &Path) -> Result<File> {
    let path = folder.join(name);
    Ok(File {
        name,
        sha256: sha256(&path)?.leak(),
        bytes: path.metadata()?.len(),
    })
}

#[test]
fn from_nothing_then_again() -> Result<()> {
    let machine = Machine::new()?;
    let model = machine.setup()?;

    let made = machine.at(&format!("cache/libtorch-{TORCH}-cpu"));
    assert_eq!(
        fs::read_link(machine.at("clone/.libtorch/torch"))?,
        made.join("torch")
    );
    assert_eq!(
        fs::read_to_string(machine.at("clone/.libtorch/config.toml"))?,
        "# Written by `cargo xtask setup`; the path starts at the clone's root.\n\
         [env]\nLIBTORCH = { value = \".libtorch/torch\", relative = true }\n"
    );
    let mut libraries: Vec<_> = fs::read_dir(made.join("torch/lib"))?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    libraries.sort();
    assert_eq!(libraries, ["libc10.so", "libtorch.so", "libtorch_cpu.so"]);
    assert_eq!(
        fs::read_to_string(made.join("nvidia/lib/libcudart.so.13"))?,
        "runtime"
    );
    assert_eq!(fs::read_to_string(&model)?, "a model");
    assert_eq!(model, machine.at("cache/models/tiny.gguf"));
    assert_eq!(fs::read_dir(machine.at("cache/downloads"))?.count(), 0);
    assert_eq!(machine.asked(), ["torch", "cuda-runtime", "model"]);

    machine.setup()?;
    assert_eq!(machine.asked().len(), 3, "a second set-up fetches nothing");

    let clone = machine.at("second");
    fs::create_dir(&clone)?;
    let host = Host {
        root: clone.clone(),
        ..machine.host.clone()
    };
    Setup {
        host: &host,
        pins: machine.pins,
        free_bytes: |_| Ok(0),
    }
    .run(&Wanted::default())?;
    assert_eq!(
        fs::read_link(clone.join(".libtorch/torch"))?,
        made.join("torch")
    );
    assert_eq!(machine.asked().len(), 3, "a second clone fetches nothing");
    Ok(())
}

#[test]
fn the_libtorch_made_for_the_cpu_finds_its_halves() -> Result<()> {
    let machine = Machine::new()?;
    machine.setup()?;
    // A program that asks for libtorch.so alone: its two halves are found by the run path that libtorch.so carries.
    let program = machine.at("program");
    let lib = machine.at("clone/.libtorch/torch/lib");
    let link = Command::new("c++")
        .args(["-x", "c++", "-", "-o"])
        .arg(&program)
        .arg("-L")
        .arg(&lib)
        .args([
            format!("-Wl,-rpath,{}", lib.display()).as_str(),
            "-Wl,--no-as-needed",
            "-ltorch",
        ])
        .stdin({
            fs::write(machine.at("empty.cpp"), "int main() { return 0; }")?;
            fs::File::open(machine.at("empty.cpp"))?
        })
        .status()?;
    assert!(link.success());
    let started = Command::new(&program)
        .env_remove("LD_LIBRARY_PATH")
        .output()?;
    assert!(
        started.status.success(),
        "{}",
        String::from_utf8_lossy(&started.stderr)
    );
    Ok(())
}

#[test]
fn a_download_cut_once_is_fetched_again() -> Result<()> {
    let machine = Machine::new()?;
    machine.python(
        r#"if [ $(grep -c "^$name$" "$wheels/asked") = 1 ]; then head -c 100 "$wheels/$name.whl" > "$dest/$name.whl"; else cp "$wheels/$name.whl" "$dest/"; fi"#,
        "exit 0",
    )?;
    machine.setup()?;
    assert_eq!(
        machine.asked(),
        [
            "torch",
            "torch",
            "cuda-runtime",
            "cuda-runtime",
            "model",
            "model"
        ]
    );
    Ok(())
}

#[test]
fn a_download_cut_twice_is_refused_and_what_was_finished_is_kept() -> Result<()> {
    let machine = Machine::new()?;
    machine.python(
        r#"if [ "$name" = cuda-runtime ]; then head -c 100 "$wheels/$name.whl" > "$dest/$name.whl"; else cp "$wheels/$name.whl" "$dest/"; fi"#,
        "exit 0",
    )?;
    assert_eq!(
        machine.refused(),
        format!(
            "cuda-runtime 1.0 arrived twice with a wrong SHA-256 (expected {}): the download was cut or changed on the way; \
             run the command again, and if that repeats look at the index or mirror pip uses (`python3 -m pip config list`)",
            machine.pins.cpu[1].sha256
        )
    );
    assert!(!machine.at("cache/downloads/.partial").exists());
    assert!(!machine.at(&format!("cache/libtorch-{TORCH}-cpu")).exists());
    assert!(!machine.at("clone/.libtorch").exists());

    machine.python(SERVE, "exit 0")?;
    machine.setup()?;
    assert_eq!(
        machine.asked(),
        [
            "torch",
            "cuda-runtime",
            "cuda-runtime",
            "cuda-runtime",
            "model"
        ]
    );
    Ok(())
}

#[test]
fn a_hash_that_pip_refuses_is_the_same_error() -> Result<()> {
    let machine = Machine::new()?;
    machine.python("echo 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.' >&2; exit 1", "exit 0")?;
    assert!(
        machine
            .refused()
            .starts_with("torch 1.0 arrived twice with a wrong SHA-256")
    );
    assert_eq!(machine.asked(), ["torch", "torch"]);
    Ok(())
}

#[test]
fn a_damaged_finished_download_is_fetched_again() -> Result<()> {
    let machine = Machine::new()?;
    fs::create_dir_all(machine.at("cache/downloads"))?;
    fs::write(machine.at("cache/downloads/torch-1.0.whl"), "half")?;
    machine.setup()?;
    assert_eq!(machine.asked(), ["torch", "cuda-runtime", "model"]);
    Ok(())
}

#[test]
fn a_half_made_libtorch_never_counts() -> Result<()> {
    let machine = Machine::new()?;
    let made = machine.at(&format!("cache/libtorch-{TORCH}-cpu"));
    make_torch(&made.join("torch"), TORCH)?;
    fs::create_dir_all(machine.at("cache/.partial-cpu/torch/lib"))?;
    fs::write(
        machine.at("cache/.partial-cpu/torch/lib/libtorch_cuda.so"),
        "left over",
    )?;
    machine.setup()?;
    assert_eq!(machine.asked(), ["torch", "cuda-runtime", "model"]);
    assert!(!made.join("torch/lib/libtorch_cuda.so").exists());
    Ok(())
}

#[test]
fn a_damaged_model_is_fetched_again() -> Result<()> {
    let machine = Machine::new()?;
    let model = machine.setup()?;
    fs::write(&model, "a modem")?;
    machine.setup()?;
    assert_eq!(fs::read_to_string(&model)?, "a model");
    assert_eq!(machine.asked(), ["torch", "cuda-runtime", "model", "model"]);
    Ok(())
}

#[test]
fn no_python() -> Result<()> {
    let machine = Machine::new()?;
    fs::remove_file(machine.at("bin/python3"))?;
    assert_eq!(
        machine.refused(),
        "no `python3` on the PATH: install Python 3.9 or newer with pip (Debian, Ubuntu: `apt install python3 python3-pip`; \
         Fedora: `dnf install python3 python3-pip`)"
    );
    Ok(())
}

#[test]
fn no_pip() -> Result<()> {
    let machine = Machine::new()?;
    machine.python("echo 'python3: No module named pip' >&2; exit 1", "exit 0")?;
    assert_eq!(
        machine.refused(),
        format!(
            "{} has no pip: install it (Debian, Ubuntu: `apt install python3-pip`; elsewhere: `python3 -m ensurepip --upgrade`)",
            machine.at("bin/python3").display()
        )
    );
    Ok(())
}

#[test]
fn no_compiler() -> Result<()> {
    let mut machine = Machine::new()?;
    fs::remove_file(machine.at("bin/c++"))?;
    assert_eq!(
        machine.refused(),
        "no C++ compiler: `c++` is not on the PATH; install one (Debian, Ubuntu: `apt install g++`; Fedora: `dnf install gcc-c++`) \
         or name yours in the variable CXX"
    );
    assert!(
        machine.asked().is_empty(),
        "asked for before anything is fetched"
    );
    machine.host.cxx = Some("clang++-99".into());
    assert!(
        machine
            .refused()
            .starts_with("no C++ compiler: `clang++-99` is not on the PATH;")
    );
    Ok(())
}

#[test]
fn no_network() -> Result<()> {
    let machine = Machine::new()?;
    machine.python(
        r#"echo "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError': /simple/torch/" >&2
echo "ERROR: No matching distribution found for torch" >&2
exit 1"#,
        "exit 0",
    )?;
    assert_eq!(
        machine.refused(),
        "cannot fetch torch 1.0: the package index is not reachable; look at the network and at pip's proxy and index settings \
         (`python3 -m pip config list`), then run the command again: finished downloads are kept"
    );
    Ok(())
}

#[test]
fn no_such_wheel() -> Result<()> {
    let machine = Machine::new()?;
    machine.python(
        "echo 'ERROR: No matching distribution found for torch' >&2; exit 1",
        "exit 0",
    )?;
    assert_eq!(
        machine.refused(),
        "pip found no torch 1.0 for Linux x86-64: the index or mirror it is set to use lacks it (`python3 -m pip config list`)"
    );
    Ok(())
}

#[test]
fn a_full_disk_before_during_the_fetch_and_during_the_unpacking() -> Result<()> {
    let machine = Machine::new()?;
    let cache = machine.at("cache");
    let full = |found: &str| {
        format!(
            "not enough disk space in {}: {found}; make room, or name a folder on another disk in LM_SAFETY_CACHE",
            cache.display()
        )
    };
    // Two wheels of 0.5 GB that unpack to 0.25 GB each.
    let setup = Setup {
        host: &machine.host,
        pins: machine.pins,
        free_bytes: |_| Ok(1_499_999_999),
    };
    let error = setup.run(&Wanted::default()).expect_err("too little room");
    assert_eq!(error.to_string(), full("1.5 GB is needed, 1.4 GB is free"));
    assert!(machine.asked().is_empty());

    machine.python(
        "echo 'ERROR: [Errno 28] No space left on device' >&2; exit 1",
        "exit 0",
    )?;
    assert_eq!(
        machine.refused(),
        full("it filled up while torch 1.0 was being fetched")
    );

    machine.python_that(SERVE, "exit 0", "exit 28")?;
    assert_eq!(
        machine.refused(),
        full("it filled up while torch 1.0 was being unpacked")
    );
    assert!(!machine.at("clone/.libtorch").exists());
    Ok(())
}

#[test]
fn a_libtorch_the_user_names_is_used_or_refused() -> Result<()> {
    let mut machine = Machine::new()?;
    let torch = machine.installed_torch("2.10.0+cu130")?;
    let fix = format!(
        "name the `torch` folder of a torch {TORCH} there, or leave LIBTORCH out and set-up brings one"
    );
    machine.host.libtorch = Some(torch.clone());
    assert_eq!(
        machine.refused(),
        format!(
            "LIBTORCH: {} holds libtorch 2.10.0+cu130, but this workspace needs {TORCH}; {fix}",
            torch.display()
        )
    );
    let nowhere = machine.at("nowhere");
    machine.host.libtorch = Some(nowhere.clone());
    assert_eq!(
        machine.refused(),
        format!(
            "LIBTORCH: {} is not a libtorch folder: it has neither version.py (a wheel's `torch` folder) nor build-version \
             (an archive's); {fix}",
            nowhere.display()
        )
    );
    // An archive's way to state the version, and one library missing.
    fs::remove_file(torch.join("version.py"))?;
    fs::write(torch.join("build-version"), format!("{TORCH}+cpu\n"))?;
    fs::rename(torch.join("lib/libc10.so"), torch.join("lib/elsewhere.so"))?;
    machine.host.libtorch = Some(torch.clone());
    assert_eq!(
        machine.refused(),
        format!(
            "LIBTORCH: {} is not a whole libtorch: it has no lib/libc10.so; {fix}",
            torch.display()
        )
    );
    assert!(!machine.at("clone/.libtorch").exists());
    fs::rename(torch.join("lib/elsewhere.so"), torch.join("lib/libc10.so"))?;
    machine.setup()?;
    assert_eq!(fs::read_link(machine.at("clone/.libtorch/torch"))?, torch);
    assert_eq!(machine.asked(), ["model"]);

    let cuda = machine
        .setup_wanting(&Wanted {
            cuda: true,
            libtorch: None,
        })
        .expect_err("a CPU libtorch");
    assert_eq!(
        format!("{cuda:#}"),
        format!(
            "LIBTORCH: {} has no CUDA half (lib/libtorch_cuda.so); {fix}",
            torch.display()
        )
    );
    Ok(())
}

#[test]
fn a_libtorch_with_cuda_gets_a_link_of_its_own() -> Result<()> {
    let machine = Machine::new()?;
    machine.setup()?;
    let torch = machine.installed_torch(TORCH)?;
    fs::copy(
        torch.join("lib/libc10.so"),
        torch.join("lib/libtorch_cuda.so"),
    )?;
    machine.setup_wanting(&Wanted {
        cuda: true,
        libtorch: Some(torch.clone()),
    })?;
    assert_eq!(
        fs::read_link(machine.at("clone/.libtorch/torch-cuda"))?,
        torch
    );
    let config = fs::read_to_string(machine.at("clone/.libtorch/config.toml"))?;
    assert!(config.contains("\".libtorch/torch-cuda\""), "{config}");
    // And it stays the choice.
    machine.setup()?;
    assert_eq!(
        fs::read_to_string(machine.at("clone/.libtorch/config.toml"))?,
        config
    );
    Ok(())
}

#[test]
fn pythons_torch_is_used_when_it_fits() -> Result<()> {
    let machine = Machine::new()?;
    let torch = machine.installed_torch("2.9.1")?;
    machine.python(SERVE, &format!("echo '{}'; exit 0", torch.display()))?;
    machine.setup()?;
    assert_eq!(
        machine.asked(),
        ["torch", "cuda-runtime", "model"],
        "another version is passed over"
    );

    make_torch(&torch, TORCH)?;
    fs::remove_dir_all(machine.at("clone/.libtorch"))?;
    machine.setup()?;
    assert_eq!(fs::read_link(machine.at("clone/.libtorch/torch"))?, torch);
    Ok(())
}

#[test]
fn a_libtorch_that_does_not_link_or_start_is_named() -> Result<()> {
    let mut machine = Machine::new()?;
    let torch = machine.installed_torch(TORCH)?;
    fs::write(torch.join("lib/libtorch_cpu.so"), "not a library")?;
    machine.host.libtorch = Some(torch.clone());
    let error = machine.refused();
    assert!(
        error.starts_with(&format!(
            "LIBTORCH: cannot link against {}: ",
            torch.join("lib").display()
        )),
        "{error}"
    );
    Ok(())
}

#[test]
fn something_in_the_way_of_the_link_is_not_removed() -> Result<()> {
    let machine = Machine::new()?;
    let folder = machine.at("clone/.libtorch/torch");
    fs::create_dir_all(&folder)?;
    assert_eq!(
        machine.refused(),
        format!(
            "{} is in the way of the link that set-up makes: move it elsewhere",
            folder.display()
        )
    );
    assert!(folder.is_dir());
    Ok(())
}

/// A Python file that assigns templates, with the line ends of a real one; it cannot run.
const MODULE: &str = "import nothing_of_this_name\r
first_template = \\\r
    \"{{ 'a\\n' }}\"\\\r
    'é'\r
pass\r
made_template = first_template.strip()\r
";

/// What [`MODULE`] assigns to `first_template`.
const STRING: &str = "{{ 'a\n' }}é";

/// What npm does with a package that is asked for.
const PACK: &str = r#"cp "$wheels/$name.tgz" "./$name-1.0.tgz""#;

#[test]
fn tokenizers_and_templates_come_once_and_damaged_ones_again() -> Result<()> {
    let machine = Machine::with_test_files()?;
    machine.npm(PACK)?;
    machine.setup()?;
    let first = machine.at("cache/tokenizers/first");
    assert_eq!(
        fs::read_to_string(first.join("tokenizer.json"))?,
        "first tokenizer"
    );
    assert_eq!(
        fs::read_to_string(first.join("tokenizer_config.json"))?,
        "first roles"
    );
    assert_eq!(
        fs::read_to_string(machine.at("cache/templates/plain.jinja"))?,
        "a template"
    );
    assert!(
        !machine.at("cache/templates/other.jinja").exists(),
        "only what is pinned"
    );
    assert_eq!(
        fs::read_to_string(machine.at("cache/templates/string.jinja"))?,
        STRING
    );
    assert!(!machine.at("cache/.partial-templates").exists());
    assert!(!machine.at("cache/tokenizers/.partial").exists());
    assert_eq!(fs::read_dir(machine.at("cache/downloads"))?.count(), 0);
    let all = [
        "torch",
        "cuda-runtime",
        "model",
        "first",
        "second",
        "templates",
        "trainer",
    ];
    assert_eq!(machine.asked(), all);

    machine.setup()?;
    assert_eq!(machine.asked(), all, "a second set-up fetches nothing");
    fs::write(first.join("tokenizer.json"), "first tokeniser")?;
    fs::write(machine.at("cache/templates/plain.jinja"), "another")?;
    machine.setup()?;
    assert_eq!(machine.asked()[7..], ["first", "templates"]);
    assert_eq!(
        fs::read_to_string(first.join("tokenizer.json"))?,
        "first tokenizer"
    );
    assert_eq!(
        fs::read_to_string(machine.at("cache/templates/plain.jinja"))?,
        "a template"
    );
    fs::write(machine.at("cache/templates/string.jinja"), "another")?;
    machine.setup()?;
    assert_eq!(machine.asked()[9..], ["trainer"]);
    assert_eq!(
        fs::read_to_string(machine.at("cache/templates/string.jinja"))?,
        STRING
    );
    Ok(())
}

#[test]
fn a_template_that_a_python_file_does_not_hold_is_named() -> Result<()> {
    let machine = Machine::with_test_files()?;
    let file = machine.at("cache/.partial-templates/trainer/chat.py");
    let file = file.display();
    assert_eq!(
        machine.strings_refused(&[("third_template", "string.jinja")]),
        format!("cannot unpack {file}: {file} assigns no plain string to third_template")
    );
    assert_eq!(
        machine.strings_refused(&[("made_template", "string.jinja")]),
        format!("cannot unpack {file}: {file} assigns no plain string to made_template")
    );
    assert!(!machine.at("cache/templates/string.jinja").exists());
    assert_eq!(
        machine.asked(),
        ["templates", "trainer"],
        "what was finished is kept"
    );
    assert_eq!(
        machine.strings_refused(&[("first_template", "string.jinja")]),
        "no error"
    );
    Ok(())
}

#[test]
fn without_npm_set_up_still_ends_well_and_the_reason_is_one_sentence() -> Result<()> {
    let machine = Machine::with_test_files()?;
    machine.setup()?;
    assert!(!machine.at("cache/tokenizers").exists());
    let error = machine.test_files(|_| Ok(u64::MAX)).expect_err("no npm");
    assert_eq!(
        format!("{error:#}"),
        "no `npm` on the PATH, which fetches them (Debian, Ubuntu: `apt install npm`; Fedora: `dnf install npm`)"
    );
    Ok(())
}

#[test]
fn a_package_that_is_not_the_pinned_one_is_not_kept() -> Result<()> {
    let machine = Machine::with_test_files()?;
    machine.npm(r#"cp "$wheels/first.tgz" "./$name-1.0.tgz""#)?;
    let error = machine
        .test_files(|_| Ok(u64::MAX))
        .expect_err("a wrong second");
    let error = format!("{error:#}");
    assert!(
        error.starts_with("second 1.0 is not what is pinned; nothing of it is kept: "),
        "{error}"
    );
    assert!(machine.at("cache/tokenizers/first/tokenizer.json").exists());
    assert!(!machine.at("cache/tokenizers/second").exists());

    machine.npm(PACK)?;
    machine.test_files(|_| Ok(u64::MAX))?;
    assert_eq!(
        machine.asked(),
        ["first", "second", "second"],
        "what was finished is kept"
    );
    Ok(())
}

#[test]
fn npms_failure_and_a_full_disk_are_named() -> Result<()> {
    let machine = Machine::with_test_files()?;
    machine.npm("echo 'npm error code ENOTFOUND' >&2; exit 1")?;
    let error = machine.test_files(|_| Ok(u64::MAX)).expect_err("npm fails");
    assert_eq!(
        format!("{error:#}"),
        "npm could not fetch first 1.0 (npm error code ENOTFOUND); look at the network and at npm's settings \
         (`npm config list`), then run the command again: finished tokenizers are kept"
    );
    let error = machine
        .test_files(|_| Ok(20_000_000))
        .expect_err("too little room");
    assert!(
        error
            .to_string()
            .contains("0.1 GB is needed, 0.0 GB is free"),
        "{error}"
    );
    assert_eq!(
        machine.asked(),
        ["first"],
        "the second try asked for nothing"
    );
    Ok(())
}
