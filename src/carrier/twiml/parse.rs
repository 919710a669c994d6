//! Reads TwiML, strictly: what we cannot do is an error, as it is at Twilio.

use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use quick_xml::{XmlVersion, escape};

use super::{Error, PAUSE_MAX_S, Response, Stream, Verb};

/// Twilio takes documents of at most 64 kB.
pub const DOCUMENT_MAX_BYTES: usize = 64 * 1024;
/// Verbs in one document.
pub const VERBS_MAX: usize = 1_000;
/// Parameters of one stream.
const PARAMETERS_MAX: usize = 100;

/// Where the reader stands, from the outside in.
enum Inside {
    Nothing,
    Response,
    /// A verb that holds text.
    Text(Verb, String),
    /// A verb that holds nothing.
    Leaf(Verb),
    Connect(Option<Stream>),
    Stream(Stream),
    Parameter(Stream),
}

pub(super) fn document(xml: &str) -> Result<Response, Error> {
    if xml.len() > DOCUMENT_MAX_BYTES {
        return Err(Error::TooLarge);
    }
    let mut reader = Reader::from_str(xml);
    let mut verbs = Vec::new();
    let mut inside = Inside::Nothing;
    let mut seen = false;
    loop {
        let event = reader.read_event().map_err(|_| Error::Malformed { at: reader.error_position() })?;
        inside = match event {
            Event::Start(start) => open(inside, &start, &mut seen)?,
            Event::Empty(start) => close(open(inside, &start, &mut seen)?, &mut verbs)?,
            Event::End(_) => close(inside, &mut verbs)?,
            Event::Text(text) => characters(inside, &text.xml10_content())?,
            Event::CData(text) => characters(inside, &text.xml10_content())?,
            Event::GeneralRef(reference) => {
                let bad = Error::Malformed { at: reader.buffer_position() };
                let resolved = match reference.resolve_char_ref().map_err(|_| bad.clone())? {
                    Some(c) => c.to_string(),
                    None => escape::resolve_xml_entity(&reference.into_inner()).ok_or(bad)?.to_owned(),
                };
                reference_text(inside, &resolved)?
            }
            // Entities could be declared in a document type; TwiML has none.
            Event::DocType(_) => return Err(Error::Invalid("a document type is not allowed")),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => inside,
            Event::Eof => break,
        };
    }
    match inside {
        Inside::Nothing if seen => Ok(Response(verbs)),
        Inside::Nothing => Err(Error::Invalid("there is no <Response>")),
        Inside::Response
        | Inside::Text(..)
        | Inside::Leaf(_)
        | Inside::Connect(_)
        | Inside::Stream(_)
        | Inside::Parameter(_) => Err(Error::Malformed { at: xml.len() as u64 }),
    }
}

fn open(inside: Inside, start: &BytesStart<'_>, seen: &mut bool) -> Result<Inside, Error> {
    let name = start.name();
    let name = name.as_ref();
    match inside {
        Inside::Nothing if name == "Response" && !*seen => {
            *seen = true;
            Ok(Inside::Response)
        }
        Inside::Nothing => Err(Error::Invalid("the root must be one <Response>")),
        Inside::Response => open_verb(name, start),
        Inside::Connect(None) if name == "Stream" => {
            let url = attribute(start, "url")?.ok_or(Error::Invalid("<Stream> needs a url"))?;
            Ok(Inside::Stream(Stream { url, parameters: Vec::new() }))
        }
        Inside::Connect(_) => Err(Error::Invalid("<Connect> holds one <Stream>")),
        Inside::Stream(mut stream) if name == "Parameter" => {
            let name = attribute(start, "name")?.ok_or(Error::Invalid("<Parameter> needs a name"))?;
            let value = attribute(start, "value")?.unwrap_or_default();
            if stream.parameters.len() >= PARAMETERS_MAX {
                return Err(Error::TooLarge);
            }
            stream.parameters.push((name, value));
            Ok(Inside::Parameter(stream))
        }
        Inside::Stream(_) => Err(Error::Invalid("<Stream> holds <Parameter> only")),
        Inside::Text(..) | Inside::Leaf(_) | Inside::Parameter(_) => {
            Err(Error::Invalid("a verb holds an element that it cannot hold"))
        }
    }
}

