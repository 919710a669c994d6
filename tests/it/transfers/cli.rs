//! `trunkline transfer`, as people type it.

use std::process::Stdio;

use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::process::Command;
use trunkline::simulator::Outcome;

use super::*;

/// Runs the command, and gives its exit code, what it printed, and its complaints.
async fn transfer(world: &World, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_trunkline"))
        .arg("transfer")
        .args(args)
        .args(["--endpoint", &world.endpoint])
        .env_clear()
        .env("TRUNKLINE_CLIENT__API_KEY", world.key.expose_secret())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_is_started_watched_and_listed() {
    let (world, caller) = on_the_line(TestDatabase::sqlite().await).await;
    people(&world, [comes_to(500, Outcome::Busy), answers(501)]);
    let (busy, free) = (phone(500), phone(501));
    let args = [
        "start",
        &caller.sid,
        busy.expose(),
        free.expose(),
        "--announcement",
        "One moment.",
        "--json",
    ];
    let (code, started, said) = transfer(&world, &args).await;
    assert_eq!((code, said.as_str()), (Some(0), ""));
    let started: Value = serde_json::from_str(&started).unwrap();
    let id = started["transfer_id"].as_str().unwrap();
    let (code, watched, said) = transfer(&world, &["watch", id]).await;
    assert_eq!(code, Some(0), "{watched} {said}");
    assert!(watched.contains("bridged"), "{watched}");
    let (code, listed, _) = transfer(&world, &["list", "--state", "bridged", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((code, listed["transfer_id"].as_str()), (Some(0), Some(id)), "{listed}");
    let (code, shown, _) = transfer(&world, &["get", id]).await;
    assert!(code == Some(0) && shown.contains(id), "{shown}");
    // What cannot be is said in words, and by the exit code.
    let (code, nothing, said) = transfer(&world, &["cancel", id]).await;
    assert_eq!((code, nothing.as_str()), (Some(1), ""));
    assert!(said.contains("has ended"), "{said}");
    let (code, _, said) = transfer(&world, &["start", &caller.sid, "12"]).await;
    assert!(code == Some(1) && said.contains("targets[0]"), "{said}");
    world.stop().await;
}
