//! Opt-outs: a key that a callee presses during a call to be called no more.

use serde::{Deserialize, Serialize};

use super::Violation;
use super::script::{self, Script};

/// The longest prompt, and the longest confirmation, in characters.
pub const TEXT_MAX_CHARS: usize = 300;
/// What the document of a call needs besides texts, in characters: the verbs, and our address with
/// tenant and call.
const MARKUP_CHARS: usize = 700;

/// What a run does about callees who want to be called no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OptOut {
    /// The key: `0` to `9`, `*` or `#`.
    pub digit: char,
    /// What they hear after the script.
    pub prompt: String,
    /// What they hear once it is done.
    pub confirmation: String,
}

impl Default for OptOut {
    fn default() -> Self {
        Self::on('9')
    }
}

impl OptOut {
    /// With this key and our words.
    pub fn on(digit: char) -> Self {
        Self {
            digit,
            prompt: format!("To be removed from our list, press {}.", spoken(digit)),
            confirmation: "You are removed from our list. Goodbye.".to_owned(),
        }
    }

    /// Checks the key and the texts, and that the script is one that can be listened to; names the
    /// field.
    pub fn check(&self, script: &Script) -> Result<(), Violation> {
        if !(self.digit.is_ascii_digit() || matches!(self.digit, '*' | '#')) {
            return Err(Violation::new("opt_out.digit", "must be 0 to 9, * or #"));
        }
        for (field, text) in
            [("opt_out.prompt", &self.prompt), ("opt_out.confirmation", &self.confirmation)]
        {
            if text.trim().is_empty() || text.chars().count() > TEXT_MAX_CHARS {
                return Err(Violation::new(field, "must be 1 to 300 characters"));
            }
            if text.chars().any(char::is_control) {
                return Err(Violation::new(field, "must not contain control characters"));
            }
        }
        let Some(of_script) = script.inline_chars() else {
            return Err(Violation::new(
                "opt_out",
                "needs a script that is said or played: others have the call's keys",
            ));
        };
        let chars = MARKUP_CHARS + of_script + script::escaped_text(&self.prompt);
        if chars <= script::INLINE_TWIML_MAX_CHARS {
            return Ok(());
        }
        Err(Violation::new(
            "opt_out",
            "leaves too little room for the script in the 4,000 characters that Twilio takes",
        ))
    }
}

fn spoken(digit: char) -> String {
    match digit {
        '*' => "star".to_owned(),
        '#' => "pound".to_owned(),
        digit => digit.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(text: &str) -> Script {
        Script::Say { text: text.into(), voice: None, language: None }
    }

    #[test]
    fn keys_and_texts_are_checked() {
        assert_eq!(OptOut::default().check(&say("Hello")), Ok(()));
        for digit in ['0', '9', '*', '#'] {
            assert_eq!(OptOut::on(digit).check(&say("Hello")), Ok(()));
        }
        let field = |opt_out: OptOut| opt_out.check(&say("Hello")).unwrap_err().field;
        assert_eq!(field(OptOut::on('a')), "opt_out.digit");
        assert_eq!(field(OptOut { prompt: " ".into(), ..OptOut::default() }), "opt_out.prompt");
        assert_eq!(
            field(OptOut { confirmation: "x".repeat(301), ..OptOut::default() }),
            "opt_out.confirmation"
        );
    }

    #[test]
    fn a_script_that_takes_the_keys_itself_has_none() {
        let stream = Script::Stream { url: "wss://a.test".into(), parameters: vec![] };
        assert_eq!(OptOut::default().check(&stream).unwrap_err().field, "opt_out");
        assert_eq!(OptOut::default().check(&say(&"&".repeat(700))).unwrap_err().field, "opt_out");
    }
}
