//! A model's chat template.

use std::sync::Arc;
use std::time::SystemTime;

use minijinja::value::Serde;
use minijinja::{Error, ErrorKind, Value};
use sha2::{Digest, Sha256};

use super::engine::{Engine, Failure, Raised, on_big_stack};
use super::scan::tags;
use super::strftime::strftime;
use super::{Conversation, TemplateError};
use crate::tokenizer::SpecialTokens;

/// The longest template accepted, in bytes. The longest in common use have about 25 KB; the parser's stack is sized
/// for this one.
const MAX_TEMPLATE_BYTES: usize = 128 << 10;

/// The most operators accepted in a single tag; those in common use have some dozens.
const MAX_OPERATORS: usize = 512;

/// Names under which a message's reasoning is found; templates read the first.
const REASONING_FIELDS: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A compiled chat template with the special tokens it may print.
///
/// Rendering is that of Hugging Face's `apply_chat_template`: Jinja2's `trim_blocks` and `lstrip_blocks`, loop
/// controls, Python's string methods, `tojson` without HTML escapes, `raise_exception`, `strftime_now`. A template
/// comes with a model and is not trusted: it runs on a thread of its own whose stack it cannot exhaust, with a budget of
/// work and a cap on its output, and sees nothing but its arguments.
///
/// One kind of attack the engine (3.1) leaves open: a value that holds itself twice, doubled some forty times, is small
/// but has an astronomical number of parts. Printing it and `tojson` are stopped; *comparing* it or *turning it into a
/// string* inside an expression is work the engine does not count, and takes the time and memory it takes. Where
/// templates come from strangers, render in a process that has limits of its own.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    engine: Arc<Engine>,
    source: Arc<str>,
    origin: Arc<str>,
    tokens: SpecialTokens,
    limits: RenderLimits,
}

/// How much a template may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenderLimits {
    /// Units of work: about one an instruction, and one for 64 bytes of data. Real templates use some hundreds for a
    /// message. 2,000,000 unless set.
    pub fuel: u64,
    /// Bytes of rendered text. 16 MiB unless set.
    pub output_bytes: usize,
}

impl Default for RenderLimits {
    fn default() -> Self {
        Self {
            fuel: 2_000_000,
            output_bytes: 16 << 20,
        }
    }
}

/// What is asked of a template besides the conversation.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RenderOptions {
    /// End with the header of a new assistant turn.
    pub add_generation_prompt: bool,
    /// End right after the final message's content, so that the model goes on with it.
    pub continue_final_message: bool,
    /// JSON schemas of tools. `None` unless set.
    pub tools: Option<Vec<serde_json::Value>>,
    /// Variables a template of this model reads, such as `enable_thinking`. They win over all others.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// What `strftime_now` takes for now, in UTC. The system's clock unless set; some templates print the date, and a
    /// prompt that is to be the same tomorrow sets it.
    pub now: Option<SystemTime>,
}

impl RenderOptions {
    /// What a reply needs: a conversation that ends in an assistant message is continued there, any other gets the
    /// header of a new assistant turn.
    #[must_use]
    pub fn for_reply(conversation: &Conversation) -> Self {
        let continues = conversation.ends_in_assistant();
        Self {
            add_generation_prompt: !continues,
            continue_final_message: continues,
            ..Self::default()
        }
    }

    /// Sets a variable.
    #[must_use]
    pub fn with_extra(
        mut self,
        name: impl Into<String>,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        self.extra.insert(name.into(), value.into());
        self
    }

    /// Sets the tools.
    #[must_use]
    pub fn with_tools(mut self, tools: Vec<serde_json::Value>) -> Self {
        self.tools = Some(tools);
        self
    }

    /// Sets what `strftime_now` takes for now.
    #[must_use]
    pub fn with_now(mut self, now: SystemTime) -> Self {
        self.now = Some(now);
        self
    }
}

