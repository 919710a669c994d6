//! The verbs and their nouns, as Twilio documents them; what we never use is left out.

use crate::domain::Phone;

/// The events that a dialed number's status callback can be asked for.
/// <https://www.twilio.com/docs/voice/twiml/number#statuscallbackevent>
pub const NUMBER_EVENTS: [&str; 4] = ["initiated", "ringing", "answered", "completed"];
/// The events that a conference's status callback can be asked for.
/// <https://www.twilio.com/docs/voice/twiml/conference#attributes-status-callback-event>
pub const CONFERENCE_EVENTS: [&str; 9] =
    ["start", "end", "join", "leave", "mute", "hold", "modify", "speaker", "announcement"];

/// How an `action` URL is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Method {
    /// Parameters in the body; Twilio's default.
    #[default]
    Post,
    /// Parameters in the query.
    Get,
}

/// A bidirectional media stream. <https://www.twilio.com/docs/voice/twiml/stream>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// The `wss` URL that the carrier connects to.
    pub url: String,
    /// Names and values handed over in the stream's `start` message.
    pub parameters: Vec<(String, String)>,
}

/// Connects the call to another party. <https://www.twilio.com/docs/voice/twiml/dial>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// Asked for TwiML when the dialed party is gone or was not reached, with `DialCallStatus` and
    /// others. None: the next verb follows.
    pub action: Option<String>,
    /// How `action` is requested.
    pub method: Method,
    /// How long it may ring, in seconds, 5 to 600; none is Twilio's 30.
    pub timeout_s: Option<u32>,
    /// Who the dialed party sees calling; none for the call's own caller id.
    pub caller_id: Option<Phone>,
    /// Whether the caller's own call is answered, and hears silence end, only when the dialed party
    /// answers.
    pub answer_on_bridge: bool,
    /// How long the two may talk, in seconds; none is Twilio's four hours.
    pub time_limit_s: Option<u32>,
    /// Whether the caller leaves the dialed party by pressing `*`.
    pub hangup_on_star: bool,
    /// Who is dialed.
    pub noun: Noun,
}

impl Dial {
    /// Dials `noun`, everything else as Twilio does when it is not told.
    pub const fn new(noun: Noun) -> Self {
        Self {
            action: None,
            method: Method::Post,
            timeout_s: None,
            caller_id: None,
            answer_on_bridge: false,
            time_limit_s: None,
            hangup_on_star: false,
            noun,
        }
    }
}

/// Who is dialed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Noun {
    /// A phone.
    Number(Number),
    /// Whoever waits longest in a queue.
    Queue(Queue),
    /// A conference room.
    Conference(Conference),
}

/// A phone to dial. <https://www.twilio.com/docs/voice/twiml/number>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    /// The phone.
    pub number: Phone,
    /// TwiML that the dialed party hears alone, once it answered, before the two are connected.
    pub url: Option<String>,
    /// Where the dialed call's progress is reported.
    pub status_callback: Option<String>,
    /// Which of [`NUMBER_EVENTS`] are reported; none of them means `completed`.
    pub status_callback_events: Vec<String>,
}

impl Number {
    /// A phone whose call reports nothing.
    pub const fn new(number: Phone) -> Self {
        Self { number, url: None, status_callback: None, status_callback_events: Vec::new() }
    }
}

/// A queue to take a caller from. <https://www.twilio.com/docs/voice/twiml/queue>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its friendly name.
    pub name: String,
    /// TwiML that the waiting caller hears alone before the two are connected.
    pub url: Option<String>,
}

/// A conference room. <https://www.twilio.com/docs/voice/twiml/conference>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conference {
    /// The room's name; the first to dial it opens it.
    pub name: String,
    /// Whether the conference starts when this party comes. Default yes.
    pub start_on_enter: bool,
    /// Whether the conference ends when this party goes. Default no.
    pub end_on_exit: bool,
    /// When the others hear a beep.
    pub beep: Beep,
    /// What is heard until the conference starts; none for Twilio's music, empty for silence.
    pub wait_url: Option<String>,
    /// Where the conference's events are reported.
    pub status_callback: Option<String>,
    /// Which of [`CONFERENCE_EVENTS`] are reported.
    pub status_callback_events: Vec<String>,
}

impl Conference {
    /// The room `name`, everything else as Twilio does when it is not told.
    pub const fn new(name: String) -> Self {
        Self {
            name,
            start_on_enter: true,
            end_on_exit: false,
            beep: Beep::Always,
            wait_url: None,
            status_callback: None,
            status_callback_events: Vec::new(),
        }
    }
}

/// When those in a conference hear a beep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beep {
    /// When a party comes and when it goes; Twilio's default.
    #[default]
    Always,
    /// Never.
    Never,
    /// When a party comes.
    OnEnter,
    /// When a party goes.
    OnExit,
}

