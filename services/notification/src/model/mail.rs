//! A mail and its states: pending, sending, then sent, failed or unknown.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::letter::Letter;

/// How long a mail is tried, from its creation on.
pub(crate) const TRIED_FOR: SignedDuration = SignedDuration::from_hours(72);

/// The wait after the first failed attempt doubles with each further one, up to an hour.
const FIRST_WAIT_SECONDS: i64 = 5;
const LONGEST_WAIT_SECONDS: i64 = 3600;

/// Reasons of failures come from foreign servers: so many characters of them are kept.
const ERROR_CHARACTERS: usize = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Status {
    /// Waits for its first or next attempt.
    Pending,
    /// An attempt was begun; nothing is known of its end.
    Sending,
    /// The server took it, or the file stands in the outbox.
    Sent,
    /// Refused for good, or three days over.
    Failed,
    /// An attempt was begun and its end was never learnt. It is not sent again.
    Unknown,
}

/// The way that an attempt takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Route {
    Smtp,
    File,
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    /// It was certainly not taken and may be later.
    Later(String),
    /// It will never be taken.
    Refused(String),
    /// It may have been taken.
    Unclear(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mail {
    pub(crate) id: i64,
    pub(crate) event_id: String,
    pub(crate) user_id: i64,
    pub(crate) to: String,
    pub(crate) letter: Letter,
    pub(crate) correlation_id: Option<String>,
    pub(crate) status: Status,
    pub(crate) route: Option<Route>,
    pub(crate) attempts: u32,
    pub(crate) error: Option<String>,
    /// When the event happened.
    pub(crate) event_at: Timestamp,
    pub(crate) created_at: Timestamp,
    /// The last attempt is made then.
    pub(crate) give_up_at: Timestamp,
    /// Only of a pending one.
    pub(crate) next_attempt_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
}

impl Mail {
    /// One mail per event and person.
    pub(crate) fn key_of(event_id: &str, user_id: i64) -> String {
        format!("{event_id}-{user_id}")
    }

    pub(crate) fn key(&self) -> String {
        Self::key_of(&self.event_id, self.user_id)
    }

    /// The name of its file in the outbox; ids of foreign events cannot lead out of the directory.
    pub(crate) fn file_name(&self) -> String {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        format!("{}.eml", self.key().chars().map(safe).collect::<String>())
    }

    /// An attempt begins: to be stored before it is made. None if there is nothing to attempt.
    pub(crate) fn begin(&self, route: Route) -> Option<Self> {
        (self.status == Status::Pending).then(|| Self {
            status: Status::Sending,
            route: Some(route),
            attempts: self.attempts.saturating_add(1),
            next_attempt_at: None,
            ..self.clone()
        })
    }

    /// An attempt ended: to be stored after it.
    pub(crate) fn end(&self, outcome: Outcome, now: Timestamp) -> Self {
        let mut ended = self.clone();
        match outcome {
            Outcome::Accepted => {
                ended.error = None;
                ended.finish(Status::Sent, now);
            }
            Outcome::Later(reason) => {
                ended.error = Some(shortened(&reason));
                match self.next_attempt(now) {
                    Some(next) => {
                        ended.status = Status::Pending;
                        ended.next_attempt_at = Some(next);
                    }
                    None => ended.finish(Status::Failed, now),
                }
            }
            Outcome::Refused(reason) => {
                ended.error = Some(shortened(&reason));
                ended.finish(Status::Failed, now);
            }
            Outcome::Unclear(reason) => {
                ended.error = Some(shortened(&reason));
                ended.finish(Status::Unknown, now);
            }
        }
        ended
    }

    /// An attempt was begun and certainly not made: it is as if it had not been begun.
    pub(crate) fn release(&self, now: Timestamp) -> Option<Self> {
        (self.status == Status::Sending).then(|| Self {
            status: Status::Pending,
            route: None,
            attempts: self.attempts.saturating_sub(1),
            next_attempt_at: Some(now),
            ..self.clone()
        })
    }

    /// Its time is over while the server cannot be used. None if there still is time.
    pub(crate) fn give_up(&self, now: Timestamp) -> Option<Self> {
        let over = self.status == Status::Pending && now >= self.give_up_at;
        over.then(|| {
            let mut failed = self.clone();
            failed.error.get_or_insert_with(|| "the mail server could not be used".to_owned());
            failed.finish(Status::Failed, now);
            failed
        })
    }

    /// The instant of the next attempt, if there is time for one.
    fn next_attempt(&self, now: Timestamp) -> Option<Timestamp> {
        let doublings = self.attempts.saturating_sub(1).min(16);
        let wait = FIRST_WAIT_SECONDS.saturating_mul(1_i64 << doublings).min(LONGEST_WAIT_SECONDS);
        let next = now.checked_add(SignedDuration::from_secs(wait)).ok()?;
        (now < self.give_up_at).then(|| next.min(self.give_up_at))
    }

    /// A finished mail keeps no secret.
    fn finish(&mut self, status: Status, now: Timestamp) {
        self.status = status;
        self.next_attempt_at = None;
        self.finished_at = Some(now);
        self.letter.forget_secrets();
    }
}

fn shortened(reason: &str) -> String {
    let printable = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(ERROR_CHARACTERS).collect::<String>().trim().to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    pub(crate) fn mail() -> Mail {
        Mail {
            id: 1,
            event_id: "01J".to_owned(),
            user_id: 7,
            to: "anna@example.com".to_owned(),
            letter: Letter::Reset {
                name: "anna".to_owned(),
                token: Some("secret".to_owned()),
                expires_at: None,
            },
            correlation_id: None,
            status: Status::Pending,
            route: None,
            attempts: 0,
            error: None,
            event_at: at(0),
            created_at: at(0),
            give_up_at: at(72 * 3600),
            next_attempt_at: Some(at(0)),
            finished_at: None,
        }
    }

    #[test]
    fn only_a_pending_mail_is_attempted() {
        let sending = mail().begin(Route::Smtp).unwrap();
        assert_eq!((sending.status, sending.attempts), (Status::Sending, 1));
        assert_eq!(sending.begin(Route::Smtp), None);
        for outcome in [
            Outcome::Accepted,
            Outcome::Refused("550".to_owned()),
            Outcome::Unclear("dropped".to_owned()),
        ] {
            assert_eq!(sending.end(outcome, at(1)).begin(Route::Smtp), None);
        }
    }

    #[test]
    fn a_failed_attempt_waits_longer_each_time_for_three_days() {
        let mut mail = mail();
        let mut now = at(0);
        let mut waits = Vec::new();
        while let Some(sending) = mail.begin(Route::Smtp) {
            mail = sending.end(Outcome::Later("451 busy".to_owned()), now);
            if let Some(next) = mail.next_attempt_at {
                waits.push(next.duration_since(now).as_secs());
                now = next;
            }
        }
        assert_eq!(waits[..10], [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560]);
        assert_eq!(mail.status, Status::Failed);
        assert_eq!(mail.error.as_deref(), Some("451 busy"));
        assert_eq!(now, at(72 * 3600));
    }

    #[test]
    fn a_finished_mail_keeps_no_token() {
        let sent = mail().begin(Route::File).unwrap().end(Outcome::Accepted, at(5));
        assert_eq!(sent.status, Status::Sent);
        assert_eq!(sent.finished_at, Some(at(5)));
        assert!(!serde_json::to_string(&sent).unwrap().contains("secret"));
        let retried = mail().begin(Route::File).unwrap().end(Outcome::Later(String::new()), at(5));
        assert!(serde_json::to_string(&retried).unwrap().contains("secret"));
    }

    #[test]
    fn an_attempt_that_was_not_made_does_not_count() {
        let pending = mail();
        let released = pending.begin(Route::Smtp).unwrap().release(at(0)).unwrap();
        assert_eq!(released, pending);
        assert_eq!(released.release(at(0)), None);
    }

    #[test]
    fn a_mail_that_could_never_be_attempted_fails_after_three_days() {
        let pending = mail();
        assert_eq!(pending.give_up(at(72 * 3600 - 1)), None);
        let failed = pending.give_up(at(72 * 3600)).unwrap();
        assert_eq!(failed.status, Status::Failed);
        assert_eq!(failed.error.as_deref(), Some("the mail server could not be used"));
    }

    #[test]
    fn a_foreign_event_id_stays_in_the_outbox() {
        let mail = Mail { event_id: "../../etc/x\n".to_owned(), ..mail() };
        assert_eq!(mail.file_name(), ".._.._etc_x_-7.eml");
    }

    #[test]
    fn a_server_s_reason_is_shortened_to_one_line() {
        let reason = format!("550 no\r\n{}", "x".repeat(1000));
        let failed = mail().begin(Route::Smtp).unwrap().end(Outcome::Refused(reason), at(0));
        let error = failed.error.unwrap();
        assert!(error.starts_with("550 no  xx") && error.len() == ERROR_CHARACTERS, "{error}");
    }
}
