//! TwiML: what a call does. <https://www.twilio.com/docs/voice/twiml>
//!
//! `twilio-async`'s own `Response` holds one verb of each kind in a fixed order and knows few verbs. This one is
//! ordered, implements the same [`Twiml`] trait, and lets the library write every verb that it can write
//! without changing what the callee hears.

mod parse;

use std::io::Write;

use twilio_async::twiml::{Hangup, Play, Redirect, Say, Twiml, TwimlResult, Voice};
use xml::EmitterConfig;
use xml::writer::{EventWriter, XmlEvent};

use crate::domain::script::Script;

pub use parse::{DOCUMENT_MAX_BYTES, VERBS_MAX};

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

/// A bidirectional media stream. <https://www.twilio.com/docs/voice/twiml/stream>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The `wss` URL that the carrier connects to.
    pub url: String,
    /// Names and values handed over in the stream's `start` message.
    pub parameters: Vec<(String, String)>,
}

/// One step of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Speaks. <https://www.twilio.com/docs/voice/twiml/say>
    Say {
        /// What is said.
        text: String,
        /// The voice, or none for the account's default.
        voice: Option<String>,
        /// A BCP 47 tag, or none for the voice's own language.
        language: Option<String>,
    },
    /// Plays an audio file once. <https://www.twilio.com/docs/voice/twiml/play>
    Play {
        /// Where it is.
        url: String,
    },
    /// Waits. <https://www.twilio.com/docs/voice/twiml/pause>
    Pause {
        /// For how long, in seconds.
        length_s: u32,
    },
    /// Goes on with another document. <https://www.twilio.com/docs/voice/twiml/redirect>
    Redirect {
        /// Where it is; fetched with POST.
        url: String,
    },
    /// Ends the call. <https://www.twilio.com/docs/voice/twiml/hangup>
    Hangup,
    /// Connects the call to a media stream. <https://www.twilio.com/docs/voice/twiml/connect>
    Connect(Stream),
    /// Refuses an inbound call. <https://www.twilio.com/docs/voice/twiml/reject>
    Reject,
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
    /// [`Error::ControlCharacter`] when a text cannot stand in XML.
    pub fn to_xml(&self) -> Result<String, Error> {
        if self.0.iter().any(|verb| verb.texts().any(|text| !text.chars().all(is_xml_char))) {
            return Err(Error::ControlCharacter);
        }
        self.build().map_err(|error| Error::Write(error.to_string()))
    }

    /// Reads a document, bounded by [`DOCUMENT_MAX_BYTES`] and [`VERBS_MAX`].
    ///
    /// # Errors
    /// [`Error::Malformed`] for what is no XML, [`Error::Invalid`] for verbs and nouns that we do not know.
    pub fn parse(xml: &str) -> Result<Self, Error> {
        parse::document(xml)
    }
}

/// XML 1.0 §2.2, less U+FFFE and U+FFFF, and less the carriage return: a reader turns it into a line feed.
const fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

impl Verb {
    fn texts(&self) -> impl Iterator<Item = &str> {
        let mut texts: Vec<&str> = Vec::new();
        match self {
            Self::Say { text, voice, language } => {
                texts.push(text);
                texts.extend(voice.as_deref());
                texts.extend(language.as_deref());
            }
            Self::Play { url } | Self::Redirect { url } => texts.push(url),
            Self::Connect(stream) => {
                texts.push(&stream.url);
                texts.extend(stream.parameters.iter().flat_map(|(n, v)| [n.as_str(), v.as_str()]));
            }
            Self::Pause { .. } | Self::Hangup | Self::Reject => {}
        }
        texts.into_iter()
    }
}

impl Twiml for Response {
    fn write<W: Write>(&self, w: &mut EventWriter<W>) -> TwimlResult<()> {
        w.write(XmlEvent::start_element("Response"))?;
        for verb in &self.0 {
            verb.write(w)?;
        }
        w.write(XmlEvent::end_element())?;
        Ok(())
    }

    fn build(&self) -> TwimlResult<String> {
        build(self)
    }
}

impl Twiml for Verb {
    fn write<W: Write>(&self, w: &mut EventWriter<W>) -> TwimlResult<()> {
        match self {
            Self::Say { text, voice, language } => {
                return write_say(w, text, voice.as_deref(), language.as_deref());
            }
            Self::Play { url } => return Play::new(url).write(w),
            Self::Redirect { url } => return Redirect::new(url).write(w),
            Self::Hangup => return Hangup::new().write(w),
            Self::Pause { length_s } => {
                w.write(XmlEvent::start_element("Pause").attr("length", &length_s.to_string()))?;
            }
            Self::Connect(stream) => {
                w.write(XmlEvent::start_element("Connect"))?;
                write_stream(w, stream)?;
            }
            Self::Reject => w.write(XmlEvent::start_element("Reject"))?,
        }
        w.write(XmlEvent::end_element())?;
        Ok(())
    }

    fn build(&self) -> TwimlResult<String> {
        build(self)
    }
}

fn build(twiml: &impl Twiml) -> TwimlResult<String> {
    let mut out = Vec::new();
    let mut writer = EmitterConfig::new().write_document_declaration(false).create_writer(&mut out);
    twiml.write(&mut writer)?;
    Ok(String::from_utf8(out)?)
}

/// The library's `Say` knows three voices and always writes voice and language (`man`, `en` when none is
/// given), which would override the account's defaults and change what the callee hears. It is used when it
/// says exactly what was asked; otherwise the element is written here, through the same writer.
fn write_say<W: Write>(
    w: &mut EventWriter<W>,
    text: &str,
    voice: Option<&str>,
    language: Option<&str>,
) -> TwimlResult<()> {
    let known = match voice {
        Some("man") => Some(Voice::man),
        Some("woman") => Some(Voice::woman),
        Some("alice") => Some(Voice::alice),
        Some(_) | None => None,
    };
    if let (Some(voice), Some(language)) = (known, language) {
        return Say::new(text).voice(voice).lang(language).write(w);
    }
    let mut start = XmlEvent::start_element("Say");
    if let Some(voice) = voice {
        start = start.attr("voice", voice);
    }
    if let Some(language) = language {
        start = start.attr("language", language);
    }
    w.write(start)?;
    w.write(text)?;
    w.write(XmlEvent::end_element())?;
    Ok(())
}

fn write_stream<W: Write>(w: &mut EventWriter<W>, stream: &Stream) -> TwimlResult<()> {
    w.write(XmlEvent::start_element("Stream").attr("url", &stream.url))?;
    for (name, value) in &stream.parameters {
        w.write(XmlEvent::start_element("Parameter").attr("name", name).attr("value", value))?;
        w.write(XmlEvent::end_element())?;
    }
    w.write(XmlEvent::end_element())?;
    Ok(())
}

#[cfg(test)]
mod tests;
