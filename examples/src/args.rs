//! The flags that all programs have in common, in groups a program flattens into its own.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use lm_core::{
    AblationKind, Conversation, Dtype, GenerateOptions, Head, HeadAblation, LoadOptions, Placement,
    Prompt, Sampling, TorchModel,
};

use crate::prompts::{self, Item};
use crate::{model, output};

/// Which model, and how it runs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct ModelArgs {
    /// Model folder, .gguf file, or id in the local Hugging Face cache [default: the demo model]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,

    /// cpu, cuda or cuda:N; several share the layers: cuda:0,cuda:1, or cuda:0=0-11,cuda:1=12-23
    #[arg(long, default_value_t)]
    pub device: Placement,

    /// f32, bf16 or f16
    #[arg(long, default_value_t)]
    pub dtype: Dtype,
}

impl ModelArgs {
    /// Loads the model.
    ///
    /// # Errors
    /// There is no demo model, or [`TorchModel::open_with`] refuses.
    pub fn open(&self) -> Result<TorchModel> {
        let path = match &self.model {
            Some(path) => path.clone(),
            None => model::demo()?,
        };
        let options = LoadOptions::default()
            .placement(self.device.clone())
            .dtype(self.dtype);
        Ok(TorchModel::open_with(path, options)?)
    }
}

/// How tokens are chosen and where a text ends.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Generation")]
pub struct SamplingArgs {
    /// Most tokens of a reply
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub max_new_tokens: usize,

    /// Sample at this temperature instead of taking the most likely token
    #[arg(long, value_name = "T")]
    pub temperature: Option<f32>,

    /// Sample from the most likely tokens that together reach this probability
    #[arg(long, value_name = "P", requires = "temperature")]
    pub top_p: Option<f32>,

    /// Sample from this many most likely tokens
    #[arg(long, value_name = "K", requires = "temperature")]
    pub top_k: Option<usize>,

    /// Seed of the draws; equal seeds give equal texts, whatever the batch
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Text that ends a reply; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
}

impl SamplingArgs {
    /// The options, checked, so that a bad value is found before a model is loaded.
    ///
    /// # Errors
    /// [`GenerateOptions::check`], whose messages name the flag.
    pub fn options(&self) -> Result<GenerateOptions> {
        let options = GenerateOptions {
            max_new_tokens: self.max_new_tokens,
            sampling: Sampling {
                temperature: self.temperature.unwrap_or(0.0),
                top_p: self.top_p,
                top_k: self.top_k,
                ..Sampling::greedy()
            },
            seed: self.seed,
            stop: self.stop.clone(),
            ..GenerateOptions::default()
        };
        options.check().context("bad flag")?;
        Ok(options)
    }
}

/// What the model is asked.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Prompts")]
pub struct PromptArgs {
    /// Raw text to continue, without the chat template; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub prompt: Vec<String>,

    /// Message to answer, put into the model's chat template; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub user: Vec<String>,

    /// System message before each --user
    #[arg(long, value_name = "TEXT", requires = "user")]
    pub system: Option<String>,

    /// JSON Lines: {"prompt": "raw text"} or {"messages": [{"role": "user", "content": "…"}]} on each, with an optional "id"
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
}

impl PromptArgs {
    /// All prompts: those of `--prompt`, then of `--user`, then of the file.
    ///
    /// # Errors
    /// What [`prompts::read`] refuses.
    pub fn items(&self) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for (index, text) in self.prompt.iter().enumerate() {
            items.push(Item {
                origin: format!("--prompt {}", index + 1),
                id: None,
                prompt: Prompt::Raw(text.clone()),
            });
        }
        for (index, text) in self.user.iter().enumerate() {
            let opening = match &self.system {
                Some(system) => Conversation::new().system(system.as_str()),
                None => Conversation::new(),
            };
            items.push(Item {
                origin: format!("--user {}", index + 1),
                id: None,
                prompt: Prompt::Chat(opening.user(text.as_str())),
            });
        }
        if let Some(path) = &self.prompts {
            items.extend(prompts::read(path)?);
        }
        Ok(items)
    }
}

