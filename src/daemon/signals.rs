//! Signals: SIGTERM and SIGINT end the service.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Listens for signals at once; the future it returns waits for one.
pub(super) fn stop_on_signal(
    stop: watch::Sender<bool>,
) -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
    })
}
