use proptest::prelude::*;

use super::*;
use crate::domain::Phone;

fn xml(verbs: &[Verb]) -> String {
    Response(verbs.to_vec()).to_xml().unwrap()
}

#[test]
fn writes_what_twilio_documents() {
    let say = |voice: Option<&str>, language: Option<&str>| Verb::Say {
        text: "Tom & <Jerry>".into(),
        voice: voice.map(Into::into),
        language: language.map(Into::into),
    };
    assert_eq!(xml(&[say(None, None)]), "<Response><Say>Tom &amp; &lt;Jerry&gt;</Say></Response>");
    assert_eq!(
        xml(&[say(Some("Polly.Joanna"), None)]),
        r#"<Response><Say voice="Polly.Joanna">Tom &amp; &lt;Jerry&gt;</Say></Response>"#
    );
    assert_eq!(
        xml(&[say(Some("alice"), Some("de-DE"))]),
        r#"<Response><Say voice="alice" language="de-DE" loop="1">Tom &amp; &lt;Jerry&gt;</Say></Response>"#
    );
    let stream =
        Stream { url: "wss://a.test/s".into(), parameters: vec![("k".into(), "\"v\"".into())] };
    assert_eq!(
        xml(&[Verb::Pause { length_s: 2 }, Verb::Connect(stream), Verb::Hangup]),
        concat!(
            r#"<Response><Pause length="2" /><Connect><Stream url="wss://a.test/s">"#,
            r#"<Parameter name="k" value="&quot;v&quot;" /></Stream></Connect><Hangup /></Response>"#
        )
    );
    assert_eq!(xml(&[]), "<Response />");
}

#[test]
fn writes_dials_queues_and_keys() {
    let phone = |text: &str| -> Phone { text.parse().unwrap() };
    let target = Number {
        url: Some("https://a.test/w".into()),
        status_callback: Some("https://a.test/s?a=1&b=2".into()),
        status_callback_events: vec!["ringing".into(), "completed".into()],
        ..Number::new(phone("+14155550100"))
    };
    let dial = Dial {
        action: Some("/next".into()),
        method: Method::Get,
        timeout_s: Some(25),
        caller_id: Some(phone("+15005550006")),
        answer_on_bridge: true,
        time_limit_s: Some(60),
        hangup_on_star: true,
        ..Dial::new(Noun::Number(target))
    };
    assert_eq!(
        xml(&[Verb::Dial(dial)]),
        concat!(
            r#"<Response><Dial action="/next" method="GET" timeout="25" callerId="+15005550006" "#,
            r#"answerOnBridge="true" timeLimit="60" hangupOnStar="true"><Number url="https://a.test/w" "#,
            r#"statusCallback="https://a.test/s?a=1&amp;b=2" statusCallbackEvent="ringing completed">"#,
            r#"+14155550100</Number></Dial></Response>"#
        )
    );
    let room = Conference {
        start_on_enter: false,
        end_on_exit: true,
        beep: Beep::OnEnter,
        wait_url: Some(String::new()),
        ..Conference::new("room".into())
    };
    let queue = Noun::Queue(Queue { name: "A & B".into(), url: None });
    assert_eq!(
        xml(&[Verb::Dial(Dial::new(queue)), Verb::Dial(Dial::new(Noun::Conference(room)))]),
        concat!(
            r#"<Response><Dial><Queue>A &amp; B</Queue></Dial><Dial><Conference startConferenceOnEnter="false" "#,
            r#"endConferenceOnExit="true" beep="onEnter" waitUrl="">room</Conference></Dial></Response>"#
        )
    );
    let enqueue = Verb::Enqueue {
        name: "hold".into(),
        action: Some("/left".into()),
        method: Method::Post,
        wait_url: Some("/wait".into()),
    };
    let gather = Gather {
        num_digits: Some(1),
        timeout_s: Some(8),
        finish_on_key: None,
        action: Some("/keys".into()),
        action_on_empty_result: true,
        ..Gather::new(vec![Verb::Pause { length_s: 1 }])
    };
    assert_eq!(
        xml(&[enqueue, Verb::Gather(gather), Verb::Leave]),
        concat!(
            r#"<Response><Enqueue action="/left" waitUrl="/wait">hold</Enqueue><Gather input="dtmf" numDigits="1" "#,
            r#"timeout="8" finishOnKey="" action="/keys" actionOnEmptyResult="true"><Pause length="1" /></Gather>"#,
            r#"<Leave /></Response>"#
        )
    );
    let nested = Verb::Gather(Gather::new(vec![Verb::Hangup]));
    assert!(matches!(Response(vec![nested]).to_xml(), Err(Error::Invalid(_))));
}

#[test]
fn a_dial_prints_no_phone() {
    let dial = Dial {
        caller_id: Some("+15005550006".parse().unwrap()),
        ..Dial::new(Noun::Number(Number::new("+14155550100".parse().unwrap())))
    };
    let printed = format!("{:?}", Verb::Dial(dial));
    assert!(!printed.contains("5550100") && !printed.contains("5550006"), "{printed}");
}