fn open_verb(name: &str, start: &BytesStart<'_>) -> Result<Inside, Error> {
    Ok(match name {
        "Say" => {
            let (voice, language) = (attribute(start, "voice")?, attribute(start, "language")?);
            Inside::Text(Verb::Say { text: String::new(), voice, language }, String::new())
        }
        "Play" => Inside::Text(Verb::Play { url: String::new() }, String::new()),
        "Redirect" => Inside::Text(Verb::Redirect { url: String::new() }, String::new()),
        "Hangup" => Inside::Leaf(Verb::Hangup),
        "Reject" => Inside::Leaf(Verb::Reject),
        "Pause" => {
            let length_s = match attribute(start, "length")? {
                // Twilio's default.
                None => 1,
                Some(text) => {
                    text.trim().parse().map_err(|_| Error::Invalid("a pause's length is a number"))?
                }
            };
            Inside::Leaf(Verb::Pause { length_s: length_s.min(PAUSE_MAX_S) })
        }
        "Connect" => Inside::Connect(None),
        _ => return Err(Error::Invalid("a verb that is not known")),
    })
}

fn close(inside: Inside, verbs: &mut Vec<Verb>) -> Result<Inside, Error> {
    let done = match inside {
        Inside::Nothing => return Err(Error::Invalid("an end without a start")),
        Inside::Response => return Ok(Inside::Nothing),
        Inside::Parameter(stream) => return Ok(Inside::Stream(stream)),
        Inside::Stream(stream) => return Ok(Inside::Connect(Some(stream))),
        Inside::Connect(stream) => {
            Verb::Connect(stream.ok_or(Error::Invalid("<Connect> holds one <Stream>"))?)
        }
        Inside::Leaf(verb) => verb,
        Inside::Text(verb, text) => with_text(verb, text),
    };
    if verbs.len() >= VERBS_MAX {
        return Err(Error::TooLarge);
    }
    verbs.push(done);
    Ok(Inside::Response)
}

fn with_text(verb: Verb, text: String) -> Verb {
    match verb {
        Verb::Say { voice, language, .. } => Verb::Say { text, voice, language },
        // People indent their URLs; Twilio trims them.
        Verb::Play { .. } => Verb::Play { url: text.trim().to_owned() },
        Verb::Redirect { .. } => Verb::Redirect { url: text.trim().to_owned() },
        other @ (Verb::Pause { .. } | Verb::Hangup | Verb::Connect(_) | Verb::Reject) => other,
    }
}

fn characters(inside: Inside, text: &str) -> Result<Inside, Error> {
    match inside {
        Inside::Text(..) => reference_text(inside, text),
        other if text.trim().is_empty() => Ok(other),
        Inside::Nothing
        | Inside::Response
        | Inside::Leaf(_)
        | Inside::Connect(_)
        | Inside::Stream(_)
        | Inside::Parameter(_) => Err(Error::Invalid("text where none belongs")),
    }
}

fn reference_text(inside: Inside, text: &str) -> Result<Inside, Error> {
    match inside {
        Inside::Text(verb, mut so_far) => {
            so_far.push_str(text);
            Ok(Inside::Text(verb, so_far))
        }
        Inside::Nothing
        | Inside::Response
        | Inside::Leaf(_)
        | Inside::Connect(_)
        | Inside::Stream(_)
        | Inside::Parameter(_) => Err(Error::Invalid("text where none belongs")),
    }
}

fn attribute(start: &BytesStart<'_>, name: &str) -> Result<Option<String>, Error> {
    const UNREADABLE: Error = Error::Invalid("an attribute cannot be read");
    let Some(found) = start.try_get_attribute(name).map_err(|_| UNREADABLE)? else { return Ok(None) };
    let value = found.normalized_value(XmlVersion::Implicit1_0).map_err(|_| UNREADABLE)?;
    Ok(Some(value.into_owned()))
}
