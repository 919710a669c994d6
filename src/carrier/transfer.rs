//! The TwiML of transfers: what the caller hears, what a target hears, and where the carrier asks
//! us.

use super::connection_override;
use super::twiml::{Beep, Conference, Dial, Gather, Method, Noun, Number, Queue, Response, Verb};
use crate::domain::transfer::{Heard, OnFailure, Outcome, Phase, Purpose, Transfer, heard};
use crate::domain::{CallId, TenantId, TransferId};

/// What a caller hears for whom nobody was reached, unless the client says otherwise.
const APOLOGY: &str = "We are sorry. Nobody can take your call right now. Please try again later.";
/// What a caller hears who waits, unless the client has audio.
const PLEASE_HOLD: &str = "Please hold the line. We are connecting you.";
/// Between two of these, in seconds. What waits is asked for anew after each, so it is also how
/// long a caller waits at most for the way back when they cannot be moved there.
const HOLD_PAUSE_S: u32 = 8;
/// What a target hears who is told of an incident, after the facts.
const ASK: &str = "Press 1 to take this call, or 2 to decline.";
/// How long a target may think after that, in seconds; then it is said once more.
const THINK_S: u32 = 6;
const THANKS: &str = "Thank you. You will be connected in a moment.";
const DECLINED: &str = "Thank you. Goodbye.";
const NO_KEY: &str = "No key was pressed. Goodbye.";
/// How long a caller waits before they are asked about again whose answer could not be computed, in
/// seconds.
const ONE_MOMENT_S: u32 = 2;

/// Keys that a target presses.
pub const ACCEPT: &str = "1";
/// The other one.
pub const DECLINE: &str = "2";

/// What the carrier asks us about a transfer, by the rest of the URL's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// The dialing of this target is over; what now?
    Dial(usize),
    /// How the dialing of this target goes. No question.
    Child(usize),
    /// What does the caller hear who waits?
    Wait,
    /// The caller left the queue; what now?
    Queue,
    /// What does the caller hear before they are connected with this call?
    Connect(CallId),
    /// The target of this call pressed a key; what now?
    Key(CallId),
    /// The caller's conference is over; what now?
    Over,
}

impl Ask {
    /// Reads the rest of a path.
    pub fn parse(path: &str) -> Option<Self> {
        match path.split_once('/') {
            None => match path {
                "wait" => Some(Self::Wait),
                "queue" => Some(Self::Queue),
                "over" => Some(Self::Over),
                _ => None,
            },
            Some(("dial", n)) => n.parse().ok().map(Self::Dial),
            Some(("child", n)) => n.parse().ok().map(Self::Child),
            Some(("connect", id)) => id.parse().ok().map(Self::Connect),
            Some(("key", id)) => id.parse().ok().map(Self::Key),
            Some(_) => None,
        }
    }
}

impl std::fmt::Display for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dial(n) => write!(f, "dial/{n}"),
            Self::Child(n) => write!(f, "child/{n}"),
            Self::Wait => f.write_str("wait"),
            Self::Queue => f.write_str("queue"),
            Self::Connect(id) => write!(f, "connect/{id}"),
            Self::Key(id) => write!(f, "key/{id}"),
            Self::Over => f.write_str("over"),
        }
    }
}

/// Writes the documents of one transfer.
#[derive(Debug, Clone)]
pub struct Documents {
    base: String,
    id: TransferId,
}

impl Documents {
    /// For a transfer whose carrier reaches us at `public_url`.
    pub fn new(public_url: &str, tenant: &TenantId, id: TransferId) -> Self {
        Self {
            base: format!("{}/twilio/transfers/{tenant}/{id}", public_url.trim_end_matches('/')),
            id,
        }
    }

    /// Where the carrier asks that.
    pub fn url(&self, ask: Ask) -> String {
        format!("{}/{ask}", self.base)
    }

    /// The same, for a document: what is lost on the way is asked again.
    fn asks(&self, ask: Ask) -> String {
        connection_override(&self.url(ask))
    }

    /// The queue in which the caller waits, and the conference's name: nobody else's.
    pub fn room(&self) -> String {
        format!("transfer-{}", self.id)
    }

