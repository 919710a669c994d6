//! SIGTERM and SIGINT, as a token.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Canceled by the first SIGTERM or SIGINT; a second one ends the process at once.
pub fn shutdown() -> CancellationToken {
    let token = CancellationToken::new();
    let told = token.clone();
    tokio::spawn(async move {
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::error!("cannot listen for signals; only SIGKILL will end this process");
            return;
        };
        for seen in 0.. {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if seen > 0 {
                tracing::warn!("{name} again; not waiting any longer");
                std::process::exit(1);
            }
            tracing::info!("{name}; a second one does not wait");
            told.cancel();
        }
    });
    token
}
