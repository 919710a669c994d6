//! What a callee hears.

use serde::{Deserialize, Serialize};
use url::Url;

use super::Violation;

/// Twilio takes at most this many characters of inline TwiML.
/// <https://www.twilio.com/docs/voice/api/call-resource#create-a-call-resource>
pub const INLINE_TWIML_MAX_CHARS: usize = 4_000;
/// The longest text of a *say* script, in characters: leaves room for markup and escapes in inline
/// TwiML.
pub const SAY_MAX_CHARS: usize = 3_000;
/// The longest URL in a script, in bytes.
pub const URL_MAX_BYTES: usize = 2_000;
/// At most this many parameters go to a media stream.
pub const STREAM_PARAMETERS_MAX: usize = 20;

/// What a run's calls do once answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Script {
    /// Text to speech. <https://www.twilio.com/docs/voice/twiml/say>
    Say {
        /// The text spoken, 1 to 3,000 characters.
        text: String,
        /// A voice of Twilio's, or none for the account's default.
        voice: Option<String>,
        /// A BCP 47 language tag, or none for the voice's own.
        language: Option<String>,
    },
    /// An audio file. <https://www.twilio.com/docs/voice/twiml/play>
    Play {
        /// `https` (or `http`) URL of the audio.
        url: String,
    },
    /// A bidirectional media stream, as AI voice agents use.
    /// <https://www.twilio.com/docs/voice/twiml/stream>
    Stream {
        /// `wss` (or `ws`) URL of the agent.
        url: String,
        /// Handed to the agent in the stream's `start` message.
        parameters: Vec<(String, String)>,
    },
    /// TwiML that the carrier fetches from a URL when the call is answered.
    FetchTwiml {
        /// `https` (or `http`) URL.
        url: String,
        /// Asked when `url` fails.
        fallback_url: Option<String>,
    },
}

impl Script {
    /// Checks lengths and URLs; names the field under `script`.
    pub fn check(&self) -> Result<(), Violation> {
        match self {
            Self::Say { text, voice, language } => {
                if text.trim().is_empty() {
                    return Err(Violation::new("script.say.text", "must not be empty"));
                }
                if text.chars().count() > SAY_MAX_CHARS {
                    return Err(Violation::new(
                        "script.say.text",
                        "is longer than 3,000 characters",
                    ));
                }
                if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
                    let reason = "must not contain control characters besides tab and line feed";
                    return Err(Violation::new("script.say.text", reason));
                }
                check_token("script.say.voice", voice.as_deref())?;
                check_token("script.say.language", language.as_deref())?;
                check_inline("script.say.text", escaped_text(text), 0)
            }
            Self::Play { url } => {
                check_url("script.play.url", url, &["https", "http"])?;
                check_inline("script.play.url", escaped_text(url), 0)
            }
            Self::Stream { url, parameters } => {
                if parameters.len() > STREAM_PARAMETERS_MAX {
                    return Err(Violation::new(
                        "script.stream.parameters",
                        "has more than 20 entries",
                    ));
                }
                check_stream_parameters(parameters)?;
                check_url("script.stream.url", url, &["wss", "ws"])?;
                let texts = parameters.iter().flat_map(|(name, value)| [name, value]).chain([url]);
                let chars = texts.map(|text| escaped_attribute(text)).sum();
                check_inline("script.stream.parameters", chars, parameters.len())
            }
            Self::FetchTwiml { url, fallback_url } => {
                check_url("script.fetch_twiml.url", url, &["https", "http"])?;
                fallback_url.as_deref().map_or(Ok(()), |url| {
                    check_url("script.fetch_twiml.fallback_url", url, &["https", "http"])
                })
            }
        }
    }
}

impl Script {
    /// How many characters its texts take when escaped, if it is one that is listened to: said or
    /// played.
    pub fn inline_chars(&self) -> Option<usize> {
        match self {
            Self::Say { text, .. } => Some(escaped_text(text)),
            Self::Play { url } => Some(escaped_text(url)),
            Self::Stream { .. } | Self::FetchTwiml { .. } => None,
        }
    }
}

/// Whether texts that take `chars` when escaped fit into inline TwiML together with their markup.
fn check_inline(field: &str, chars: usize, parameters: usize) -> Result<(), Violation> {
    // `<Response>` and its verb with voice and language, and each `<Parameter name="" value=""/>`.
    let markup = 300 + 40 * parameters;
    if markup + chars <= INLINE_TWIML_MAX_CHARS {
        return Ok(());
    }
    Err(Violation::new(
        field,
        "is longer than the 4,000 characters that Twilio takes, written as TwiML",
    ))
}

/// Characters of `text` between tags.
pub fn escaped_text(text: &str) -> usize {
    let escaped = |c| match c {
        '&' => 5,
        '<' | '>' => 4,
        _ => 1,
    };
    text.chars().map(escaped).sum()
}

/// Characters of `text` between quotation marks.
fn escaped_attribute(text: &str) -> usize {
    let escaped = |c| match c {
        '&' => 5,
        '<' | '>' => 4,
        '"' | '\'' => 6,
        _ => 1,
    };
    text.chars().map(escaped).sum()
}

/// Twilio bounds a `<Parameter>`'s name and value together at 500 characters.
/// <https://www.twilio.com/docs/voice/twiml/stream#custom-parameters>
fn check_stream_parameters(parameters: &[(String, String)]) -> Result<(), Violation> {
    let bad = parameters.iter().find(|(name, value)| {
        name.is_empty()
            || name.chars().chain(value.chars()).count() > 500
            || value.chars().any(char::is_control)
    });
    bad.map_or(Ok(()), |_| {
        Err(Violation::new(
            "script.stream.parameters",
            "each needs a name, no control characters, and at most 500 characters in name and value together",
        ))
    })
}

fn check_token(field: &str, value: Option<&str>) -> Result<(), Violation> {
    let fits = |v: &str| {
        !v.is_empty()
            && v.len() <= 100
            && v.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
    };
    match value {
        Some(value) if !fits(value) => Err(Violation::new(
            field,
            "must be 1 to 100 characters of letters, digits, '-', '.' and '_'",
        )),
        _ => Ok(()),
    }
}

pub(super) fn check_url(field: &str, text: &str, schemes: &[&str]) -> Result<(), Violation> {
    if text.len() > URL_MAX_BYTES {
        return Err(Violation::new(field, "is longer than 2,000 bytes"));
    }
    let url = Url::parse(text)
        .map_err(|error| Violation::new(field, format!("is not a URL: {error}")))?;
    if !schemes.contains(&url.scheme()) {
        return Err(Violation::new(
            field,
            format!("must be a URL with scheme {}", schemes.join(" or ")),
        ));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(Violation::new(field, "must name a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Violation::new(field, "must not carry credentials"));
    }
    Ok(())
}
