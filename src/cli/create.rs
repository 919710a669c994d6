//! `trunkline run create`: a run, its leads from a file, sealed, started and followed in one go.

use std::path::PathBuf;

use clap::ArgAction;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::client::{self, Client, request_id};
use super::output::Output;
use super::run::{self, ask};
use super::{Error, csv, display, import, lead, window};
use crate::domain::cap::{self, Span};
use crate::domain::retry::ATTEMPTS_MAX;
use crate::domain::rule::Rule;
use crate::domain::run::{CONCURRENCY_MAX, PRIORITY_MAX, WEIGHT_MAX};
use crate::grpc::pb::{
    CallingRule, CallingWindow, CreateRunRequest, FrequencyCap, LeadFilter, OptOut, RetryPolicy,
    RunSettings, Script, frequency_cap, script,
};

/// What the run does.
#[derive(clap::Args)]
pub struct Args {
    /// For people; up to 200 characters.
    #[arg(long)]
    name: String,
    #[command(flatten)]
    script: ScriptArgs,
    /// Adds every lead of this CSV file.
    #[arg(long, value_name = "FILE.csv")]
    leads: Option<PathBuf>,
    /// Adds a job for every lead of the tenant, or for those that the filters below let through.
    #[arg(long, conflicts_with = "leads")]
    from_leads: bool,
    /// Which leads, with --from-leads.
    #[command(flatten)]
    filter: lead::Filter,
    /// The run's live calls at most, 1 to 10,000 [default: the tenant's limit]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(CONCURRENCY_MAX)))]
    concurrency: Option<u32>,
    /// Share of the tenant's slots beside its other runs, 1 to 1,000.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(WEIGHT_MAX)))]
    weight: u32,
    /// Breaks ties between runs, -100 to 100; bigger goes first.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true,
          value_parser = clap::value_parser!(i32).range(-i64::from(PRIORITY_MAX)..=i64::from(PRIORITY_MAX)))]
    priority: i32,
    /// Attempts for each lead in all, 1 to 20; busy and no answer are tried again.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(ATTEMPTS_MAX)))]
    max_attempts: u32,
    /// At most N attempts to a phone, counted over all runs of the tenant: N/day (the callee's),
    /// N/Dd (D days before the attempt) or N/Hh (hours). Can be repeated.
    #[arg(long, value_name = "CAP", value_parser = frequency_cap)]
    cap: Vec<FrequencyCap>,
    /// A law to keep to, beside windows and caps; its days and hours by the callee's clock. Can be
    /// repeated.
    #[arg(long = "rule", value_name = "RULE", value_parser = rule())]
    rules: Vec<CallingRule>,
    /// When callees may be called, by their own clock; may be given more than once [default: the
    /// tenant's window]
    #[arg(long = "window", value_name = "[DAYS ]HH:MM-HH:MM", value_parser = window::parse)]
    windows: Vec<CallingWindow>,
    /// A day on which nobody is called, by the callee's calendar; may be given more than once.
    #[arg(long = "holiday", value_name = "YYYY-MM-DD")]
    holidays: Vec<String>,
    /// Not before, for example 2026-09-01T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    starts_at: Option<jiff::Timestamp>,
    /// Jobs still queued then expire [default: 7 days after the start]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    expires_at: Option<jiff::Timestamp>,
    /// A key by which callees ask to be called no more, 9 unless given; only with --say and --play.
    #[arg(long, value_name = "KEY", num_args = 0..=1, require_equals = true, default_missing_value = "9")]
    opt_out: Option<String>,
    /// The number shown to callees, E.164, one of the tenant's [default: each in turn]
    #[arg(long, value_name = "PHONE")]
    caller_id: Option<String>,
    /// Start dialing once the leads are in.
    #[arg(long)]
    start: bool,
    /// No more jobs will come [default: true with --leads, else false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          action = ArgAction::Set)]
    seal: Option<bool>,
    /// Follow the run until it ends.
    #[arg(long)]
    watch: bool,
}

/// What callees hear; exactly one.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct ScriptArgs {
    /// Text to speech.
    #[arg(long, value_name = "TEXT")]
    say: Option<String>,
    /// An audio file, http or https.
    #[arg(long, value_name = "URL")]
    play: Option<String>,
    /// A media stream, ws or wss: an AI voice agent.
    #[arg(long, value_name = "URL")]
    stream: Option<String>,
    /// TwiML that the carrier fetches, http or https.
    #[arg(long, value_name = "URL")]
    twiml_url: Option<String>,
}