impl ChatTemplate {
    /// Compiles a template; `origin` (a file, a metadata key) names it in errors.
    ///
    /// # Errors
    /// [`TemplateError::TooLarge`], [`TemplateError::TooManyOperators`], [`TemplateError::Syntax`] with the line.
    pub fn new(
        source: impl Into<String>,
        origin: impl Into<String>,
    ) -> Result<Self, TemplateError> {
        let (source, origin) = (source.into(), origin.into());
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(TemplateError::TooLarge {
                origin,
                found: source.len(),
                limit: MAX_TEMPLATE_BYTES,
            });
        }
        if let Some(tag) = tags(&source).find(|tag| tag.operators > MAX_OPERATORS) {
            let before = &source.as_bytes()[..tag.inside.start];
            return Err(TemplateError::TooManyOperators {
                origin,
                line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
                found: tag.operators,
                limit: MAX_OPERATORS,
            });
        }
        let engine = on_big_stack(&origin, || Engine::compile(&source))?.map_err(|error| {
            TemplateError::Syntax {
                origin: origin.clone(),
                line: error.line(),
                message: message(&error),
            }
        })?;
        Ok(Self {
            engine: Arc::new(engine),
            source: source.into(),
            origin: origin.into(),
            tokens: SpecialTokens::default(),
            limits: RenderLimits::default(),
        })
    }

    /// Sets what the template sees as `bos_token`, `eos_token`, `unk_token` and `pad_token`; a missing one is undefined
    /// and prints nothing.
    #[must_use]
    pub fn with_special_tokens(mut self, tokens: SpecialTokens) -> Self {
        self.tokens = tokens;
        self
    }

    /// Sets how much the template may do.
    #[must_use]
    pub fn with_limits(mut self, limits: RenderLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The template's text.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where the template came from.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// SHA-256 of the template's text, in hex.
    #[must_use]
    pub fn hash(&self) -> String {
        Sha256::digest(self.source.as_bytes())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Renders a conversation.
    ///
    /// With [`continue_final_message`](RenderOptions::continue_final_message) the text ends right after the final
    /// message's content: no end of turn, nothing after it. What the template does to the content (trimming its end,
    /// cutting reasoning out) is done to it here as well. The place is found by a mark appended to the content, not by
    /// searching for the content, which may occur elsewhere.
    ///
    /// # Errors
    /// [`TemplateError`]: each says where the template came from and, where the engine knows, the line.
    pub fn render(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
    ) -> Result<String, TemplateError> {
        let Some(last) = conversation.last() else {
            return Err(TemplateError::EmptyConversation);
        };
        if !options.continue_final_message {
            return self.run(conversation, options);
        }
        if options.add_generation_prompt {
            return Err(TemplateError::ConflictingOptions);
        }
        if !conversation.ends_in_assistant() {
            return Err(TemplateError::NotAssistant {
                found: last.role.to_string(),
            });
        }
        let mark = self.unused_mark(conversation, options);
        // The space shows whether the template trims the end of a message: then it is lost with it.
        let probe = " ";
        let mut marked = conversation.messages().to_vec();
        if let Some(last) = marked.last_mut() {
            last.content.push_str(&mark);
            last.content.push_str(probe);
        }
        let mut text = self.run(&marked.into(), options)?;
        let Some(at) = text.rfind(&mark) else {
            return Err(TemplateError::FinalMessageLost {
                origin: self.origin.to_string(),
            });
        };
        let trims = !text[at + mark.len()..].starts_with(probe);
        text.truncate(at);
        // A template may show the message earlier as well.
        if text.contains(&mark) {
            text = text
                .replace(&format!("{mark}{probe}"), "")
                .replace(&mark, "");
        }
        if trims {
            // Only what ends the content is trimmed, never the header before an empty one.
            let trimmed = last.content.trim_end().len();
            for ending in last.content[trimmed..].chars().rev() {
                match text.pop() {
                    Some(found) if found == ending => {}
                    Some(found) => {
                        text.push(found);
                        break;
                    }
                    None => break,
                }
            }
        }
        Ok(text)
    }

    /// A word that occurs nowhere in what the template sees.
    fn unused_mark(&self, conversation: &Conversation, options: &RenderOptions) -> String {
        let seen = |mark: &str| {
            self.source.contains(mark)
                || conversation.messages().iter().any(|message| {
                    message.content.contains(mark)
                        || message.role.as_str().contains(mark)
                        || message
                            .extra
                            .values()
                            .any(|value| value.to_string().contains(mark))
                })
                || options
                    .extra
                    .values()
                    .chain(options.tools.iter().flatten())
                    .any(|value| value.to_string().contains(mark))
        };
        let mut number = 0_u64;
        loop {
            let mark = format!("FINALMESSAGEENDS{number}HERE");
            if !seen(&mark) {
                return mark;
            }
            number += 1;
        }
    }

    fn run(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
    ) -> Result<String, TemplateError> {
        on_big_stack(&self.origin, || {
            self.engine.render(
                self.context(conversation, options),
                self.limits.fuel,
                self.limits.output_bytes,
            )
        })?
        .map_err(|failure| self.failure(failure))
    }

    fn context(&self, conversation: &Conversation, options: &RenderOptions) -> Value {
        let now = options.now;
        let strftime_now = Value::from_function(move |format: &str| {
            strftime(format, now.unwrap_or_else(SystemTime::now))
                .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
        });
        let mut variables: Vec<(String, Value)> = vec![
            ("messages".to_owned(), messages(conversation)),
            (
                "tools".to_owned(),
                options
                    .tools
                    .as_ref()
                    .map_or(Value::from(()), |tools| Value::from(Serde(tools))),
            ),
            ("documents".to_owned(), Value::from(())),
            (
                "add_generation_prompt".to_owned(),
                Value::from(options.add_generation_prompt),
            ),
            ("strftime_now".to_owned(), strftime_now),
        ];
        for (name, token) in [
            ("bos_token", &self.tokens.bos),
            ("eos_token", &self.tokens.eos),
            ("unk_token", &self.tokens.unk),
            ("pad_token", &self.tokens.pad),
        ] {
            if let Some(token) = token {
                variables.push((name.to_owned(), Value::from(token.as_str())));
            }
        }
        for (name, value) in &options.extra {
            variables.retain(|(known, _)| known != name);
            variables.push((name.clone(), Value::from(Serde(value))));
        }
        Value::from_pairs(variables)
    }

    fn failure(&self, failure: Failure) -> TemplateError {
        let origin = self.origin.to_string();
        let error = match failure {
            Failure::OutputTooLong => {
                return TemplateError::OutputTooLong {
                    origin,
                    limit: self.limits.output_bytes,
                };
            }
            Failure::Engine(error) => error,
        };
        let line = error.line();
        if let Some(raised) = raised(&error) {
            return TemplateError::Raised {
                origin,
                line,
                message: raised.0.clone(),
            };
        }
        if error.kind() == ErrorKind::OutOfFuel {
            return TemplateError::OutOfFuel {
                origin,
                line,
                fuel: self.limits.fuel,
            };
        }
        TemplateError::Render {
            origin,
            line,
            message: message(&error),
        }
    }
}

/// The messages as a template sees them; reasoning is given under every name templates know it by.
fn messages(conversation: &Conversation) -> Value {
    let message = |message: &super::Message| {
        let reasoning = REASONING_FIELDS
            .iter()
            .find_map(|&field| message.extra.get(field).filter(|value| !value.is_null()))
            .map(|reasoning| Value::from(Serde(reasoning)));
        // The order of the fields shows where a template prints a message as JSON.
        let mut fields: Vec<(&str, Value)> = Vec::new();
        if let Some(reasoning) = &reasoning {
            set(&mut fields, "thinking", reasoning.clone());
        }
        set(&mut fields, "role", Value::from(message.role.as_str()));
        set(
            &mut fields,
            "content",
            Value::from(message.content.as_str()),
        );
        for (name, value) in &message.extra {
            set(&mut fields, name, Value::from(Serde(value)));
        }
        if let Some(reasoning) = reasoning {
            set(&mut fields, REASONING_FIELDS[0], reasoning);
        }
        Value::from_pairs(fields)
    };
    conversation.messages().iter().map(message).collect()
}

/// Sets a field where it is, or adds it at the end, as a Python dictionary does.
fn set<'n>(fields: &mut Vec<(&'n str, Value)>, name: &'n str, value: Value) {
    match fields.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => fields.push((name, value)),
    }
}

/// What the engine said, without its own place, which it gives by a name that means nothing to a user.
fn message(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

fn raised(error: &Error) -> Option<&Raised> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(raised) = error.downcast_ref::<Raised>() {
            return Some(raised);
        }
        cause = error.source();
    }
    None
}
