//! Signals: SIGTERM and SIGINT end the service, SIGHUP makes it read its settings again.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::reload::Reload;

/// Listens for signals at once; the future it returns handles them, until one or somebody else says
/// stop.
pub(super) fn handle(
    stop: watch::Sender<bool>,
    mut reload: Reload,
) -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut stopped = stop.subscribe();
    Ok(async move {
        loop {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => break,
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => tokio::task::block_in_place(|| reload.run()),
            }
        }
        stop.send_replace(true);
    })
}