impl ScriptArgs {
    fn into_script(self) -> Script {
        let say = |text| script::Kind::Say(script::Say { text, ..script::Say::default() });
        let play = |url| script::Kind::Play(script::Play { url });
        let stream =
            |url| script::Kind::Stream(script::Stream { url, ..script::Stream::default() });
        let fetch =
            |url| script::Kind::FetchTwiml(script::FetchTwiml { url, ..Default::default() });
        let kind = self
            .say
            .map(say)
            .or_else(|| self.play.map(play))
            .or_else(|| self.stream.map(stream))
            .or_else(|| self.twiml_url.map(fetch));
        Script { kind }
    }
}

fn instant(text: &str) -> Result<jiff::Timestamp, &'static str> {
    text.parse()
        .map_err(|_| "must be a date and time with an offset, for example 2026-09-01T08:00:00Z")
}

fn rule() -> impl TypedValueParser<Value = CallingRule> {
    PossibleValuesParser::new(Rule::ALL.iter().map(|rule| rule.as_str())).map(|word| {
        match Rule::from_word(&word) {
            Some(Rule::France2023) => CallingRule::France2023,
            Some(Rule::UsTsr) => CallingRule::UsTsr,
            Some(Rule::UsRegulationF) => CallingRule::UsRegulationF,
            None => CallingRule::Unspecified,
        }
    })
}

fn frequency_cap(text: &str) -> Result<FrequencyCap, String> {
    let wrong = || "must be N/day, N/Dd or N/Hh, for example 3/day or 5/7d".to_owned();
    let (attempts, span) = text.split_once('/').ok_or_else(wrong)?;
    let times = |number: &str, seconds: u32| {
        let number: u32 = number.parse().map_err(|_| wrong())?;
        Ok::<_, String>(Span::RollingSeconds(number.saturating_mul(seconds)))
    };
    let span = match (span, span.strip_suffix('d'), span.strip_suffix('h')) {
        ("day", ..) => Span::CalendarDays(1),
        (_, Some(days), _) => times(days, 24 * 3_600)?,
        (_, _, Some(hours)) => times(hours, 3_600)?,
        _ => return Err(wrong()),
    };
    let cap = cap::FrequencyCap { max_attempts: attempts.parse().map_err(|_| wrong())?, span };
    cap.check().map_err(|violation| violation.to_string())?;
    let span = match cap.span {
        Span::CalendarDays(days) => frequency_cap::Span::CalendarDays(days),
        Span::RollingSeconds(seconds) => frequency_cap::Span::Rolling(prost_types::Duration {
            seconds: i64::from(seconds),
            nanos: 0,
        }),
    };
    Ok(FrequencyCap { max_attempts: cap.max_attempts, span: Some(span) })
}

/// Creates the run, and does with it what else was asked.
pub(super) async fn execute(client: &Client, args: Args, output: Output) -> Result<(), Error> {
    // Read once before anything is sent: a broken file leaves no half-made run behind.
    let total = args.leads.as_deref().map(|path| csv::count(path, &[])).transpose()?.unwrap_or(0);
    let (leads, start, watch) = (args.leads.clone(), args.start, args.watch);
    let from_leads = args.lead_filter()?;
    let seal = args.seal.unwrap_or(leads.is_some() || from_leads.is_some());
    let request = CreateRunRequest {
        request_id: request_id(),
        settings: Some(settings(args)),
        jobs: Vec::new(),
        // With a file to come both wait for it: a run cut short by an error must not dial, nor
        // complete.
        start: start && leads.is_none(),
        seal: seal && leads.is_none(),
        from_leads,
    };
    let created = ask!(client, create_run, request)?.run;
    let mut run =
        created.ok_or_else(|| Error::Runtime("the server's answer holds no run".into()))?;
    if let Some(path) = leads {
        let imported =
            import::leads(&client.queue, &run.run_id, &path, total).await.inspect_err(|_| {
                eprintln!("the run {} was created, and is neither sealed nor started", run.run_id);
            })?;
        let answer = &imported.answer;
        if !output.json {
            let (added, duplicate, rejected) =
                (answer.added_count, answer.duplicate_count, answer.rejected_count);
            lead::show_tally(output, added, duplicate, rejected, &imported.rejections)?;
        }
        // Started before it is sealed: a sealed run whose leads were all rejected is over at once.
        if start {
            run = run::start(client, run.run_id.clone()).await?.unwrap_or(run);
        }
        if seal {
            run = run::seal(client, run.run_id.clone()).await?.unwrap_or(run);
        }
    }
    // A followed run shows itself; with JSON the run comes first, for its id.
    run::show(output, Some(&run), None)?;
    if watch { run::follow(client, &run.run_id, false, output).await } else { Ok(()) }
}

