use proptest::prelude::*;

use super::*;

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
    let stream = Stream { url: "wss://a.test/s".into(), parameters: vec![("k".into(), "\"v\"".into())] };
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
fn order_is_kept() {
    let say = |text: &str| Verb::Say { text: text.into(), voice: None, language: None };
    let verbs = [say("one"), Verb::Play { url: "https://a.test/1.mp3".into() }, say("two"), Verb::Hangup];
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
}

#[test]
fn refuses_what_twilio_refuses() {
    for malformed in ["<Response>", "<Response><Say></Response>", "<Response><Say>&nope;</Say></Response>"] {
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

fn verb() -> impl Strategy<Value = Verb> {
    let parameters = proptest::collection::vec((attribute(), attribute()), 0..4);
    prop_oneof![
        (text(), proptest::option::of(attribute()), proptest::option::of(attribute()))
            .prop_map(|(text, voice, language)| Verb::Say { text, voice, language }),
        url().prop_map(|url| Verb::Play { url }),
        (0..=PAUSE_MAX_S).prop_map(|length_s| Verb::Pause { length_s }),
        url().prop_map(|url| Verb::Redirect { url }),
        Just(Verb::Hangup),
        Just(Verb::Reject),
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