    /// What the caller hears now.
    pub fn caller(&self, transfer: &Transfer) -> Response {
        Response(match heard(transfer) {
            Heard::Dial => self.dial(transfer),
            Heard::Hold => vec![Verb::Enqueue {
                name: self.room(),
                action: Some(self.asks(Ask::Queue)),
                method: Method::Post,
                wait_url: Some(self.asks(Ask::Wait)),
            }],
            Heard::Conference => {
                let room = Conference {
                    end_on_exit: true,
                    beep: Beep::Never,
                    ..Conference::new(self.room())
                };
                let action = Some(self.asks(Ask::Over));
                vec![Verb::Dial(Dial { action, ..Dial::new(Noun::Conference(room)) })]
            }
            Heard::WayBack => way_back(transfer),
            Heard::Goodbye => vec![Verb::Hangup],
        })
    }

    fn dial(&self, transfer: &Transfer) -> Vec<Verb> {
        let settings = &transfer.settings;
        let target = transfer.progress.target;
        let Some(phone) = settings.targets.get(target) else { return way_back(transfer) };
        let number = Number {
            status_callback: Some(self.asks(Ask::Child(target))),
            status_callback_events: vec!["ringing".to_owned(), "answered".to_owned()],
            ..Number::new(phone.clone())
        };
        let mut verbs = Vec::new();
        // Said once: to whoever is passed on to the next target it would be old.
        if let (0, Some(text)) = (target, &settings.announcement) {
            verbs.push(say(text));
        }
        verbs.push(Verb::Dial(Dial {
            action: Some(self.asks(Ask::Dial(target))),
            timeout_s: Some(settings.ring_timeout_s),
            caller_id: settings.caller_id.clone(),
            answer_on_bridge: true,
            ..Dial::new(Noun::Number(number))
        }));
        verbs
    }

    /// What the caller hears who waits in the queue: the same again and again, or the way out of
    /// it.
    pub fn waiting(&self, transfer: &Transfer) -> Response {
        let back = match transfer.progress.phase {
            Phase::Return => true,
            Phase::Ended => transfer.outcome() != Some(Outcome::Bridged),
            _ => false,
        };
        if back {
            return Response(vec![Verb::Leave]);
        }
        hold(transfer.settings.hold_audio_url.as_deref())
    }

    /// What a target hears whom we call.
    pub fn target(&self, transfer: &Transfer, purpose: Purpose, leg: CallId) -> Response {
        Response(match purpose {
            Purpose::Notify => self.notify(transfer, leg),
            Purpose::Queue => {
                let queue = Queue { name: self.room(), url: Some(self.asks(Ask::Connect(leg))) };
                vec![Verb::Dial(Dial::new(Noun::Queue(queue)))]
            }
            Purpose::Conference => {
                let room = Conference {
                    end_on_exit: true,
                    beep: Beep::Never,
                    ..Conference::new(self.room())
                };
                vec![Verb::Dial(Dial::new(Noun::Conference(room)))]
            }
        })
    }

    fn notify(&self, transfer: &Transfer, leg: CallId) -> Vec<Verb> {
        let ask = || {
            let facts = transfer.settings.facts.as_deref().map(say);
            let prompts = facts.into_iter().chain([say(ASK)]).collect();
            Verb::Gather(Gather {
                num_digits: Some(1),
                timeout_s: Some(THINK_S),
                action: Some(self.asks(Ask::Key(leg))),
                ..Gather::new(prompts)
            })
        };
        vec![ask(), ask(), say(NO_KEY), Verb::Hangup]
    }

    /// What a target hears after a key; none of ours is asked for again.
    pub fn pressed(&self, transfer: &Transfer, leg: CallId, key: &str) -> Response {
        Response(match key {
            ACCEPT => vec![say(THANKS), Verb::Hangup],
            DECLINE => vec![say(DECLINED), Verb::Hangup],
            _ => self.notify(transfer, leg),
        })
    }
}

fn way_back(transfer: &Transfer) -> Vec<Verb> {
    match &transfer.settings.on_failure {
        OnFailure::Apologize { text } => {
            vec![say(text.as_deref().unwrap_or(APOLOGY)), Verb::Hangup]
        }
        OnFailure::Queue { name } => {
            vec![Verb::Enqueue {
                name: name.clone(),
                action: None,
                method: Method::Post,
                wait_url: None,
            }]
        }
        OnFailure::Url { url } => vec![Verb::Redirect { url: url.clone() }],
    }
}

