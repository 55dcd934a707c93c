//! Events become in-app entries and pending mails, in the transaction that commits their offsets.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kit::Tx;
use kit::http::ApiError;
use kit::identity::{People, Person};
use kit::worker::{Handler, Record, Trouble};
use serde::Deserialize;
use tokio::sync::Notify;

use crate::model::audience;
use crate::model::happening::{self, Happening, NewUser, TaskChange};
use crate::model::letter::{AboutTask, Letter};
use crate::model::mail::{Mail, Status, TRIED_FOR};
use crate::store::{self, Entry};

/// Mails are kept so long, because what they tell of may be read again; what is older is not told any more.
pub(crate) const REMEMBERED_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Ids of foreign events beyond this are replaced by the record's place.
const EVENT_ID_CHARACTERS: usize = 100;

#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) people: Arc<dyn People>,
    /// In-app entries kept per person.
    pub(crate) kept_entries: i64,
    /// Told that mails may wait in the table.
    pub(crate) wake: Arc<Notify>,
}

/// A record understood, with everyone it names.
#[derive(Debug)]
pub(crate) struct Told {
    event_id: String,
    /// When the event says that it happened.
    at: Option<Timestamp>,
    correlation_id: String,
    happening: Happening,
    /// Who is told of a task.
    readers: Vec<i64>,
    /// The readers and who did it, of those who still exist.
    people: BTreeMap<i64, Person>,
}

impl Handler for Reader {
    type Prepared = Told;

    async fn prepare(&self, record: &Record) -> Result<Told, Trouble> {
        let happening = happening::read(&record.topic, record.value.as_deref())
            .map_err(|unreadable| Trouble::Poison(unreadable.to_string()))?;
        let envelope = Envelope::of(record);
        let (readers, people) = match &happening {
            Happening::Task(change) => self.enrich(change).await?,
            Happening::User(_) | Happening::Reset(_) => Default::default(),
        };
        Ok(Told {
            event_id: event_id(record, &envelope),
            at: envelope.at(),
            correlation_id: record.cause().correlation_id,
            happening,
            readers,
            people,
        })
    }

    fn apply(&self, tx: &mut Tx<'_>, _: &Record, told: &Told) {
        let at = told.at.map_or(tx.now(), |at| at.min(tx.now()));
        if tx.now().duration_since(at) > REMEMBERED_FOR {
            return;
        }
        match &told.happening {
            Happening::User(user) => self.welcome(tx, told, user, at),
            Happening::Task(change) => self.tell_of_task(tx, told, change, at),
            Happening::Reset(reset) => {
                if store::was_told(tx, &told.event_id, reset.user_id) {
                    return;
                }
                let name = reset.username.clone();
                let (token, expires_at) = (Some(reset.token.clone()), Some(reset.expires_at));
                let letter = Letter::Reset { name, token, expires_at };
                let mail = mail(tx, told, (reset.user_id, &reset.email), letter, at);
                tx.put(&Mail { give_up_at: mail.give_up_at.min(reset.expires_at), ..mail });
            }
        }
    }

    fn committed(&self) {
        self.wake.notify_one();
    }
}

impl Reader {
    /// Who is told, and everyone who is named, as auth knows them now. Of a team's tasks nobody hears who is not in it
    /// (any more); so of the tasks that go with a deleted team nobody does.
    async fn enrich(
        &self,
        change: &TaskChange,
    ) -> Result<(Vec<i64>, BTreeMap<i64, Person>), Trouble> {
        let retry = |error: ApiError| Trouble::Retry(format!("{error:?}").into());
        let mut readers = audience::of_task(change);
        if let Some(team) = change.team_id {
            let members = self.people.members(team).await.map_err(retry)?;
            readers.retain(|reader| members.iter().any(|member| member.user_id == *reader));
        }
        let mut people = BTreeMap::new();
        for id in readers.iter().copied().chain(change.actor_id) {
            if !people.contains_key(&id) {
                let found = self.people.person(id).await.map_err(retry)?;
                people.extend(found.map(|person| (id, person)));
            }
        }
        Ok((readers, people))
    }

    fn welcome(&self, tx: &mut Tx<'_>, told: &Told, user: &NewUser, at: Timestamp) {
        if store::was_told(tx, &told.event_id, user.user_id) {
            return;
        }
        self.add_entry(tx, told, (user.user_id, None), at);
        let letter = Letter::Welcome { name: user.username.clone() };
        let mail = mail(tx, told, (user.user_id, &user.email), letter, at);
        tx.put(&mail);
    }

    fn tell_of_task(&self, tx: &mut Tx<'_>, told: &Told, change: &TaskChange, at: Timestamp) {
        let actor = change.actor_id.and_then(|actor| told.people.get(&actor));
        let actor = actor.map(|actor| actor.username.as_str());
        for reader in told.readers.iter().copied() {
            let Some(person) = told.people.get(&reader) else { continue };
            if store::was_told(tx, &told.event_id, reader) {
                continue;
            }
            let about = AboutTask::new(change, reader, actor);
            self.add_entry(tx, told, (reader, Some((change, &about))), at);
            if store::preferences_of(tx, reader).want(about.kind, about.own_act) {
                let letter = Letter::Task { name: person.username.clone(), about };
                let mail = mail(tx, told, (reader, &person.email), letter, at);
                tx.put(&mail);
            }
        }
    }

    fn add_entry(
        &self,
        tx: &mut Tx<'_>,
        told: &Told,
        (user_id, task): (i64, Option<(&TaskChange, &AboutTask)>),
        event_at: Timestamp,
    ) {
        let entry = Entry {
            id: 0,
            user_id,
            place: 0,
            event_id: told.event_id.clone(),
            about: task.map(|(_, about)| about.clone()),
            actor_id: task.and_then(|(change, _)| change.actor_id),
            team_id: task.and_then(|(change, _)| change.team_id),
            event_at,
            read_at: None,
        };
        store::add_entry(tx, entry, self.kept_entries);
    }
}

/// A mail that waits for its first attempt.
fn mail(
    tx: &mut Tx<'_>,
    told: &Told,
    (user_id, to): (i64, &str),
    letter: Letter,
    event_at: Timestamp,
) -> Mail {
    let now = tx.now();
    Mail {
        id: tx.next_id("mail"),
        event_id: told.event_id.clone(),
        user_id,
        to: to.to_owned(),
        letter,
        correlation_id: Some(told.correlation_id.clone()),
        status: Status::Pending,
        route: None,
        attempts: 0,
        error: None,
        event_at,
        created_at: now,
        give_up_at: now.checked_add(TRIED_FOR).unwrap_or(Timestamp::MAX),
        next_attempt_at: Some(now),
        finished_at: None,
    }
}

/// What events carry beside their content; each field may be missing or of another type.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Envelope {
    event_id: serde_json::Value,
    timestamp: serde_json::Value,
}

impl Envelope {
    fn of(record: &Record) -> Self {
        let value = record.value.as_deref().unwrap_or_default();
        serde_json::from_slice(value).unwrap_or_default()
    }

    fn at(&self) -> Option<Timestamp> {
        self.timestamp.as_str()?.parse().ok()
    }
}

/// The event's own id; without a usable one, the place of its record, which no other record has.
fn event_id(record: &Record, envelope: &Envelope) -> String {
    let named = record.header("event-id").or(envelope.event_id.as_str());
    let usable = named.filter(|id| {
        (1..=EVENT_ID_CHARACTERS).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
    });
    usable.map_or_else(
        || format!("{}-{}-{}", record.topic, record.partition, record.offset),
        str::to_owned,
    )
}

#[cfg(test)]
mod tests;
