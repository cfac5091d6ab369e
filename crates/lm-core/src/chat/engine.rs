//! The template engine, set up as Hugging Face sets up Jinja2, and the thread it runs on.

use std::borrow::Cow;
use std::fmt;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;

use super::scan::{TagKind, tags, word};
use super::{TemplateError, json};

/// Stack of the thread that parses and renders.
///
/// The engine's parser recurses along operator, attribute, filter, `not` and `elif` chains without a limit. A chain as
/// long as the longest template accepted needs about 28 MiB optimised and several times that unoptimised; pages that
/// are not touched cost nothing.
const STACK_BYTES: usize = if cfg!(debug_assertions) {
    256 << 20
} else {
    64 << 20
};

/// The name the template has inside the engine. It has no extension, so nothing is escaped.
const NAME: &str = "chat";

/// A compiled template.
pub(super) struct Engine {
    environment: Environment<'static>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

/// Why a render stopped; the caller adds where the template came from.
#[derive(Debug)]
pub(super) enum Failure {
    Engine(Error),
    OutputTooLong,
}

impl Engine {
    /// Compiles a template. Must run on the [big stack](on_big_stack).
    pub(super) fn compile(source: &str) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()?,
        );
        environment.set_debug(false);
        environment.set_unknown_method_callback(python_method);
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_template_owned(NAME, without_generation_tags(source).into_owned())?;
        Ok(Self { environment })
    }

    /// Renders. Must run on the [big stack](on_big_stack): dropping and printing nested values recurses too.
    pub(super) fn render(
        &self,
        context: Value,
        fuel: u64,
        output_bytes: usize,
    ) -> Result<String, Failure> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        let mut output = Capped {
            bytes: Vec::new(),
            limit: output_bytes,
            exceeded: false,
        };
        let result = environment
            .get_template(NAME)
            .and_then(|template| template.render_captured_to(context, &mut output).map(drop));
        match result {
            _ if output.exceeded => Err(Failure::OutputTooLong),
            Err(error) => Err(Failure::Engine(error)),
            // The engine writes whole strings, so the bytes are UTF-8 and nothing is lost.
            Ok(()) => Ok(String::from_utf8(output.bytes)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())),
        }
    }
}

/// Runs `work` on a thread whose stack no accepted template can exhaust. `origin` names the template in errors.
pub(super) fn on_big_stack<T: Send>(
    origin: &str,
    work: impl FnOnce() -> T + Send,
) -> Result<T, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("chat-template".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|source| TemplateError::Thread { source })?;
        thread.join().map_err(|panic| TemplateError::Engine {
            origin: origin.to_owned(),
            message: panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
                .unwrap_or_else(|| "it panicked".to_owned()),
        })
    })
}

/// What a template said when it called `raise_exception`.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

fn raise_exception(message: &Value) -> Result<Value, Error> {
    let message = message.to_string();
    Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
}

/// Methods of Python's strings, lists and dictionaries: the engine's shim, and two that it lacks.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), method, arguments) {
        (Some(text), "removeprefix", [affix]) => {
            Ok(cut(text, affix.as_str(), |text, affix| text.strip_prefix(affix)).into())
        }
        (Some(text), "removesuffix", [affix]) => {
            Ok(cut(text, affix.as_str(), |text, affix| text.strip_suffix(affix)).into())
        }
        _ => unknown_method_callback(state, value, method, arguments),
    }
}

fn cut<'t>(
    text: &'t str,
    affix: Option<&str>,
    strip: impl Fn(&'t str, &str) -> Option<&'t str>,
) -> &'t str {
    affix.and_then(|affix| strip(text, affix)).unwrap_or(text)
}

/// Takes output up to a limit.
struct Capped {
    bytes: Vec<u8>,
    limit: usize,
    exceeded: bool,
}

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            self.exceeded = true;
            return Err(io::Error::other("the output is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Rewrites `{% generation %}` … `{% endgeneration %}`, by which some templates mark the model's words for training, as
/// `{% if true %}` … `{% endif %}`. Hugging Face's extension prints the inside unchanged; the engine has no such tag.
/// Comments, expressions and raw blocks are left alone.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    let mut rewritten = String::new();
    let mut copied = 0;
    for tag in tags(source).filter(|tag| tag.kind == TagKind::Statement) {
        let inside = &source[tag.inside.clone()];
        let name = word(inside);
        let replacement = match name {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        let start = tag.inside.start + inside.find(name).unwrap_or_default();
        rewritten.push_str(&source[copied..start]);
        rewritten.push_str(replacement);
        copied = start + name.len();
    }
    if copied == 0 {
        Cow::Borrowed(source)
    } else {
        rewritten.push_str(&source[copied..]);
        Cow::Owned(rewritten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_conditions_and_nothing_else_changes() {
        for (source, expected) in [
            (
                "a{%- generation -%}b{% endgeneration %}",
                "a{%- if true -%}b{% endif %}",
            ),
            ("{%generation%}{%endgeneration-%}", "{%if true%}{%endif-%}"),
            ("{# {% generation %} #}{{ '{% generation %}' }}", ""),
            ("{% raw %}{% generation %}{% endraw %}", ""),
            ("{% set generation = 1 %}{{ generation }} {", ""),
            ("{% if generation %}", ""),
        ] {
            let expected = if expected.is_empty() {
                source
            } else {
                expected
            };
            assert_eq!(without_generation_tags(source), expected);
        }
    }
}
