//! TwiML: what a call does. <https://www.twilio.com/docs/voice/twiml>
//!
//! `twilio-async`'s own `Response` holds one verb of each kind in a fixed order and knows few
//! verbs. This one is ordered, implements the same [`Twiml`] trait, and lets the library write
//! every verb that it can write without changing what the callee hears.

mod opt_out;
mod parse;
mod tree;
mod verbs;
mod write;

use twilio_async::twiml::Twiml;

use crate::domain::script::Script;

pub use parse::VERBS_MAX;
pub use tree::DOCUMENT_MAX_BYTES;
pub use verbs::{
    Beep, CONFERENCE_EVENTS, Conference, Dial, Gather, Method, NUMBER_EVENTS, Noun, Number, Queue,
    Stream, Verb,
};

/// Twilio holds at most this long in one `<Pause>`, in seconds.
pub const PAUSE_MAX_S: u32 = 3_600;

/// Why TwiML could not be written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A text holds a character that XML 1.0 cannot carry.
    #[error("a text holds a control character")]
    ControlCharacter,
    /// The XML writer failed.
    #[error("TwiML could not be written: {0}")]
    Write(String),
    /// Too long, or too many verbs.
    #[error("the document is larger than is accepted")]
    TooLarge,
    /// Not well-formed XML (Twilio's 12100).
    #[error("not well-formed XML near byte {at}")]
    Malformed {
        /// Where, in bytes from the start.
        at: u64,
    },
    /// Well-formed, but not TwiML that we know (Twilio's 12200).
    #[error("not valid TwiML: {0}")]
    Invalid(&'static str),
}

/// A TwiML document: verbs in the order in which they happen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response(pub Vec<Verb>);

impl Response {
    /// The document of a static script; none for one that the carrier fetches.
    pub fn for_script(script: &Script) -> Option<Self> {
        let verb = match script {
            Script::Say { text, voice, language } => {
                Verb::Say { text: text.clone(), voice: voice.clone(), language: language.clone() }
            }
            Script::Play { url } => Verb::Play { url: url.clone() },
            Script::Stream { url, parameters } => {
                Verb::Connect(Stream { url: url.clone(), parameters: parameters.clone() })
            }
            Script::FetchTwiml { .. } => return None,
        };
        Some(Self(vec![verb]))
    }

    /// The document as XML, without a declaration.
    ///
    /// # Errors
    /// [`Error::ControlCharacter`] when a text cannot stand in XML, [`Error::Invalid`] for a
    /// [`Gather`] whose prompts are no prompts.
    pub fn to_xml(&self) -> Result<String, Error> {
        let mut texts = self.0.iter().flat_map(Verb::texts);
        if texts.any(|text| !text.chars().all(is_xml_char)) {
            return Err(Error::ControlCharacter);
        }
        if self.0.iter().any(Verb::holds_what_it_cannot) {
            return Err(Error::Invalid("<Gather> holds <Say>, <Play> and <Pause> only"));
        }
        self.build().map_err(|error| Error::Write(error.to_string()))
    }

    /// Reads a document, bounded by [`DOCUMENT_MAX_BYTES`] and [`VERBS_MAX`].
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no XML, [`Error::Invalid`] for verbs and nouns that we do
    /// not know.
    pub fn parse(xml: &str) -> Result<Self, Error> {
        parse::document(xml)
    }
}

/// XML 1.0 §2.2, less U+FFFE and U+FFFF, and less the carriage return: a reader turns it into a
/// line feed.
const fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests;