impl Args {
    /// Which leads the run is made of, if it is.
    pub(super) fn lead_filter(&self) -> Result<Option<LeadFilter>, Error> {
        let filter = self.filter.to_wire();
        match self.from_leads {
            true => Ok(Some(filter)),
            false if filter == LeadFilter::default() => Ok(None),
            false => {
                Err(Error::Usage("--from-leads is missing: without it filters mean nothing".into()))
            }
        }
    }
}

/// The settings that were put.
pub(super) fn settings(args: Args) -> RunSettings {
    RunSettings {
        name: args.name,
        script: Some(args.script.into_script()),
        concurrency: args.concurrency.unwrap_or(0),
        weight: args.weight,
        priority: args.priority,
        windows: args.windows,
        holidays: args.holidays,
        retry: (args.max_attempts > 1)
            .then(|| RetryPolicy { max_attempts: args.max_attempts, ..RetryPolicy::default() }),
        frequency_caps: args.cap,
        rules: args.rules.into_iter().map(i32::from).collect(),
        opt_out: args.opt_out.map(|digit| OptOut { digit, ..OptOut::default() }),
        caller_id: args.caller_id.unwrap_or_default(),
        starts_at: args.starts_at.map(display::timestamp),
        expires_at: args.expires_at.map(display::timestamp),
        ..RunSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Probe {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        let all = ["x", "--name", "n"].iter().chain(words);
        Probe::try_parse_from(all).map(|probe| probe.args)
    }

    #[test]
    fn exactly_one_script() {
        assert!(parse(&[]).is_err());
        assert!(parse(&["--say", "a", "--play", "https://x"]).is_err());
        for (flag, value) in
            [("--say", "a"), ("--play", "u"), ("--stream", "u"), ("--twiml-url", "u")]
        {
            let settings = settings(parse(&[flag, value]).unwrap());
            assert!(settings.script.unwrap().kind.is_some());
        }
    }

    #[test]
    fn seal_follows_leads_unless_said() {
        let seal = |words: &[&str]| {
            let args = parse(&[&["--say", "a"], words].concat()).unwrap();
            args.seal.unwrap_or(args.leads.is_some())
        };
        assert!(!seal(&[]));
        assert!(seal(&["--seal"]));
        assert!(seal(&["--leads", "x.csv"]));
        assert!(!seal(&["--leads", "x.csv", "--seal=false"]));
    }

    #[test]
    fn caps() {
        let span = |days, seconds| match days {
            Some(days) => frequency_cap::Span::CalendarDays(days),
            None => frequency_cap::Span::Rolling(prost_types::Duration { seconds, nanos: 0 }),
        };
        for (text, max_attempts, span) in [
            ("3/day", 3, span(Some(1), 0)),
            ("5/7d", 5, span(None, 7 * 86_400)),
            ("2/12h", 2, span(None, 12 * 3_600)),
        ] {
            assert_eq!(
                frequency_cap(text).unwrap(),
                FrequencyCap { max_attempts, span: Some(span) }
            );
        }
        for wrong in ["", "3", "day/3", "0/day", "3/d", "3/91d", "3/-1h", "3/9999999999d", "france"]
        {
            assert!(frequency_cap(wrong).is_err(), "{wrong}");
        }
        let args =
            parse(&["--say", "a", "--cap", "3/day", "--cap", "5/7d", "--rule", "us-tsr"]).unwrap();
        let settings = settings(args);
        assert_eq!(settings.frequency_caps.len(), 2);
        assert_eq!(settings.rules, [CallingRule::UsTsr as i32]);
        assert!(parse(&["--say", "a", "--rule", "france"]).is_err());
    }

    #[test]
    fn ranges_and_times() {
        let with = |words: &[&str]| parse(&[&["--say", "a"], words].concat());
        assert!(with(&["--concurrency", "0"]).is_err());
        assert!(with(&["--weight", "1001"]).is_err());
        assert!(with(&["--priority", "-101"]).is_err());
        assert!(with(&["--max-attempts", "21"]).is_err());
        assert!(with(&["--starts-at", "tomorrow"]).is_err());
        let settings = settings(
            with(&[
                "--priority",
                "-7",
                "--max-attempts",
                "3",
                "--starts-at",
                "2026-09-01T08:00:00Z",
            ])
            .unwrap(),
        );
        assert_eq!((settings.priority, settings.retry.unwrap().max_attempts), (-7, 3));
        assert_eq!(settings.starts_at.unwrap().seconds, 1_788_249_600);
    }
}
