//! A call during which the callee can press a key to be called no more.

use super::{Gather, Response, Verb};
use crate::domain::opt_out::OptOut;
use crate::domain::script::Script;

/// How long a key is waited for after the prompt, in seconds.
const WAIT_S: u32 = 5;
/// Between two requests about one key press while it cannot be stored, in seconds.
const MOMENT_S: u32 = 3;

impl Response {
    /// The document of a static script that listens for keys while it is said; none for one that
    /// cannot.
    pub fn for_script_with_opt_out(
        script: &Script,
        opt_out: &OptOut,
        action: &str,
    ) -> Option<Self> {
        let (voice, language) = match script {
            Script::Say { voice, language, .. } => (voice.clone(), language.clone()),
            Script::Play { .. } => (None, None),
            Script::Stream { .. } | Script::FetchTwiml { .. } => return None,
        };
        let mut prompts = Self::for_script(script)?.0;
        prompts.push(Verb::Say { text: opt_out.prompt.clone(), voice, language });
        Some(Self(vec![listen(prompts, action)]))
    }

    /// After another key: the prompt once more.
    pub fn opt_out_again(opt_out: &OptOut, action: &str) -> Self {
        Self(vec![listen(vec![say(&opt_out.prompt)], action)])
    }

    /// It is done.
    pub fn opted_out(opt_out: &OptOut) -> Self {
        Self(vec![say(&opt_out.confirmation), Verb::Hangup])
    }

    /// It is not done yet: a moment, and then `url` once more.
    pub fn opt_out_in_a_moment(url: String) -> Self {
        Self(vec![
            say("One moment, please."),
            Verb::Pause { length_s: MOMENT_S },
            Verb::Redirect { url },
        ])
    }

    /// Nothing more is to be said.
    pub fn goodbye(text: &str) -> Self {
        Self(vec![say(text), Verb::Hangup])
    }
}

fn say(text: &str) -> Verb {
    Verb::Say { text: text.to_owned(), voice: None, language: None }
}

fn listen(prompts: Vec<Verb>, action: &str) -> Verb {
    Verb::Gather(Gather {
        num_digits: Some(1),
        timeout_s: Some(WAIT_S),
        // Any key may be the one that is meant.
        finish_on_key: None,
        action: Some(action.to_owned()),
        ..Gather::new(prompts)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_can_be_interrupted_and_no_key_ends_the_call() {
        let script =
            Script::Say { text: "A & B".into(), voice: Some("alice".into()), language: None };
        let document =
            Response::for_script_with_opt_out(&script, &OptOut::on('#'), "https://x.test/a")
                .unwrap();
        let xml = document.to_xml().unwrap();
        assert!(xml.contains("A &amp; B</Say>") && xml.contains("press pound"), "{xml}");
        assert!(xml.contains(r#"finishOnKey="""#) && xml.contains(r#"numDigits="1""#), "{xml}");
        assert_eq!(Response::parse(&xml).unwrap(), document);
        let stream = Script::Stream { url: "wss://a.test".into(), parameters: vec![] };
        assert_eq!(Response::for_script_with_opt_out(&stream, &OptOut::default(), ""), None);
    }
}