impl Beep {
    /// Every value.
    pub(super) const ALL: [Self; 4] = [Self::Always, Self::Never, Self::OnEnter, Self::OnExit];

    /// Twilio's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "true",
            Self::Never => "false",
            Self::OnEnter => "onEnter",
            Self::OnExit => "onExit",
        }
    }
}

/// Collects keys. <https://www.twilio.com/docs/voice/twiml/gather>
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gather {
    /// After how many keys it is done; none for as many as are pressed.
    pub num_digits: Option<u32>,
    /// How long it waits for the next key once the prompts are over, in seconds; none is Twilio's
    /// 5.
    pub timeout_s: Option<u32>,
    /// The key that ends the input and is no part of it; none for no such key.
    pub finish_on_key: Option<char>,
    /// Asked for TwiML with the `Digits`; none for the address of the document that holds this.
    pub action: Option<String>,
    /// How `action` is requested.
    pub method: Method,
    /// Whether `action` is asked even when nothing was pressed; otherwise the next verb follows.
    pub action_on_empty_result: bool,
    /// [`Verb::Say`], [`Verb::Play`] and [`Verb::Pause`] only; a key ends them.
    pub prompts: Vec<Verb>,
}

impl Gather {
    /// Collects after `prompts`, everything else as Twilio does when it is not told.
    pub const fn new(prompts: Vec<Verb>) -> Self {
        Self {
            num_digits: None,
            timeout_s: None,
            finish_on_key: Some('#'),
            action: None,
            method: Method::Post,
            action_on_empty_result: false,
            prompts,
        }
    }
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
    /// Collects keys.
    Gather(Gather),
    /// Goes on with another document. <https://www.twilio.com/docs/voice/twiml/redirect>
    Redirect {
        /// Where it is; fetched with POST.
        url: String,
    },
    /// Connects the call to another party.
    Dial(Dial),
    /// Waits in a queue until somebody takes the call out.
    /// <https://www.twilio.com/docs/voice/twiml/enqueue>
    Enqueue {
        /// The queue's friendly name; the first caller opens it.
        name: String,
        /// Asked for TwiML when the call leaves the queue, with `QueueResult`. None: the next verb
        /// follows.
        action: Option<String>,
        /// How `action` is requested.
        method: Method,
        /// TwiML that is heard while waiting, again and again; none for Twilio's music.
        wait_url: Option<String>,
    },
    /// Leaves the queue that this document is the `waitUrl` of.
    /// <https://www.twilio.com/docs/voice/twiml/leave>
    Leave,
    /// Ends the call. <https://www.twilio.com/docs/voice/twiml/hangup>
    Hangup,
    /// Connects the call to a media stream. <https://www.twilio.com/docs/voice/twiml/connect>
    Connect(Stream),
    /// Refuses an inbound call. <https://www.twilio.com/docs/voice/twiml/reject>
    Reject,
}

impl Verb {
    /// Everything in it that somebody wrote. Phones and keys are left out: their types admit
    /// nothing that XML cannot carry.
    pub(super) fn texts(&self) -> Vec<&str> {
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
            Self::Gather(gather) => {
                texts.extend(gather.action.as_deref());
                texts.extend(gather.prompts.iter().flat_map(Self::texts));
            }
            Self::Dial(dial) => {
                texts.extend(dial.action.as_deref());
                dial.noun.texts(&mut texts);
            }
            Self::Enqueue { name, action, method: _, wait_url } => {
                texts.push(name);
                texts.extend(action.as_deref());
                texts.extend(wait_url.as_deref());
            }
            Self::Pause { .. } | Self::Leave | Self::Hangup | Self::Reject => {}
        }
        texts
    }

    /// Whether it may stand in a `<Gather>`.
    pub(super) const fn is_prompt(&self) -> bool {
        matches!(self, Self::Say { .. } | Self::Play { .. } | Self::Pause { .. })
    }

    pub(super) fn holds_what_it_cannot(&self) -> bool {
        matches!(self, Self::Gather(gather) if !gather.prompts.iter().all(Self::is_prompt))
    }
}

impl Noun {
    fn texts<'a>(&'a self, texts: &mut Vec<&'a str>) {
        match self {
            Self::Number(number) => {
                texts.extend(number.url.as_deref());
                texts.extend(number.status_callback.as_deref());
                texts.extend(number.status_callback_events.iter().map(String::as_str));
            }
            Self::Queue(queue) => {
                texts.push(&queue.name);
                texts.extend(queue.url.as_deref());
            }
            Self::Conference(room) => {
                texts.push(&room.name);
                texts.extend(room.wait_url.as_deref());
                texts.extend(room.status_callback.as_deref());
                texts.extend(room.status_callback_events.iter().map(String::as_str));
            }
        }
    }
}
