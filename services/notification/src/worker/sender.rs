//! Works pending mails off, one after the other. `sending` is committed before an attempt and its outcome after it, so
//! a mail whose attempt may have succeeded is never attempted again.

use std::sync::Arc;
use std::time::Duration;

use events::notification::NotificationSent;
use events::{Meta, Publish};
use jiff::Timestamp;
use kit::{Clock, Commit, CommitError, Tx};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::mail::compose::Composer;
use crate::mail::outbox::Outbox;
use crate::mail::{Delivery, Mailer};
use crate::model::breaker::Breaker;
use crate::model::mail::{Mail, Outcome, Route, Status};
use crate::store;
use crate::worker::reader::REMEMBERED_FOR;

/// Without a mail to send the table is looked at so often, whatever wakes the sender before.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// While the broker cannot be reached.
const BROKER_WAIT: Duration = Duration::from_secs(1);
/// Old mails are cleared away so many at once.
const SWEPT_AT_ONCE: usize = 100;
/// Mails whose time is over, looked for while the breaker is open.
const OVERDUE_AT_ONCE: usize = 100;

pub(crate) struct Sender {
    pub(crate) commit: Commit,
    pub(crate) mailer: Mailer,
    pub(crate) composer: Arc<Composer>,
    /// Also for attempts of an earlier configuration.
    pub(crate) outbox: Outbox,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) wake: Arc<Notify>,
    pub(crate) stop: CancellationToken,
}

/// What the sender does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Look again at once.
    Look,
    /// Nothing is to be done for so long.
    Wait(Duration),
    /// The broker does not take commits.
    NoBroker,
}

