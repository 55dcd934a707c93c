//! What is ready and what is not yet: written by whoever starts a part, read by `/readyz` and systemd.

use serde::Serialize;
use tokio::sync::watch;

/// One part of the appliance and how it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Part {
    pub name: &'static str,
    pub ready: bool,
    /// What it is doing or what is wrong, in plain words.
    pub status: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Board {
    parts: watch::Sender<Vec<Part>>,
}

impl Board {
    pub(crate) fn new(names: &[&'static str]) -> Self {
        let parts = names
            .iter()
            .map(|name| Part { name, ready: false, status: "waiting".to_owned() })
            .collect();
        Self { parts: watch::Sender::new(parts) }
    }

    pub(crate) fn set(&self, name: &str, ready: bool, status: &str) {
        self.parts.send_if_modified(|parts| {
            let Some(part) = parts.iter_mut().find(|part| part.name == name) else { return false };
            let changed = part.ready != ready || part.status != status;
            part.ready = ready;
            status.clone_into(&mut part.status);
            changed
        });
    }

    pub(crate) fn parts(&self) -> Vec<Part> {
        self.parts.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Vec<Part>> {
        self.parts.subscribe()
    }
}

pub(crate) fn all_ready(parts: &[Part]) -> bool {
    parts.iter().all(|part| part.ready)
}

/// `ready`, or what is missing: `task restoring, notification waiting`.
pub(crate) fn summary(parts: &[Part]) -> String {
    let missing: Vec<String> = parts
        .iter()
        .filter(|part| !part.ready)
        .map(|part| format!("{} {}", part.name, part.status))
        .collect();
    if missing.is_empty() { "ready".to_owned() } else { missing.join(", ") }
}
