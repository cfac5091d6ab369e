//! Conversations and the templates that turn them into the text a model was trained on.
//!
//! ```
//! use lm_core::chat::{ChatTemplate, Conversation, RenderOptions};
//!
//! let template = ChatTemplate::new(
//!     "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
//!     "an example",
//! )?;
//! let conversation = Conversation::new().user("Hello!");
//! let text = template.render(&conversation, &RenderOptions::for_reply(&conversation))?;
//! assert_eq!(text, "<user>Hello!\n<assistant>");
//! # Ok::<(), lm_core::chat::TemplateError>(())
//! ```

mod conversation;
mod disguise;
mod engine;
mod error;
mod json;
mod scan;
mod source;
mod strftime;
mod taint;
mod template;

pub use conversation::{Conversation, Message, Role};
pub use error::TemplateError;
pub use source::{NamedTemplate, TemplateSource};
pub use taint::RenderedChat;
pub use template::{ChatTemplate, RenderLimits, RenderOptions};
