//! Checkpoints: where a model's files are, what they hold, and how to read it, without libtorch.
//!
//! | given | read |
//! | --- | --- |
//! | a folder | `config.json`, `model.safetensors` or its shards, `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json` |
//! | a `.gguf` file | everything from the file |
//! | `org/name` or `org/name@revision` | the folder of that snapshot in the local hub cache |
//!
//! Pickled weights (`.bin`, `.pt`) are refused: reading them can run code.

pub mod gguf;
mod hash;
mod hub;
mod mmap;
mod safetensors;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use half::{bf16, f16};
use serde_json::Value;

use self::gguf::{GgmlType, Gguf, GgufError, Metadata};
pub(crate) use self::hash::hex;
use self::mmap::MappedFile;
pub(crate) use self::safetensors::SafetensorsFiles;
use crate::family::{self, Family, JsonConfig, MetadataConfig, Source};
use crate::spec::{DecoderSpec, Part};
use crate::{Error, Result};

/// A model's files, opened and checked against each other; weights are read on demand.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    family: &'static Family,
    spec: DecoderSpec,
    tensors: Tensors,
    /// Tensors that are part of the configuration, and no weights.
    configuration: Vec<String>,
    hash: OnceLock<String>,
}

#[derive(Debug)]
enum Tensors {
    Safetensors(SafetensorsFiles),
    Gguf(Box<Gguf>, MappedFile),
}

/// Element type of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoredType {
    F32,
    F16,
    Bf16,
    Quantized(GgmlType),
    Other(String),
}

/// A tensor as it stands in its file.
#[derive(Debug)]
pub(crate) struct StoredTensor<'a> {
    pub(crate) ty: StoredType,
    pub(crate) shape: &'a [usize],
    pub(crate) bytes: &'a [u8],
}