impl Sender {
    /// Sends until it is stopped, whenever the service is the active one.
    pub(crate) async fn run(mut self) {
        let mut breaker = Breaker::default();
        let mut recovered = false;
        while !self.stop.is_cancelled() {
            if !self.commit.status().borrow().is_ready() {
                // Whoever was active in between may have begun attempts, and so may we have.
                recovered = false;
                self.wait_until_ready().await;
                continue;
            }
            let wait = match self.turn(&mut recovered, &mut breaker).await {
                Next::Look => continue,
                Next::NoBroker => BROKER_WAIT,
                Next::Wait(wait) => wait.min(LOOK_AGAIN),
            };
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// A step, after a recovery if one is due.
    async fn turn(&self, recovered: &mut bool, breaker: &mut Breaker) -> Next {
        if !*recovered {
            *recovered = self.recover().await;
        }
        let next = if *recovered { self.step(breaker).await } else { Next::NoBroker };
        if next == Next::NoBroker {
            // The mail at hand may be stored as `sending`, and nothing else would look for it there.
            *recovered = false;
        }
        next
    }

    async fn wait_until_ready(&mut self) {
        let mut status = self.commit.status();
        // A writer that is gone never becomes ready: only the stop is left to wait for.
        let gone = tokio::select! {
            () = self.stop.cancelled() => false,
            ready = status.wait_for(kit::Status::is_ready) => ready.is_err(),
        };
        if gone {
            self.stop.cancelled().await;
        }
    }

    /// Decides about attempts whose end nobody saw. False if the broker did not take it.
    pub(crate) async fn recover(&self) -> bool {
        for mail in store::sending(self.commit.view()) {
            let arrived = match mail.route {
                Some(Route::File) => Some(self.outbox.has(&mail.file_name()).await),
                Some(Route::Smtp) | None => None,
            };
            let unclear = "the service ended during the attempt; the server may have taken it";
            let change = move |mail: &Mail, now| match arrived {
                Some(true) => Some(mail.end(Outcome::Accepted, now)),
                Some(false) => mail.release(now),
                None => Some(mail.end(Outcome::Unclear(unclear.to_owned()), now)),
            };
            if arrived.is_none() {
                tracing::warn!(mail = mail.id, to = mail.to, "mail may or may not have been sent");
            }
            if self.change(&mail, change).await.is_err() {
                return false;
            }
        }
        true
    }

    /// One attempt, or none if nothing is due.
    pub(crate) async fn step(&self, breaker: &mut Breaker) -> Next {
        let now = self.clock.now();
        if let Some(until) = breaker.open_until(now) {
            return match self.give_up_overdue(now).await {
                Ok(()) => Next::Wait(between(now, until)),
                Err(_) => Next::NoBroker,
            };
        }
        let Some(mail) = store::next_due(self.commit.view()) else {
            return self.sweep(now).await;
        };
        match mail.next_attempt_at {
            Some(due) if due > now => return Next::Wait(between(now, due)),
            Some(_) | None => {}
        }
        match self.attempt(mail, breaker).await {
            Ok(()) => Next::Look,
            Err(_) => Next::NoBroker,
        }
    }

    async fn attempt(&self, mail: Mail, breaker: &mut Breaker) -> Result<(), Lost> {
        let composed = match self.composer.compose(&mail) {
            Ok(composed) => composed,
            Err(error) => {
                let refused = Outcome::Refused(error.to_string());
                self.change(&mail, move |mail, now| Some(mail.end(refused.clone(), now))).await?;
                return Ok(());
            }
        };
        let _until_its_outcome_is_stored = self.commit.hold();
        let route = self.mailer.route();
        let begun = match self.change(&mail, move |mail, _| mail.begin(route)).await {
            Ok(begun) => begun,
            Err(lost) => return self.release(&mail, lost).await,
        };
        // Someone else has changed it: the next look shows how.
        let Some(sending) = begun else { return Ok(()) };
        let Delivery { outcome, server_works } = self.mailer.deliver(&composed, &self.stop).await;
        match (server_works, breaker.open_until(self.clock.now())) {
            (true, _) => breaker.answered(),
            (false, _) if self.stop.is_cancelled() => {}
            (false, _) => breaker.failed(self.clock.now()),
        }
        log(&sending, &outcome, breaker.open_until(self.clock.now()));
        let change = move |mail: &Mail, now| Some(mail.end(outcome.clone(), now));
        while self.change(&sending, change.clone()).await.is_err() {
            // The attempt cannot be made undone: its outcome waits for the broker. If another instance is active by then
            // and has called it unknown, it stays so.
            if self.stop.is_cancelled() {
                break;
            }
            tokio::time::sleep(BROKER_WAIT).await;
        }
        Ok(())
    }

    /// It is not known whether `sending` was stored, but certain that no attempt was made.
    async fn release(&self, pending: &Mail, lost: Lost) -> Result<(), Lost> {
        if let Lost::Unknown = lost
            && let Some(sending) = pending.begin(self.mailer.route())
        {
            self.change(&sending, Mail::release).await?;
        }
        Err(lost)
    }

    /// While nothing can be sent, mails whose time is over fail.
    async fn give_up_overdue(&self, now: Timestamp) -> Result<(), Lost> {
        for mail in store::pending(self.commit.view(), OVERDUE_AT_ONCE) {
            if mail.give_up(now).is_some() {
                self.change(&mail, Mail::give_up).await?;
            }
        }
        Ok(())
    }

    /// Forgets mails about events that nobody will tell of again, and deletes their files.
    async fn sweep(&self, now: Timestamp) -> Next {
        let Ok(before) = now.checked_sub(REMEMBERED_FOR) else {
            return Next::Wait(LOOK_AGAIN);
        };
        let old = store::finished_before(self.commit.view(), before, SWEPT_AT_ONCE);
        if old.is_empty() {
            return Next::Wait(LOOK_AGAIN);
        }
        for mail in old.iter().filter(|mail| mail.route == Some(Route::File)) {
            if let Err(error) = self.outbox.remove(&mail.file_name()).await {
                tracing::info!(%error, file = mail.file_name(), "old mail stays in the outbox");
            }
        }
        let keys: Vec<String> = old.iter().map(Mail::key).collect();
        let swept = self.commit.run(move |tx| {
            for key in &keys {
                tx.delete::<Mail>(key);
            }
            Ok::<_, std::convert::Infallible>(())
        });
        if swept.await.is_ok() { Next::Look } else { Next::NoBroker }
    }

    /// Changes a stored mail and tells of it if it is finished then. None if it is not as `seen` any more.
    async fn change(
        &self,
        seen: &Mail,
        change: impl Fn(&Mail, Timestamp) -> Option<Mail> + Send + 'static,
    ) -> Result<Option<Mail>, Lost> {
        let seen = (seen.key(), seen.status, seen.attempts);
        let command = self.commit.run(move |tx| {
            let (key, status, attempts) = &seen;
            let stored: Option<Mail> = tx.get(key);
            let as_seen =
                stored.filter(|mail| (mail.status, mail.attempts) == (*status, *attempts));
            let changed = as_seen.and_then(|mail| change(&mail, tx.now()));
            if let Some(mail) = &changed {
                tx.put(mail);
                tell(tx, mail);
            }
            Ok::<_, std::convert::Infallible>(changed)
        });
        command.await.map_err(|error| match error {
            CommitError::Unknown { .. } => Lost::Unknown,
            CommitError::Unavailable => Lost::NotDone,
            CommitError::Refused(never) => match never {},
        })
    }
}

/// A change that was not, or perhaps not, committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    NotDone,
    Unknown,
}

/// Publishes what became of a mail.
fn tell(tx: &mut Tx<'_>, mail: &Mail) {
    let status = match mail.status {
        Status::Sent => "sent",
        Status::Failed => "failed",
        Status::Unknown => "unknown",
        Status::Pending | Status::Sending => return,
    };
    let meta = tx.meta();
    let correlation_id = mail.correlation_id.clone().unwrap_or(meta.correlation_id.clone());
    let sent = NotificationSent {
        notification_id: mail.id,
        user_id: mail.user_id,
        cause_event_id: mail.event_id.clone(),
        cause_event_type: mail.letter.kind().event_type().to_owned(),
        channel: "email".to_owned(),
        status: status.to_owned(),
    };
    tx.push(sent.into_event(&Meta { correlation_id, ..meta }));
}

fn log(mail: &Mail, outcome: &Outcome, paused: Option<Timestamp>) {
    let (id, attempts) = (mail.id, mail.attempts);
    match outcome {
        Outcome::Accepted => tracing::info!(mail = id, "mail sent"),
        Outcome::Later(reason) => {
            tracing::info!(mail = id, attempts, reason, "mail is tried again later");
        }
        Outcome::Refused(reason) => tracing::warn!(mail = id, reason, "mail was refused"),
        Outcome::Unclear(reason) => {
            tracing::warn!(mail = id, reason, "mail may or may not have been sent");
        }
    }
    if let Some(until) = paused {
        tracing::warn!(%until, "mail server is left alone for a while");
    }
}

fn between(now: Timestamp, then: Timestamp) -> Duration {
    then.duration_since(now).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests;