/// Which heads are switched off, and how.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Heads")]
pub struct HeadArgs {
    /// Make the attention of these heads uniform (undifferentiated attention), such as 2-6,3-1: layer-head, both from 0
    #[arg(long, value_name = "HEADS", value_delimiter = ',', conflicts_with_all = ["find", "demo"])]
    pub ua: Vec<Head>,

    /// Scale the output of these heads (scaling contribution)
    #[arg(long, value_name = "HEADS", value_delimiter = ',', conflicts_with_all = ["find", "demo"])]
    pub sc: Vec<Head>,

    /// Score every head by KL(base ‖ ablated) of the next token, then switch off the one with the highest score
    #[arg(long)]
    pub find: bool,

    /// How --find switches heads off
    #[arg(long, value_enum, default_value_t = Kind::Ua)]
    pub kind: Kind,

    /// Factor of the query vectors under ua; the paper uses 1e-5, 0 is its limit
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub epsilon: f32,

    /// Factor of the head's output under sc; 0 silences it
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    pub factor: f32,

    /// --find on a prompt that shows something, unless one is given, with results in target/demo, unless --out is given
    #[arg(long)]
    pub demo: bool,
}

/// The two kinds of ablation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Undifferentiated attention: the head looks everywhere alike
    Ua,
    /// Scaling contribution: the head is silent
    Sc,
}

impl HeadArgs {
    fn undifferentiated(&self) -> AblationKind {
        AblationKind::Undifferentiated {
            epsilon: self.epsilon,
        }
    }

    fn contribution(&self) -> AblationKind {
        AblationKind::Contribution {
            factor: self.factor,
        }
    }

    /// What `--find` does to each head in turn.
    pub fn kind(&self) -> AblationKind {
        match self.kind {
            Kind::Ua => self.undifferentiated(),
            Kind::Sc => self.contribution(),
        }
    }

    /// The heads named by flags.
    pub fn named(&self) -> HeadAblation {
        let undifferentiated = self.ua.iter().map(|head| (*head, self.undifferentiated()));
        let silenced = self.sc.iter().map(|head| (*head, self.contribution()));
        undifferentiated
            .chain(silenced)
            .fold(HeadAblation::none(), |ablation, (head, kind)| {
                ablation.with(head, kind)
            })
    }
}

/// Where results go.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Write everything there is to keep, JSON and figures, into this folder
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
}

impl OutputArgs {
    /// Finds out that results could not be written before they are computed. Creates the folder of `--out`.
    ///
    /// # Errors
    /// A folder that is absent or can't be made.
    pub fn prepare(&self) -> Result<()> {
        if let Some(path) = &self.json {
            output::require_folder_of(path).context("--json")?;
        }
        if let Some(folder) = &self.out {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("--out: cannot create {}", folder.display()))?;
        }
        Ok(())
    }

    /// The files that the JSON of the program `name` goes to.
    pub fn json_files(&self, name: &str) -> Vec<PathBuf> {
        let in_folder = self
            .out
            .as_ref()
            .map(|folder| folder.join(format!("{name}.json")));
        self.json.iter().cloned().chain(in_folder).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        heads: HeadArgs,
    }

    #[test]
    fn flags_name_heads_of_both_kinds() {
        let cli =
            Cli::try_parse_from(["", "--ua", "2-6,3-1", "--sc", "2-6", "--factor", "0.5"]).unwrap();
        assert_eq!(
            cli.heads.named(),
            HeadAblation::undifferentiated([Head::new(2, 6), Head::new(3, 1)])
                .with(Head::new(2, 6), AblationKind::Contribution { factor: 0.5 })
        );
        for bad in [&["", "--ua", "2-x"][..], &["", "--find", "--ua", "2-6"]] {
            let error = Cli::try_parse_from(bad).unwrap_err().to_string();
            assert!(error.contains("--ua"), "{error}");
        }
    }
}
