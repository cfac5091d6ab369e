//! Several turns over one session.

use std::ops::ControlFlow;

use super::batch::{Batch, Rows, Source};
use super::limits::Limits;
use super::live::Live;
use super::row::Row;
use super::run::{Call, run};
use super::{Determinism, FinishReason, GenerateOptions, Generation, Piece, Request};
use crate::chat::{Conversation, Message, Role};
use crate::model::LanguageModel;
use crate::text::{Prompt, TextInterface};
use crate::{Error, Result};

fn require_room(model: &dyn LanguageModel, row: usize, tokens: usize) -> Result<()> {
    match model.context_length() {
        Some(limit) if tokens > limit => Err(Error::Context {
            row,
            found: tokens,
            limit,
        }),
        _ => Ok(()),
    }
}
/// A conversation that goes on: keeps what the model has read, so that a turn costs only what is new in it.
pub struct Dialogue<'a> {
    model: &'a dyn LanguageModel,
    text: &'a TextInterface,
    session: Rows<'a>,
    /// What the session has read.
    read: Vec<u32>,
    conversation: Conversation,
}

impl std::fmt::Debug for Dialogue<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialogue")
            .field("conversation", &self.conversation)
            .field("tokens_read", &self.read.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Dialogue<'a> {
    /// Starts from `opening`, which may be empty or hold a system message and earlier turns.
    ///
    /// # Errors
    /// What the model refuses.
    pub fn new(
        model: &'a dyn LanguageModel,
        text: &'a TextInterface,
        opening: Conversation,
    ) -> Result<Self> {
        Ok(Self {
            model,
            text,
            session: Source::Plain(model).begin(1)?,
            read: Vec::new(),
            conversation: opening,
        })
    }

    /// All turns so far.
    pub fn conversation(&self) -> &Conversation {
        &self.conversation
    }

    /// Tokens the model holds.
    pub fn tokens_read(&self) -> usize {
        self.read.len()
    }

    /// Adds a turn of the user and answers it. Returns the reply and how many tokens of the prompt had been read before.
    /// After an error the conversation is as it was; so it is if the options' limits end the call before the reply has begun.
    ///
    /// # Errors
    /// As [`generate`](super::generate). The number of samples must be 1.
    pub fn say(
        &mut self,
        user: impl Into<String>,
        options: &GenerateOptions,
        on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<(Generation, usize)> {
        options.check()?;
        if options.samples != 1 {
            return Err(Error::argument(
                "samples",
                "1 in a dialogue",
                options.samples,
            ));
        }
        let mut limits = Limits::start(options);
        let asked = self
            .conversation
            .clone()
            .with(Message::new(Role::User, user));
        let tokens = self.text.encode(&Prompt::Chat(asked.clone()))?.into_ids();
        require_room(self.model, 0, tokens.len())?;

        // At least one token must be fed, or there would be no logits to go on from.
        let shared = self
            .read
            .iter()
            .zip(&tokens)
            .take_while(|(read, token)| read == token)
            .count();
        let reused = match options.determinism {
            Determinism::Fast => shared.min(tokens.len().saturating_sub(1)),
            Determinism::Exact => 0,
        };
        let unread = tokens.len() - reused;
        let short = (!limits.afford(unread.saturating_add(1))).then_some(FinishReason::Budget);
        if let Some(reason) = limits.reached().or(short) {
            return Ok((Generation::not_begun(reason), reused));
        }
        limits.spend(unread);
        if options.determinism == Determinism::Exact {
            self.session = Source::Plain(self.model).begin(1)?;
        } else {
            self.session.session().rewind(&[reused])?;
        }
        self.read.truncate(reused);
        let unread = [&tokens[reused..]];
        let vocab = self.model.vocab_size();
        let batch = Batch::read(&mut self.session, &unread, vocab)?;
        self.read.extend_from_slice(&tokens[reused..]);

        let request = Request::unnamed(tokens);
        let row = Row::new(self.text, &request, (0, 0), options)?;
        let mut call = Call {
            options,
            context: self.model.context_length(),
            limits,
            on_piece,
        };
        let outcome = run(&mut call, batch, vec![Live::plain(row, 0)]);
        let generation = match outcome.map(|mut done| done.pop()) {
            Ok(Some((_, generation))) => generation,
            Ok(None) => {
                return Err(Error::Empty {
                    what: "batch".to_owned(),
                    unit: "row",
                });
            }
            Err(error) => {
                // How far the session got is not known: read everything again next time.
                self.session.session().rewind(&[0])?;
                self.read.clear();
                return Err(error);
            }
        };
        // The last token was chosen but not read.
        let fed = generation.tokens.len().saturating_sub(1);
        self.read.extend_from_slice(&generation.tokens[..fed]);
        self.conversation = asked.with(Message::new(Role::Assistant, generation.text.as_str()));
        Ok((generation, reused))
    }
}
