//! What can be typed into `chat`.

/// What a line of input asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// A message for the model.
    Message(&'a str),
    /// Start again with this system message, or with none.
    System(Option<&'a str>),
    /// Start again.
    Reset,
    /// Say what can be asked for.
    Help,
    /// Leave.
    Quit,
    /// An empty line.
    Nothing,
    /// A command there is not.
    Unknown(&'a str),
}

impl<'a> Input<'a> {
    /// Reads one line.
    pub fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match word {
            "" => Self::Nothing,
            "/system" => Self::System(Some(rest).filter(|rest| !rest.is_empty())),
            "/reset" => Self::Reset,
            "/help" => Self::Help,
            "/quit" => Self::Quit,
            word if word.starts_with('/') => Self::Unknown(word),
            _ => Self::Message(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_messages_or_commands() {
        assert_eq!(
            Input::parse(" hello there \r\n"),
            Input::Message("hello there")
        );
        assert_eq!(
            Input::parse("/system  be brief\n"),
            Input::System(Some("be brief"))
        );
        assert_eq!(Input::parse("/system\n"), Input::System(None));
        assert_eq!(Input::parse("/reset"), Input::Reset);
        assert_eq!(Input::parse("/quit\n"), Input::Quit);
        assert_eq!(Input::parse("/help"), Input::Help);
        assert_eq!(Input::parse(" \n"), Input::Nothing);
        assert_eq!(Input::parse("/rest\n"), Input::Unknown("/rest"));
        assert_eq!(Input::parse("and/or"), Input::Message("and/or"));
    }
}
