//! Reads TwiML, strictly: what we cannot do is an error, as it is at Twilio.

use crate::carrier::wire::e164;
use crate::domain::Phone;

use super::tree::{self, Element};
use super::verbs::{
    Beep, CONFERENCE_EVENTS, Conference, Dial, Gather, Method, NUMBER_EVENTS, Noun, Number, Queue,
    Stream, Verb,
};
use super::{Error, PAUSE_MAX_S, Response};

/// Verbs in one document.
pub const VERBS_MAX: usize = 1_000;
/// Parameters of one stream.
const PARAMETERS_MAX: usize = 100;

const NOT_E164: Error = Error::Invalid("a phone number must be in E.164 format");

pub(super) fn document(xml: &str) -> Result<Response, Error> {
    let root = tree::read(xml)?;
    if root.name != "Response" {
        return Err(Error::Invalid("the root must be one <Response>"));
    }
    let verbs = root.children()?;
    if verbs.len() > VERBS_MAX {
        return Err(Error::TooLarge);
    }
    verbs.iter().map(verb).collect::<Result<_, _>>().map(Response)
}

fn verb(element: &Element) -> Result<Verb, Error> {
    // What comes out of this match holds nothing, which is checked below; the rest has returned.
    let verb = match element.name.as_str() {
        "Say" => {
            return Ok(Verb::Say {
                text: element.text()?.to_owned(),
                voice: owned(element, "voice"),
                language: owned(element, "language"),
            });
        }
        "Play" => return Ok(Verb::Play { url: trimmed(element)? }),
        "Redirect" => return Ok(Verb::Redirect { url: trimmed(element)? }),
        "Connect" => return connect(element),
        "Dial" => return dial(element).map(Verb::Dial),
        "Enqueue" => return enqueue(element),
        "Gather" => return gather(element).map(Verb::Gather),
        "Hangup" => Verb::Hangup,
        "Leave" => Verb::Leave,
        "Reject" => Verb::Reject,
        // One second is Twilio's default.
        "Pause" => {
            Verb::Pause { length_s: number(element, "length")?.unwrap_or(1).min(PAUSE_MAX_S) }
        }
        _ => return Err(Error::Invalid("a verb that is not known")),
    };
    element.empty()?;
    Ok(verb)
}

fn connect(element: &Element) -> Result<Verb, Error> {
    let [stream] = element.children()? else {
        return Err(Error::Invalid("<Connect> holds one <Stream>"));
    };
    if stream.name != "Stream" {
        return Err(Error::Invalid("<Connect> holds one <Stream>"));
    }
    let url = owned(stream, "url").ok_or(Error::Invalid("<Stream> needs a url"))?;
    let within = stream.children()?;
    if within.len() > PARAMETERS_MAX {
        return Err(Error::TooLarge);
    }
    let parameter = |element: &Element| {
        if element.name != "Parameter" {
            return Err(Error::Invalid("<Stream> holds <Parameter> only"));
        }
        element.empty()?;
        let name = owned(element, "name").ok_or(Error::Invalid("<Parameter> needs a name"))?;
        Ok((name, owned(element, "value").unwrap_or_default()))
    };
    let parameters = within.iter().map(parameter).collect::<Result<_, _>>()?;
    Ok(Verb::Connect(Stream { url, parameters }))
}

fn dial(element: &Element) -> Result<Dial, Error> {
    const ONE: Error = Error::Invalid("<Dial> holds one number, <Number>, <Queue> or <Conference>");
    let noun = match element.text() {
        // `<Dial>+14155550100</Dial>` is short for a number without attributes.
        Ok(text) => Noun::Number(Number::new(e164(text.trim()).ok_or(ONE)?)),
        Err(_) => match element.children()? {
            [noun] => match noun.name.as_str() {
                "Number" => Noun::Number(dialed_number(noun)?),
                "Queue" => Noun::Queue(Queue { name: name(noun)?, url: owned(noun, "url") }),
                "Conference" => Noun::Conference(conference(noun)?),
                _ => return Err(ONE),
            },
            _ => return Err(ONE),
        },
    };
    Ok(Dial {
        action: owned(element, "action"),
        method: method(element)?,
        timeout_s: number(element, "timeout")?,
        caller_id: phone(element, "callerId")?,
        answer_on_bridge: flag(element, "answerOnBridge", false)?,
        time_limit_s: number(element, "timeLimit")?,
        hangup_on_star: flag(element, "hangupOnStar", false)?,
        noun,
    })
}

