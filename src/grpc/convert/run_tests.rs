use proptest::prelude::*;

use super::*;
use crate::domain::Timestamp;
use crate::domain::cap::{self, FrequencyCap};
use crate::domain::opt_out::OptOut;
use crate::domain::rule::Rule;
use crate::grpc::pb::frequency_cap::Span;

fn say() -> Option<pb::Script> {
    Some(script::write(Script::Say { text: "Hello".into(), voice: None, language: None }))
}

fn minimal() -> pb::RunSettings {
    pb::RunSettings { script: say(), ..Default::default() }
}

fn field(settings: pb::RunSettings) -> String {
    let checked = read(Some(settings)).and_then(|settings| {
        settings
            .check(Timestamp::from_secs(1_700_000_000))
            .map_err(|violation| violation.under("settings"))
    });
    checked.unwrap_err().field
}

#[test]
fn absent_means_the_documented_default() {
    let settings = read(Some(minimal())).unwrap();
    assert_eq!(settings, RunSettings::new("", settings.script.clone()));
    assert_eq!((settings.concurrency, settings.weight), (CONCURRENCY_MAX, 1));
    let retry = pb::RetryPolicy { max_attempts: 3, ..Default::default() };
    let settings = read(Some(pb::RunSettings { retry: Some(retry), ..minimal() })).unwrap();
    assert_eq!(settings.retry, RetryPolicy { max_attempts: 3, ..RetryPolicy::default() });
}

#[test]
fn violations_name_the_path() {
    let window = |opens_minute, closes_minute| {
        vec![pb::CallingWindow { opens_minute, closes_minute, weekdays: Vec::new() }]
    };
    let seconds = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let retry = |retry| pb::RunSettings { retry: Some(retry), ..minimal() };
    let capped = |max_attempts, span| {
        let cap = pb::FrequencyCap { max_attempts, span };
        pb::RunSettings { frequency_caps: vec![cap], ..minimal() }
    };
    let empty_say = pb::script::Kind::Say(pb::script::Say::default());
    assert_eq!(read(None).unwrap_err().field, "settings");
    for (settings, path) in [
        (pb::RunSettings::default(), "settings.script"),
        (
            pb::RunSettings { script: Some(pb::Script { kind: None }), ..minimal() },
            "settings.script.kind",
        ),
        (
            pb::RunSettings { script: Some(pb::Script { kind: Some(empty_say) }), ..minimal() },
            "settings.script.say.text",
        ),
        (
            pb::RunSettings { windows: window(1_440, 1_441), ..minimal() },
            "settings.windows[0].opens_minute",
        ),
        (
            pb::RunSettings { windows: window(600, 70_000), ..minimal() },
            "settings.windows[0].closes_minute",
        ),
        (
            pb::RunSettings {
                windows: vec![pb::CallingWindow {
                    opens_minute: 0,
                    closes_minute: 9,
                    weekdays: vec![1, 0],
                }],
                ..minimal()
            },
            "settings.windows[0].weekdays[1]",
        ),
        (
            pb::RunSettings { holidays: vec!["2026-12-25".into(), "25.12.".into()], ..minimal() },
            "settings.holidays[1]",
        ),
        (pb::RunSettings { caller_id: "12".into(), ..minimal() }, "settings.caller_id"),
        (capped(1, None), "settings.frequency_caps[0].span"),
        (capped(0, Some(Span::CalendarDays(1))), "settings.frequency_caps[0].max_attempts"),
        (capped(1, seconds(1, 5).map(Span::Rolling)), "settings.frequency_caps[0].rolling"),
        (capped(1, seconds(59, 0).map(Span::Rolling)), "settings.frequency_caps[0].rolling"),
        (pb::RunSettings { rules: vec![1, 9], ..minimal() }, "settings.rules[1]"),
        (pb::RunSettings { ring_timeout: seconds(30, 1), ..minimal() }, "settings.ring_timeout"),
        (pb::RunSettings { ring_timeout: seconds(4, 0), ..minimal() }, "settings.ring_timeout"),
        (pb::RunSettings { time_limit: seconds(-1, 0), ..minimal() }, "settings.time_limit"),
        (pb::RunSettings { concurrency: 10_001, ..minimal() }, "settings.concurrency"),
        (retry(pb::RetryPolicy { on: vec![99], ..Default::default() }), "settings.retry.on[0]"),
        (
            retry(pb::RetryPolicy { initial_delay: seconds(2_592_001, 0), ..Default::default() }),
            "settings.retry.initial_delay",
        ),
        (
            retry(pb::RetryPolicy { multiplier: f64::NAN, ..Default::default() }),
            "settings.retry.multiplier",
        ),
        (
            retry(pb::RetryPolicy { jitter: Some(1.5), ..Default::default() }),
            "settings.retry.jitter",
        ),
    ] {
        assert_eq!(field(settings), path);
    }
}

