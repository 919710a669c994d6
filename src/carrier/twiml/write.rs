//! Writes TwiML. The library's own verbs are used where they say exactly what was asked.

use std::io::Write;

use twilio_async::twiml::{Hangup, Play, Redirect, Say, Twiml, TwimlResult, Voice};
use xml::EmitterConfig;
use xml::writer::{EventWriter, XmlEvent};

use super::Response;
use super::verbs::{Beep, Conference, Dial, Gather, Method, Noun, Number, Queue, Stream, Verb};

/// The attributes of one element; what is as Twilio's default has it is not written.
#[derive(Default)]
struct Attributes(Vec<(&'static str, String)>);

impl Attributes {
    fn text(&mut self, name: &'static str, value: Option<&str>) {
        self.0.extend(value.map(|value| (name, value.to_owned())));
    }

    fn number(&mut self, name: &'static str, value: Option<u32>) {
        self.0.extend(value.map(|value| (name, value.to_string())));
    }

    fn flag(&mut self, name: &'static str, value: bool, default: bool) {
        self.0.extend((value != default).then(|| (name, value.to_string())));
    }

    fn action(&mut self, action: Option<&str>, method: Method) {
        self.text("action", action);
        self.text("method", (method == Method::Get).then_some("GET"));
    }

    fn status_callback(&mut self, url: Option<&str>, events: &[String]) {
        self.text("statusCallback", url);
        self.text("statusCallbackEvent", (!events.is_empty()).then(|| events.join(" ")).as_deref());
    }

    fn start<W: Write>(&self, w: &mut EventWriter<W>, element: &str) -> TwimlResult<()> {
        let mut start = XmlEvent::start_element(element);
        for (name, value) in &self.0 {
            start = start.attr(*name, value);
        }
        w.write(start)?;
        Ok(())
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
            Self::Gather(gather) => write_gather(w, gather)?,
            Self::Dial(dial) => write_dial(w, dial)?,
            Self::Enqueue { name, action, method, wait_url } => {
                let mut attributes = Attributes::default();
                attributes.action(action.as_deref(), *method);
                attributes.text("waitUrl", wait_url.as_deref());
                attributes.start(w, "Enqueue")?;
                w.write(name.as_str())?;
            }
            Self::Leave => w.write(XmlEvent::start_element("Leave"))?,
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

/// The library's `Say` knows three voices and always writes voice and language (`man`, `en` when
/// none is given), which would override the account's defaults and change what the callee hears. It
/// is used when it says exactly what was asked; otherwise the element is written here, through the
/// same writer.
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

fn write_gather<W: Write>(w: &mut EventWriter<W>, gather: &Gather) -> TwimlResult<()> {
    let mut attributes = Attributes::default();
    attributes.text("input", Some("dtmf"));
    attributes.number("numDigits", gather.num_digits);
    attributes.number("timeout", gather.timeout_s);
    if gather.finish_on_key != Some('#') {
        let key = gather.finish_on_key.map(String::from).unwrap_or_default();
        attributes.text("finishOnKey", Some(&key));
    }
    attributes.action(gather.action.as_deref(), gather.method);
    attributes.flag("actionOnEmptyResult", gather.action_on_empty_result, false);
    attributes.start(w, "Gather")?;
    for prompt in &gather.prompts {
        prompt.write(w)?;
    }
    Ok(())
}

fn write_dial<W: Write>(w: &mut EventWriter<W>, dial: &Dial) -> TwimlResult<()> {
    let mut attributes = Attributes::default();
    attributes.action(dial.action.as_deref(), dial.method);
    attributes.number("timeout", dial.timeout_s);
    attributes.text("callerId", dial.caller_id.as_ref().map(|phone| phone.expose()));
    attributes.flag("answerOnBridge", dial.answer_on_bridge, false);
    attributes.number("timeLimit", dial.time_limit_s);
    attributes.flag("hangupOnStar", dial.hangup_on_star, false);
    attributes.start(w, "Dial")?;
    match &dial.noun {
        Noun::Number(number) => write_number(w, number)?,
        Noun::Queue(Queue { name, url }) => {
            let mut attributes = Attributes::default();
            attributes.text("url", url.as_deref());
            attributes.start(w, "Queue")?;
            w.write(name.as_str())?;
        }
        Noun::Conference(room) => write_conference(w, room)?,
    }
    w.write(XmlEvent::end_element())?;
    Ok(())
}

fn write_number<W: Write>(w: &mut EventWriter<W>, number: &Number) -> TwimlResult<()> {
    let mut attributes = Attributes::default();
    attributes.text("url", number.url.as_deref());
    attributes.status_callback(number.status_callback.as_deref(), &number.status_callback_events);
    attributes.start(w, "Number")?;
    w.write(number.number.expose())?;
    Ok(())
}

fn write_conference<W: Write>(w: &mut EventWriter<W>, room: &Conference) -> TwimlResult<()> {
    let mut attributes = Attributes::default();
    attributes.flag("startConferenceOnEnter", room.start_on_enter, true);
    attributes.flag("endConferenceOnExit", room.end_on_exit, false);
    attributes.text("beep", (room.beep != Beep::Always).then(|| room.beep.as_str()));
    attributes.text("waitUrl", room.wait_url.as_deref());
    attributes.status_callback(room.status_callback.as_deref(), &room.status_callback_events);
    attributes.start(w, "Conference")?;
    w.write(room.name.as_str())?;
    Ok(())
}