/// Where a checkpoint keeps its tokenizer and its chat template.
#[derive(Debug)]
pub(crate) enum TextSource<'a> {
    /// In files of this folder.
    Folder(&'a Path),
    /// In this metadata.
    Gguf(&'a Metadata),
}

impl Checkpoint {
    /// Opens a folder, a `.gguf` file, or a hub id that is in the local cache. Checks that every weight the configuration
    /// implies is there with the right shape, and that no other is.
    ///
    /// # Errors
    /// Files that are missing, malformed, pickled or at odds with each other; families and tensor types that are not known.
    pub fn open(model: impl AsRef<Path>) -> Result<Self> {
        let given = model.as_ref();
        let checkpoint = if given.is_dir() {
            Self::open_folder(given)?
        } else if given.is_file() {
            Self::open_file(given)?
        } else {
            match given.to_str() {
                Some(id) => Self::open_folder(&hub::resolve(id)?)?,
                None => return Err(Error::io(given)(std::io::ErrorKind::NotFound.into())),
            }
        };
        checkpoint.check()?;
        Ok(checkpoint)
    }

    fn open_folder(folder: &Path) -> Result<Self> {
        if !SafetensorsFiles::present(folder) {
            return Err(no_safetensors(folder));
        }
        let config_path = folder.join("config.json");
        if !config_path.exists() {
            let problem = "no `config.json` beside the weights".to_owned();
            return Err(Error::Checkpoint {
                path: folder.to_owned(),
                problem,
            });
        }
        let config = read_json(&config_path)?;
        let reader = JsonConfig::new(&config_path, &config)?;
        let (family, spec) = family::from_json(&reader)?;
        Ok(Self {
            path: folder.to_owned(),
            family,
            spec,
            tensors: Tensors::Safetensors(SafetensorsFiles::open(folder)?),
            configuration: Vec::new(),
            hash: OnceLock::new(),
        })
    }

    fn open_file(path: &Path) -> Result<Self> {
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        if PICKLED.contains(&extension) {
            return Err(pickled(path));
        }
        if extension == "safetensors" {
            let problem =
                "a safetensors file alone has no configuration: give the folder that holds it"
                    .to_owned();
            return Err(Error::Checkpoint {
                path: path.to_owned(),
                problem,
            });
        }
        let file = MappedFile::open(path)?;
        let gguf = Gguf::parse(file.bytes()).map_err(|source| Error::Gguf {
            path: path.to_owned(),
            source,
        })?;
        let architecture = gguf
            .metadata()
            .str("general.architecture")
            .map_err(|source| Error::Gguf {
                path: path.to_owned(),
                source,
            })?
            .to_owned();
        let config = MetadataConfig::new(path, &gguf, file.bytes(), &architecture);
        let (family, spec) = family::from_metadata(&architecture, &config)?;
        let configuration = config.into_read();
        Ok(Self {
            path: path.to_owned(),
            family,
            spec,
            configuration,
            tensors: Tensors::Gguf(Box::new(gguf), file),
            hash: OnceLock::new(),
        })
    }

    fn check(&self) -> Result<()> {
        let mut used = HashSet::new();
        for part in self.spec.parts() {
            let source = self.source(part);
            let stored = self.stored(&source)?;
            let expected = source.transform.stored_shape(&self.spec.part_shape(part));
            if stored.shape != expected {
                return Err(Error::Shape {
                    name: source.name,
                    path: self.path.clone(),
                    expected,
                    found: stored.shape.to_vec(),
                });
            }
            if let StoredType::Other(found) = stored.ty {
                return Err(Error::TensorType {
                    name: source.name,
                    path: self.path.clone(),
                    found,
                });
            }
            used.insert(source.name);
        }
        if self.spec.unembedding.tied {
            used.insert(self.source(Part::Unembedding).name);
        }
        used.extend(self.configuration.iter().cloned());
        // A weight that is there but not used would be a wrong model without a word. Masks and rotary frequencies that old
        // files store as buffers are recomputed from the configuration.
        let buffer = |name: &str| self.family.buffers.iter().any(|end| name.ends_with(end));
        let mut unused: Vec<&str> = self
            .names()
            .filter(|name| !used.contains(*name) && !buffer(name))
            .collect();
        if !unused.is_empty() {
            unused.sort_unstable();
            // Names from the file are escaped: a hostile one must not drive a terminal.
            let shown = unused
                .iter()
                .take(3)
                .map(|name| format!("`{}`", name.escape_debug()))
                .collect::<Vec<_>>()
                .join(", ");
            let problem = format!(
                "holds {} tensor{} that a `{}` of this configuration does not use: {shown}{}",
                unused.len(),
                if unused.len() == 1 { "" } else { "s" },
                self.family.name,
                if unused.len() > 3 { ", …" } else { "" }
            );
            return Err(Error::Checkpoint {
                path: self.path.clone(),
                problem,
            });
        }
        Ok(())
    }

    /// The folder or file this was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The decoder that the configuration describes.
    pub fn spec(&self) -> &DecoderSpec {
        &self.spec
    }

    /// Whether there is a tokenizer beside the weights.
    #[cfg(feature = "torch")]
    pub(crate) fn has_tokenizer(&self) -> bool {
        match &self.tensors {
            Tensors::Safetensors(_) => self.path.join("tokenizer.json").is_file(),
            Tensors::Gguf(gguf, _) => gguf.metadata().contains_key("tokenizer.ggml.model"),
        }
    }

    pub(crate) fn text_source(&self) -> TextSource<'_> {
        match &self.tensors {
            Tensors::Safetensors(_) => TextSource::Folder(&self.path),
            Tensors::Gguf(gguf, _) => TextSource::Gguf(gguf.metadata()),
        }
    }

    /// SHA-256 over the dequantised weights by canonical name, in hexadecimal: equal for a GGUF and a safetensors file of
    /// the same weights. Reads every weight the first time.
    ///
    /// # Errors
    /// What reading the weights may meet.
    pub fn model_hash(&self) -> Result<&str> {
        if let Some(hash) = self.hash.get() {
            return Ok(hash);
        }
        let hash = hash::model_hash(self)?;
        Ok(self.hash.get_or_init(|| hash))
    }

    /// The values of one weight in the decoder's arrangement, row-major, dequantised.
    ///
    /// # Errors
    /// A missing tensor or a type that cannot be dequantised.
    pub fn read_f32(&self, part: Part) -> Result<Vec<f32>> {
        let source = self.source(part);
        let stored = self.stored(&source)?;
        let count = stored.shape.iter().product();
        let mut values = vec![0.0; count];
        self.dequantize(&source.name, &stored, &mut values)?;
        Ok(source.transform.apply(values, stored.shape))
    }

    pub(crate) fn source(&self, part: Part) -> Source {
        match (&self.tensors, &self.family.gguf) {
            (Tensors::Gguf(..), Some(gguf)) => (gguf.source)(&self.spec, part),
            (Tensors::Safetensors(files), _) => {
                let mut source = (self.family.hf_source)(&self.spec, part);
                // A model saved without its head has no prefix, as GPT-2's own files.
                if let Some((_, bare)) = source.name.split_once('.')
                    && files.get(&source.name).is_none()
                    && files.get(bare).is_some()
                {
                    source.name = bare.to_owned();
                }
                source
            }
            // A GGUF file is only opened by a family that has an architecture there.
            (Tensors::Gguf(..), None) => (self.family.hf_source)(&self.spec, part),
        }
    }

    /// Where Hugging Face's own files have a weight, whatever file this is.
    pub(crate) fn hugging_face_source(&self, part: Part) -> Source {
        (self.family.hf_source)(&self.spec, part)
    }

    pub(crate) fn stored(&self, source: &Source) -> Result<StoredTensor<'_>> {
        let found = match &self.tensors {
            Tensors::Safetensors(files) => files.get(&source.name),
            Tensors::Gguf(gguf, file) => gguf.tensor(&source.name).and_then(|info| {
                Some(StoredTensor {
                    ty: match info.ty {
                        GgmlType::F32 => StoredType::F32,
                        GgmlType::F16 => StoredType::F16,
                        GgmlType::Bf16 => StoredType::Bf16,
                        other => StoredType::Quantized(other),
                    },
                    shape: &info.shape,
                    bytes: file.bytes().get(info.range.clone())?,
                })
            }),
        };
        found.ok_or_else(|| Error::MissingTensor {
            name: source.name.clone(),
            path: self.path.clone(),
        })
    }

    /// Writes the stored values as `f32`.
    pub(crate) fn dequantize(
        &self,
        name: &str,
        stored: &StoredTensor<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        match &stored.ty {
            StoredType::F32 => convert(stored.bytes, out, f32::from_le_bytes),
            StoredType::F16 => convert(stored.bytes, out, |two| f16::from_le_bytes(two).to_f32()),
            StoredType::Bf16 => convert(stored.bytes, out, |two| bf16::from_le_bytes(two).to_f32()),
            StoredType::Quantized(ty) => gguf::dequantize_parallel(*ty, stored.bytes, out)
                .map_err(|reason| {
                    let source = GgufError::Dequantize {
                        tensor: name.to_owned(),
                        reason,
                    };
                    Error::Gguf {
                        path: self.path.clone(),
                        source,
                    }
                })?,
            StoredType::Other(found) => {
                return Err(Error::TensorType {
                    name: name.to_owned(),
                    path: self.path.clone(),
                    found: found.clone(),
                });
            }
        }
        Ok(())
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match &self.tensors {
            Tensors::Safetensors(files) => Box::new(files.names()),
            Tensors::Gguf(gguf, _) => {
                Box::new(gguf.tensors().iter().map(|tensor| tensor.name.as_str()))
            }
        }
    }
}