#[test]
fn a_patch_reads_what_its_mask_names() {
    let mask = |paths: &[&str]| {
        Some(prost_types::FieldMask { paths: paths.iter().map(|&path| path.to_owned()).collect() })
    };
    let given = pb::RunSettings { concurrency: 7, weight: 99_999, ..Default::default() };
    let patch_of = |paths: &[&str]| patch(Some(given.clone()), mask(paths));
    let patched = patch_of(&["concurrency", "concurrency"]).unwrap();
    assert_eq!((patched.fields, patched.settings.concurrency), (vec![RunField::Concurrency], 7));
    assert_eq!(patch_of(&["script"]).unwrap_err().field, "settings.script");
    assert_eq!(patch_of(&["name", "retry.on"]).unwrap_err().field, "update_mask.paths[1]");
    assert_eq!(patch_of(&[]).unwrap_err().field, "update_mask");
    assert_eq!(patch(None, None).unwrap_err().field, "update_mask");
    for word in RunField::ALL {
        let full = write_settings(RunSettings::new("n", script::read(say()).unwrap()));
        assert_eq!(patch(Some(full), mask(&[word.as_str()])).unwrap().fields, [*word]);
    }
}

#[test]
fn enums_round_trip() {
    for value in RunState::ALL {
        assert_eq!(state_of(state(*value)), Some(*value));
    }
    for value in
        [RetryOn::Busy, RetryOn::NoAnswer, RetryOn::Failed, RetryOn::Machine, RetryOn::Unknown]
    {
        assert_eq!(retry_on_of(retry_on(value)), Some(value));
    }
}

fn any_script() -> impl Strategy<Value = Script> {
    let optional = || prop::option::of("[a-z]{1,9}");
    prop_oneof![
        ("\\PC{1,40}", optional(), optional()).prop_map(|(text, voice, language)| Script::Say {
            text,
            voice,
            language
        }),
        "\\PC{1,40}".prop_map(|url| Script::Play { url }),
        ("\\PC{1,40}", prop::collection::btree_map("[a-z]{1,5}", "\\PC{0,9}", 0..5)).prop_map(
            |(url, parameters)| Script::Stream {
                url,
                parameters: parameters.into_iter().collect()
            }
        ),
        ("\\PC{1,40}", optional())
            .prop_map(|(url, fallback_url)| Script::FetchTwiml { url, fallback_url }),
    ]
}

prop_compose! {
    fn any_retry()(
        max_attempts in 1u32..=20,
        on in prop::collection::btree_set(
            prop::sample::select(vec![RetryOn::Busy, RetryOn::NoAnswer, RetryOn::Machine, RetryOn::Unknown]),
            1..4,
        ),
        delays in (0..=DELAY_MAX_S, 0..=DELAY_MAX_S),
        multiplier in 1.0f64..=10.0,
        jitter in 0.0f64..=1.0,
    ) -> RetryPolicy {
        let on = on.into_iter().collect();
        RetryPolicy { max_attempts, on, initial_delay_s: delays.0, multiplier, max_delay_s: delays.1, jitter }
    }
}

fn cap_of(max_attempts: u32, n: u32, days: bool) -> FrequencyCap {
    let span =
        if days { cap::Span::CalendarDays(n) } else { cap::Span::RollingSeconds(n * 86_400) };
    FrequencyCap { max_attempts, span }
}

prop_compose! {
    fn any_settings()(
        name in "\\PC{0,20}",
        script in any_script(),
        numbers in (1..=CONCURRENCY_MAX, 1u32..=1_000, -100..=100),
        windows in prop::collection::vec((0u16..700, 701u16..=1_440, 1..=ALL_DAYS), 0..3),
        holidays in prop::collection::vec(1i16..=12, 0..3),
        retry in any_retry(),
        (caller, opt_out) in (
            prop::option::of(Just("+14158672671")), prop::option::of(prop::sample::select(vec!['9', '#'])),
        ),
        rules in prop::sample::subsequence(Rule::ALL.to_vec(), 0..=3),
        caps in prop::collection::vec((1u32..=100, 1u32..=90, any::<bool>()), 0..3),
        starts_at in prop::option::of(0i64..2_000_000_000_000_000),
        expires_at in prop::option::of(0i64..2_000_000_000_000_000),
        timeouts in (5u32..=600, 10u32..=14_400),
    ) -> RunSettings {
        RunSettings {
            amd: None,
            frequency_caps: caps.into_iter().map(|(max_attempts, n, days)| cap_of(max_attempts, n, days)).collect(),
            opt_out: opt_out.map(OptOut::on),
            name, script, retry, rules,
            concurrency: numbers.0, weight: numbers.1, priority: numbers.2,
            windows: windows.into_iter().map(|(opens_minute, closes_minute, weekdays)| CallingWindow {
                opens_minute, closes_minute, weekdays,
            }).collect(),
            holidays: holidays.into_iter().map(|n| Date::constant(2026 + n, 12, 25)).collect(),
            caller_id: caller.map(|text| text.parse().unwrap()),
            starts_at: starts_at.map(Timestamp), expires_at: expires_at.map(Timestamp),
            ring_timeout_s: timeouts.0, time_limit_s: timeouts.1,
        }
    }
}

proptest! {
    #[test]
    fn settings_round_trip(settings in any_settings()) {
        prop_assert_eq!(read(Some(write_settings(settings.clone()))), Ok(settings));
    }
}
