use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::domain::AccountSid;
use crate::domain::call::{CallState, Direction};
use crate::domain::task::TaskKind;

/// Records everything once, and gives what a scrape says.
fn everything() -> String {
    let recorder = builder().unwrap().build_recorder();
    let recorded = Recorded(recorder.handle());
    let took = Duration::from_millis(3);
    let account: AccountSid = "AC00000000000000000000000000000001".parse().unwrap();
    metrics::with_local_recorder(&recorder, || {
        describe();
        calls_claimed(3, took);
        submitted(Submitted::Lost, Some(took));
        call_ended(Direction::Outbound, CallState::Busy);
        unknown_resolved(true);
        takeover(2);
        callback(HeardOf::Status, Heard::Forged);
        grpc_ended("/trunkline.v1.Leads/GetLead", "OK", took);
        grpc_limited("RATE_LIMIT");
        task(TaskKind::EraseLead, TaskEnd::Done, took);
        delivery(Delivered::Delivered, took);
        deliveries_dead(1);
        transfer_started("cold");
        transfer_ended("redirect", "bridged");
        transfer_step("redirect", StepResult::Done);
        transfer_bridged("redirect", took);
        store_is_down();
        set_totals(&Totals { breakers: vec![(account, BreakerState::Open)], ..Totals::default() });
    });
    recorded.render()
}

/// Names and label names of a scrape's samples, but for what histograms add.
fn samples(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut samples: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end).filter(|name| name.ends_with("_seconds")))
            .unwrap_or(name);
        let labels =
            labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
        let labels = labels.map(|(label, _)| label.to_owned()).filter(|label| label != "le");
        samples.entry(name.to_owned()).or_default().extend(labels);
    }
    samples
}

/// What the functions record is what the catalog says, no more and no less.
#[test]
fn the_catalog_holds_what_is_recorded() {
    let text = everything();
    let expected: BTreeMap<String, BTreeSet<String>> = CATALOG
        .iter()
        .map(|metric| {
            (metric.name.to_owned(), metric.labels.iter().map(|l| (*l).to_owned()).collect())
        })
        .collect();
    assert_eq!(samples(&text), expected);
    assert_eq!(expected.len(), CATALOG.len());
    for metric in CATALOG {
        let of_kind = format!("# TYPE {} {}\n", metric.name, metric.kind.as_str());
        assert!(text.contains(&of_kind), "{of_kind}");
        assert!(
            text.contains(&format!("# HELP {} {}", metric.name, metric.help)),
            "{}",
            metric.name
        );
    }
}

/// Prometheus' rules of naming.
#[test]
fn names_say_what_they_count() {
    for metric in CATALOG {
        let name = metric.name;
        assert!(name.starts_with("trunkline_") && !metric.help.is_empty(), "{name}");
        assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        assert_eq!(metric.unit == metrics::Unit::Seconds, name.ends_with("_seconds"), "{name}");
    }
}

/// The page for operators has one row for each metric, and says the same.
#[test]
fn the_page_says_the_same() {
    let page = include_str!("../../docs/metrics.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `trunkline_"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let told: Vec<[String; 5]> = CATALOG
        .iter()
        .map(|metric| {
            let unit = if metric.unit == metrics::Unit::Seconds { "seconds" } else { "count" };
            let labels: Vec<String> =
                metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let (name, kind) = (format!("`{}`", metric.name), metric.kind.as_str().to_owned());
            [name, kind, unit.to_owned(), labels.join(", "), metric.help.to_owned()]
        })
        .collect();
    assert_eq!(rows, told);
}

/// Whatever happens, there are few series: every label's values are words of ours, but for carrier
/// accounts.
#[test]
fn no_label_names_a_tenant_or_a_person() {
    for metric in CATALOG {
        for label in metric.labels {
            assert!(
                !["tenant", "phone", "lead", "run", "job", "call", "url", "peer"].contains(label),
                "{}",
                metric.name
            );
        }
    }
}