/// What somebody hears who waits.
pub fn hold(audio: Option<&str>) -> Response {
    Response(match audio {
        Some(url) => vec![Verb::Play { url: url.to_owned() }],
        None => vec![say(PLEASE_HOLD), Verb::Pause { length_s: HOLD_PAUSE_S }],
    })
}

/// What somebody hears whose answer cannot be computed now: that it takes a moment, and then it is
/// asked for again, at `url`.
pub fn one_moment(url: String) -> Response {
    Response(vec![
        say("One moment, please."),
        Verb::Pause { length_s: ONE_MOMENT_S },
        Verb::Redirect { url },
    ])
}

/// What somebody hears for whom nothing could be done.
pub fn apology() -> Response {
    Response(vec![say(APOLOGY), Verb::Hangup])
}

fn say(text: &str) -> Verb {
    Verb::Say { text: text.to_owned(), voice: None, language: None }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::transfer::{Fact, Mode, Settings, decide};

    fn transfer(on_failure: OnFailure) -> Transfer {
        let worst = "&".repeat(200);
        let settings = Settings {
            targets: vec!["+12125550100".parse().unwrap(), "+12125550101".parse().unwrap()],
            caller_id: Some("+15005550006".parse().unwrap()),
            announcement: Some(worst.clone()),
            facts: Some(worst),
            hold_audio_url: None,
            ring_timeout_s: 25,
            on_failure,
        };
        settings.check().unwrap();
        Transfer::new(Mode::Direct, settings, Some(CallId(Uuid::nil())), Timestamp(0))
    }

    fn documents() -> Documents {
        Documents::new("https://voice.example/", &"acme".parse().unwrap(), TransferId(Uuid::nil()))
    }

    #[test]
    fn paths_round_trip() {
        let id = CallId(Uuid::from_u128(7));
        for ask in [
            Ask::Dial(3),
            Ask::Child(0),
            Ask::Wait,
            Ask::Queue,
            Ask::Connect(id),
            Ask::Key(id),
            Ask::Over,
        ] {
            assert_eq!(Ask::parse(&ask.to_string()), Some(ask));
            assert!(documents().url(ask).ends_with(&format!("-000000000000/{ask}")));
        }
        for wrong in ["", "dial", "dial/x", "dial/-1", "key/7", "wait/1", "dial/1/2", "other"] {
            assert_eq!(Ask::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn every_document_is_twiml_that_fits_inline() {
        let leg = CallId(Uuid::from_u128(7));
        for on_failure in [
            OnFailure::Apologize { text: None },
            OnFailure::Queue { name: "support".into() },
            OnFailure::Url { url: "https://a.test/?a=1&b=2".into() },
        ] {
            let mut it = transfer(on_failure);
            let mut seen = Vec::new();
            for fact in
                [Fact::Begun, Fact::Timeout, Fact::CallerWaits, Fact::Canceled, Fact::Timeout]
            {
                for event in decide(&it, &fact).unwrap() {
                    it.apply(&event, Timestamp(0));
                }
                seen.push(documents().caller(&it));
                seen.push(documents().waiting(&it));
            }
            seen.extend(Purpose::ALL.iter().map(|purpose| documents().target(&it, *purpose, leg)));
            seen.extend(["1", "2", "9"].map(|key| documents().pressed(&it, leg, key)));
            seen.extend([
                one_moment("https://a.test/".into()),
                apology(),
                hold(Some("https://a.test/x.mp3")),
            ]);
            for document in seen {
                let xml = document.to_xml().unwrap();
                assert!(xml.len() <= 4_000, "{} bytes", xml.len());
                assert_eq!(Response::parse(&xml).unwrap(), document);
                assert!(!document.0.is_empty(), "silence");
            }
        }
    }

    #[test]
    fn the_caller_hears_the_announcement_and_then_the_target() {
        let mut it = transfer(OnFailure::Apologize { text: None });
        for event in decide(&it, &Fact::Begun).unwrap() {
            it.apply(&event, Timestamp(0));
        }
        let xml = documents().caller(&it).to_xml().unwrap();
        for part in [
            "<Say>&amp;&amp;",
            "action=\"https://voice.example/twilio/transfers/acme/00000000-0000-0000-0000-000000000000/dial/0#rc=",
            "timeout=\"25\"",
            "callerId=\"+15005550006\"",
            "answerOnBridge=\"true\"",
            "/child/0#rc=",
            ">+12125550100</Number>",
        ] {
            assert!(xml.contains(part), "{part} in {xml}");
        }
    }
}