fn dialed_number(element: &Element) -> Result<Number, Error> {
    Ok(Number {
        number: e164(element.text()?.trim()).ok_or(NOT_E164)?,
        url: owned(element, "url"),
        status_callback: owned(element, "statusCallback"),
        status_callback_events: events(element, &NUMBER_EVENTS)?,
    })
}

fn conference(element: &Element) -> Result<Conference, Error> {
    let beep = match element.attribute("beep") {
        None => Beep::default(),
        Some(word) => {
            let known = Beep::ALL.into_iter().find(|beep| beep.as_str() == word);
            known.ok_or(Error::Invalid("beep is true, false, onEnter or onExit"))?
        }
    };
    Ok(Conference {
        name: name(element)?,
        start_on_enter: flag(element, "startConferenceOnEnter", true)?,
        end_on_exit: flag(element, "endConferenceOnExit", false)?,
        beep,
        wait_url: owned(element, "waitUrl"),
        status_callback: owned(element, "statusCallback"),
        status_callback_events: events(element, &CONFERENCE_EVENTS)?,
    })
}

fn enqueue(element: &Element) -> Result<Verb, Error> {
    Ok(Verb::Enqueue {
        name: name(element)?,
        action: owned(element, "action"),
        method: method(element)?,
        wait_url: owned(element, "waitUrl"),
    })
}

fn gather(element: &Element) -> Result<Gather, Error> {
    if element.attribute("input").is_some_and(|input| input != "dtmf") {
        return Err(Error::Invalid("<Gather> takes dtmf only"));
    }
    let finish_on_key = match element.attribute("finishOnKey") {
        None => Some('#'),
        Some(text) => match text.as_bytes() {
            [] => None,
            [key @ (b'0'..=b'9' | b'#' | b'*')] => Some(char::from(*key)),
            _ => return Err(Error::Invalid("finishOnKey is one key or empty")),
        },
    };
    let prompts = element.children()?.iter().map(verb).collect::<Result<Vec<_>, _>>()?;
    if !prompts.iter().all(Verb::is_prompt) {
        return Err(Error::Invalid("<Gather> holds <Say>, <Play> and <Pause> only"));
    }
    Ok(Gather {
        num_digits: number(element, "numDigits")?,
        timeout_s: number(element, "timeout")?,
        finish_on_key,
        action: owned(element, "action"),
        method: method(element)?,
        action_on_empty_result: flag(element, "actionOnEmptyResult", false)?,
        prompts,
    })
}

fn owned(element: &Element, name: &str) -> Option<String> {
    element.attribute(name).map(str::to_owned)
}

/// People indent their URLs; Twilio trims them.
fn trimmed(element: &Element) -> Result<String, Error> {
    element.text().map(|text| text.trim().to_owned())
}

/// Of a queue or a conference.
fn name(element: &Element) -> Result<String, Error> {
    let name = trimmed(element)?;
    if name.is_empty() {
        Err(Error::Invalid("a queue or conference needs a name"))
    } else {
        Ok(name)
    }
}

fn number(element: &Element, name: &str) -> Result<Option<u32>, Error> {
    let read = |text: &str| {
        text.trim().parse().map_err(|_| Error::Invalid("a length or count is a number"))
    };
    element.attribute(name).map(read).transpose()
}

fn phone(element: &Element, name: &str) -> Result<Option<Phone>, Error> {
    element.attribute(name).map(|text| e164(text.trim()).ok_or(NOT_E164)).transpose()
}

fn flag(element: &Element, name: &str, default: bool) -> Result<bool, Error> {
    match element.attribute(name) {
        None => Ok(default),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(Error::Invalid("a switch is true or false")),
    }
}

fn method(element: &Element) -> Result<Method, Error> {
    match element.attribute("method") {
        None | Some("POST") => Ok(Method::Post),
        Some("GET") => Ok(Method::Get),
        Some(_) => Err(Error::Invalid("a method is GET or POST")),
    }
}

fn events(element: &Element, known: &[&str]) -> Result<Vec<String>, Error> {
    let words =
        element.attribute("statusCallbackEvent").unwrap_or_default().split_ascii_whitespace();
    let read = |word: &str| match known.contains(&word) {
        true => Ok(word.to_owned()),
        false => Err(Error::Invalid("a statusCallbackEvent that is not known")),
    };
    words.map(read).collect()
}
