//! What can go wrong between a conversation and its text.

use std::path::PathBuf;

/// Everything that can go wrong with a chat template.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A file of the model folder could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },

    /// The file that should hold the template is not what its name says.
    #[error("{origin}: {reason}")]
    Config {
        /// The file.
        origin: String,
        /// What was expected and what was found.
        reason: String,
    },

    /// Several templates, and none for this use.
    #[error("{origin}: no template named `{wanted}`; it has {names}")]
    NoSuchTemplate {
        /// The file.
        origin: String,
        /// The name looked for.
        wanted: String,
        /// The names it has, comma-separated.
        names: String,
    },

    /// The template's text is longer than any real one.
    #[error("{origin}: the template is {found} bytes long; at most {limit} are accepted")]
    TooLarge {
        /// Where the template came from.
        origin: String,
        /// Its length in bytes.
        found: usize,
        /// The cap in bytes.
        limit: usize,
    },

    /// One tag of the template has more operators than any real one. The engine folds constants before it counts its
    /// work, in a time that grows with the cube of their number.
    #[error("{origin}, line {line}: a tag with {found} operators; at most {limit} are accepted")]
    TooManyOperators {
        /// Where the template came from.
        origin: String,
        /// 1-based line on which the tag begins.
        line: usize,
        /// How many it has.
        found: usize,
        /// The cap.
        limit: usize,
    },

    /// The template is not valid.
    #[error("{origin}{}: {message}", at(*line))]
    Syntax {
        /// Where the template came from.
        origin: String,
        /// 1-based line of the template.
        line: Option<usize>,
        /// What the engine said.
        message: String,
    },

    /// The template failed while it ran.
    #[error("{origin}{}: {message}", at(*line))]
    Render {
        /// Where the template came from.
        origin: String,
        /// 1-based line of the template.
        line: Option<usize>,
        /// What the engine said.
        message: String,
    },

    /// The template itself refused the conversation, with `raise_exception`.
    #[error("{origin}{}: the template refuses this conversation: {message}", at(*line))]
    Raised {
        /// Where the template came from.
        origin: String,
        /// 1-based line of the template.
        line: Option<usize>,
        /// The template's own words.
        message: String,
    },

    /// The template ran for too long or made too much data.
    #[error("{origin}{}: stopped after {fuel} units of work", at(*line))]
    OutOfFuel {
        /// Where the template came from.
        origin: String,
        /// 1-based line of the template.
        line: Option<usize>,
        /// The budget, [`RenderLimits::fuel`](super::RenderLimits::fuel).
        fuel: u64,
    },

    /// The rendered text is too long.
    #[error("{origin}: the rendered text is longer than {limit} bytes")]
    OutputTooLong {
        /// Where the template came from.
        origin: String,
        /// The cap in bytes, [`RenderLimits::output_bytes`](super::RenderLimits::output_bytes).
        limit: usize,
    },

    /// Nothing to render.
    #[error("the conversation has no message")]
    EmptyConversation,

    /// A reply cannot be both continued and newly opened.
    #[error("`continue_final_message` and `add_generation_prompt` exclude each other")]
    ConflictingOptions,

    /// Only an assistant message can be continued.
    #[error("cannot continue the final message: expected role `assistant`, found `{found}`")]
    NotAssistant {
        /// The final message's role.
        found: String,
    },

    /// The template does not show the final message, so there is no place to continue from.
    #[error(
        "{origin}: the rendered text does not contain the final message that is to be continued"
    )]
    FinalMessageLost {
        /// Where the template came from.
        origin: String,
    },

    /// A reply that is to be continued would stand inside a block of reasoning.
    #[error(
        "{origin}: the final message would be continued inside a `<think>` block that the template opens"
    )]
    InsideReasoning {
        /// Where the template came from.
        origin: String,
    },

    /// The template's own words and the messages' cannot be told apart.
    #[error("{origin}: cannot tell the template's words from the messages': {reason}")]
    LooksIntoContent {
        /// Where the template came from.
        origin: String,
        /// Why.
        reason: String,
    },

    /// The date format of `strftime_now` has a directive this crate does not know.
    #[error("strftime_now: unknown directive `%{directive}`")]
    DateDirective {
        /// The character after `%`, empty at the end of the format.
        directive: String,
    },

    /// The thread that renders could not be started.
    #[error("cannot start the thread that renders the template: {source}")]
    Thread {
        /// What the system said.
        source: std::io::Error,
    },

    /// The template engine failed where it should not.
    #[error("{origin}: the template engine failed: {message}")]
    Engine {
        /// Where the template came from.
        origin: String,
        /// What it said.
        message: String,
    },
}

fn at(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(", line {line}"))
}