#[test]
fn order_is_kept() {
    let say = |text: &str| Verb::Say { text: text.into(), voice: None, language: None };
    let verbs =
        [say("one"), Verb::Play { url: "https://a.test/1.mp3".into() }, say("two"), Verb::Hangup];
    assert_eq!(Response::parse(&xml(&verbs)).unwrap().0, verbs);
}

#[test]
fn scripts_become_documents() {
    let url = || "https://a.test/x".to_owned();
    let static_ones = [
        Script::Say { text: "hi".into(), voice: None, language: None },
        Script::Play { url: url() },
        Script::Stream { url: "wss://a.test".into(), parameters: vec![] },
    ];
    for script in static_ones {
        assert!(Response::for_script(&script).unwrap().to_xml().is_ok());
    }
    assert_eq!(Response::for_script(&Script::FetchTwiml { url: url(), fallback_url: None }), None);
}

#[test]
fn a_control_character_is_refused() {
    for bad in ["a\0b", "a\u{1b}b", "a\rb", "\u{FFFF}"] {
        let say = Verb::Say { text: bad.into(), voice: None, language: None };
        assert_eq!(Response(vec![say]).to_xml(), Err(Error::ControlCharacter));
    }
}

#[test]
fn reads_what_people_write() {
    let read = Response::parse(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- hello -->\n<Response>\n  <Say>A &#233; <![CDATA[<b>]]></Say>
        <Play>\n   https://a.test/x?a=1&amp;b=2 </Play><Pause/></Response>",
    )
    .unwrap();
    assert_eq!(
        read.0,
        [
            Verb::Say { text: "A é <b>".into(), voice: None, language: None },
            Verb::Play { url: "https://a.test/x?a=1&b=2".into() },
            Verb::Pause { length_s: 1 },
        ]
    );
    let short = Response::parse(
        "<Response><Dial>\n +14155550100 </Dial><Gather>\n<Say>a</Say> </Gather></Response>",
    );
    let dial = Dial::new(Noun::Number(Number::new("+14155550100".parse().unwrap())));
    let say = Verb::Say { text: "a".into(), voice: None, language: None };
    assert_eq!(short.unwrap().0, [Verb::Dial(dial), Verb::Gather(Gather::new(vec![say]))]);
}

#[test]
fn refuses_what_twilio_refuses() {
    for malformed in
        ["<Response>", "<Response><Say></Response>", "<Response><Say>&nope;</Say></Response>"]
    {
        assert!(matches!(Response::parse(malformed), Err(Error::Malformed { .. })), "{malformed}");
    }
    for invalid in [
        "",
        "hello",
        "<Say>no root</Say>",
        "<Response/><Response/>",
        "<Response><Dance/></Response>",
        "<Response>text</Response>",
        "<Response><Connect/></Response>",
        "<Response><Pause length=\"soon\"/></Response>",
        "<!DOCTYPE x [<!ENTITY a \"b\">]><Response/>",
        "<Response><Say><b>bold</b></Say></Response>",
        "<Response><Hangup>now</Hangup></Response>",
        "<Response><Dial/></Response>",
        "<Response><Dial>bob</Dial></Response>",
        "<Response><Dial>+14155550100<Queue>q</Queue></Dial></Response>",
        "<Response><Dial><Queue>q</Queue><Queue>r</Queue></Dial></Response>",
        "<Response><Dial><Sip>sip:a@b.test</Sip></Dial></Response>",
        "<Response><Dial callerId=\"bob\">+14155550100</Dial></Response>",
        "<Response><Dial timeout=\"soon\">+14155550100</Dial></Response>",
        "<Response><Dial answerOnBridge=\"maybe\">+14155550100</Dial></Response>",
        "<Response><Dial method=\"PUT\">+14155550100</Dial></Response>",
        "<Response><Dial><Number statusCallbackEvent=\"sung\">+14155550100</Number></Dial></Response>",
        "<Response><Dial><Conference beep=\"loud\">c</Conference></Dial></Response>",
        "<Response><Enqueue> </Enqueue></Response>",
        "<Response><Gather input=\"speech\"/></Response>",
        "<Response><Gather finishOnKey=\"##\"/></Response>",
        "<Response><Gather><Hangup/></Gather></Response>",
        "<Response><Gather><Gather/></Gather></Response>",
        "<Response><a><b><c><d/></c></b></a></Response>",
    ] {
        assert!(matches!(Response::parse(invalid), Err(Error::Invalid(_))), "{invalid}");
    }
    let long = format!("<Response><Say>{}</Say></Response>", "a".repeat(DOCUMENT_MAX_BYTES));
    assert_eq!(Response::parse(&long), Err(Error::TooLarge));
    let many = format!("<Response>{}</Response>", "<Hangup/>".repeat(VERBS_MAX + 1));
    assert_eq!(Response::parse(&many), Err(Error::TooLarge));
}

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ -~\n\té😀\u{a0}]{0,40}").unwrap()
}

