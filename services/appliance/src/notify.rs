//! Every message to systemd. Without systemd (`NOTIFY_SOCKET` not set) they go nowhere.

use std::time::Duration;

use sd_notify::NotifyState;

/// One line of `systemctl status`.
pub(crate) fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// Every service is restored and serves.
pub(crate) fn ready(text: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(text)]);
}

pub(crate) fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// The process is alive: said only after a probe that went through HTTP and the broker.
pub(crate) fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often `alive` has to be said at least, if systemd asks for it.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot reach systemd");
    }
}