pub(crate) fn convert<const N: usize>(
    bytes: &[u8],
    out: &mut [f32],
    value: impl Fn([u8; N]) -> f32,
) {
    let (elements, _) = bytes.as_chunks::<N>();
    for (out, element) in out.iter_mut().zip(elements) {
        *out = value(*element);
    }
}

/// Largest JSON file that is read. The index of a model of a thousand shards has a few megabytes.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// Reads a JSON file.
pub(crate) fn read_json(path: &Path) -> Result<Value> {
    let meta = std::fs::metadata(path).map_err(Error::io(path))?;
    let refuse = |problem| Error::Checkpoint {
        path: path.to_owned(),
        problem,
    };
    // Before it is opened: opening a pipe waits for its other end.
    if !meta.is_file() {
        return Err(refuse("not a regular file".to_owned()));
    }
    if meta.len() > MAX_JSON_BYTES {
        return Err(refuse(format!(
            "{} bytes of JSON; at most {MAX_JSON_BYTES} are read",
            meta.len()
        )));
    }
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Json {
        path: path.to_owned(),
        source,
    })
}

const PICKLED: &[&str] = &["bin", "pt", "pth", "ckpt"];

fn pickled(path: &Path) -> Error {
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Error::Checkpoint {
        path: path.to_owned(),
        problem: format!(
            "pickled weights are not read, because reading them can run code; convert them once, where they are trusted: \
             {}",
            convert_command(folder)
        ),
    }
}

/// For a shell. The folder is an argument, quoted, and not part of the program: its name may hold anything.
fn convert_command(folder: &Path) -> String {
    let quoted = |text: String| format!("'{}'", text.replace('\'', r"'\''"));
    let from = folder.display().to_string();
    let to = format!("{}-safetensors", from.trim_end_matches('/'));
    format!(
        "python -c \"import sys; from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; \
         a, b = sys.argv[1:]; M.from_pretrained(a, dtype='auto').save_pretrained(b); \
         T.from_pretrained(a).save_pretrained(b)\" {} {}",
        quoted(from),
        quoted(to)
    )
}

fn no_safetensors(folder: &Path) -> Error {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    let with = |extensions: &[&str]| {
        entries.iter().find(|path| {
            path.extension()
                .and_then(|extension| extension.to_str())
                .is_some_and(|found| extensions.contains(&found))
        })
    };
    if let Some(path) = with(PICKLED) {
        return pickled(path);
    }
    let problem = match with(&["gguf"]) {
        Some(path) => format!(
            "no `model.safetensors`; give the GGUF file itself: {}",
            path.display()
        ),
        None => "no `model.safetensors` and no `model.safetensors.index.json`".to_owned(),
    };
    Error::Checkpoint {
        path: folder.to_owned(),
        problem,
    }
}