fn attribute() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[ -~é😀\n]{1,30}").unwrap()
}

fn url() -> impl Strategy<Value = String> {
    proptest::string::string_regex("https://[a-z]{1,8}\\.test/[!-~]{0,20}").unwrap()
}

fn name() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[!-~é😀]([ -~]{0,20}[!-~])?").unwrap()
}

fn phone() -> impl Strategy<Value = Phone> {
    proptest::string::string_regex("\\+1415555[0-9]{4}").unwrap().prop_map(Phone::from_stored)
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![Just(Method::Post), Just(Method::Get)]
}

fn maybe<T: std::fmt::Debug>(some: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    proptest::option::of(some)
}

fn some_of(words: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    proptest::sample::subsequence(words, 0..=words.len())
        .prop_map(|words| words.into_iter().map(str::to_owned).collect())
}

fn noun() -> impl Strategy<Value = Noun> {
    let number = (phone(), maybe(attribute()), maybe(attribute()), some_of(&NUMBER_EVENTS))
        .prop_map(|(number, url, status_callback, status_callback_events)| {
            Noun::Number(Number { number, url, status_callback, status_callback_events })
        });
    let queue =
        (name(), maybe(attribute())).prop_map(|(name, url)| Noun::Queue(Queue { name, url }));
    let beep = proptest::sample::select(&Beep::ALL[..]);
    let events = some_of(&CONFERENCE_EVENTS);
    let flags = any::<(bool, bool)>();
    let room = (name(), flags, beep, maybe(attribute()), maybe(attribute()), events).prop_map(
        |(
            name,
            (start_on_enter, end_on_exit),
            beep,
            wait_url,
            status_callback,
            status_callback_events,
        )| {
            Noun::Conference(Conference {
                name,
                start_on_enter,
                end_on_exit,
                beep,
                wait_url,
                status_callback,
                status_callback_events,
            })
        },
    );
    prop_oneof![number, queue, room]
}

fn dial() -> impl Strategy<Value = Verb> {
    let (action, seconds) = ((maybe(attribute()), method()), any::<(Option<u32>, Option<u32>)>());
    (action, seconds, maybe(phone()), any::<(bool, bool)>(), noun()).prop_map(
        |(
            (action, method),
            (timeout_s, time_limit_s),
            caller_id,
            (answer_on_bridge, hangup_on_star),
            noun,
        )| {
            Verb::Dial(Dial {
                action,
                method,
                timeout_s,
                caller_id,
                answer_on_bridge,
                time_limit_s,
                hangup_on_star,
                noun,
            })
        },
    )
}

fn prompt() -> impl Strategy<Value = Verb> {
    prop_oneof![
        (text(), maybe(attribute()), maybe(attribute()))
            .prop_map(|(text, voice, language)| Verb::Say { text, voice, language }),
        url().prop_map(|url| Verb::Play { url }),
        (0..=PAUSE_MAX_S).prop_map(|length_s| Verb::Pause { length_s }),
    ]
}

fn gather() -> impl Strategy<Value = Verb> {
    let key = proptest::sample::select(vec!['0', '5', '9', '#', '*']);
    let prompts = proptest::collection::vec(prompt(), 0..4);
    let numbers = any::<(Option<u32>, Option<u32>)>();
    (numbers, maybe(key), maybe(attribute()), method(), any::<bool>(), prompts).prop_map(
        |(
            (num_digits, timeout_s),
            finish_on_key,
            action,
            method,
            action_on_empty_result,
            prompts,
        )| {
            Verb::Gather(Gather {
                num_digits,
                timeout_s,
                finish_on_key,
                action,
                method,
                action_on_empty_result,
                prompts,
            })
        },
    )
}

fn verb() -> impl Strategy<Value = Verb> {
    let parameters = proptest::collection::vec((attribute(), attribute()), 0..4);
    prop_oneof![
        prompt(),
        dial(),
        gather(),
        (name(), maybe(attribute()), method(), maybe(attribute())).prop_map(
            |(name, action, method, wait_url)| Verb::Enqueue { name, action, method, wait_url }
        ),
        url().prop_map(|url| Verb::Redirect { url }),
        prop_oneof![Just(Verb::Leave), Just(Verb::Hangup), Just(Verb::Reject)],
        (url(), parameters).prop_map(|(url, parameters)| Verb::Connect(Stream { url, parameters })),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(verbs in proptest::collection::vec(verb(), 0..8)) {
        let response = Response(verbs);
        prop_assert_eq!(Response::parse(&response.to_xml().unwrap()).unwrap(), response);
    }

    #[test]
    fn reading_never_panics(xml in "[<>/A-Za-z&;#!\\[\\]\"= ]{0,80}") {
        let _ = Response::parse(&xml);
        let _ = Response::parse(&format!("<Response>{xml}</Response>"));
    }
}
