//! The tables of this service.

use jiff::Timestamp;
use kit::{Row, Tables, Tx, View, Walk};
use serde::{Deserialize, Serialize};

use crate::model::letter::AboutTask;
use crate::model::mail::{Mail, Status};
use crate::model::preferences::Preferences;

pub(crate) fn tables() -> Tables {
    Tables::new().with::<Mail>().with::<Entry>().with::<Inbox>().with::<Chosen>()
}

const MAIL_BY_ID: &str = "id";
const MAIL_BY_DUE: &str = "due";
const MAIL_SENDING: &str = "sending";
const MAIL_FINISHED: &str = "finished";

impl Row for Mail {
    const TABLE: &'static str = "mails";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        Mail::key(self)
    }

    fn indexes(&self) -> Vec<(&'static str, String)> {
        let mut indexes = vec![(MAIL_BY_ID, number(self.id))];
        match (self.status, self.next_attempt_at) {
            (Status::Pending, due) => {
                indexes.push((MAIL_BY_DUE, instant(due.unwrap_or(self.created_at))));
            }
            (Status::Sending, _) => indexes.push((MAIL_SENDING, "yes".to_owned())),
            (Status::Sent | Status::Failed | Status::Unknown, _) => {
                indexes.push((MAIL_FINISHED, instant(self.event_at)));
            }
        }
        indexes
    }
}

const ENTRY_BY_ID: &str = "id";
const ENTRY_OF: &str = "of";
const ENTRY_UNREAD: &str = "unread";
const ENTRY_EVENT: &str = "event";

/// What a person sees of an event in the app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) user_id: i64,
    /// Counts the entries of this person.
    pub(crate) place: i64,
    pub(crate) event_id: String,
    /// None in the entry that welcomes.
    pub(crate) about: Option<AboutTask>,
    pub(crate) actor_id: Option<i64>,
    pub(crate) team_id: Option<i64>,
    pub(crate) event_at: Timestamp,
    pub(crate) read_at: Option<Timestamp>,
}

impl Entry {
    fn key_of(user_id: i64, place: i64) -> String {
        format!("{}.{}", number(user_id), number(place))
    }
}

impl Row for Entry {
    const TABLE: &'static str = "entries";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        Self::key_of(self.user_id, self.place)
    }

    fn indexes(&self) -> Vec<(&'static str, String)> {
        let mut indexes = vec![
            (ENTRY_BY_ID, number(self.id)),
            (ENTRY_OF, number(self.user_id)),
            (ENTRY_EVENT, Mail::key_of(&self.event_id, self.user_id)),
        ];
        if self.read_at.is_none() {
            indexes.push((ENTRY_UNREAD, number(self.user_id)));
        }
        indexes
    }
}

/// How many entries a person ever had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inbox {
    user_id: i64,
    last_place: i64,
}

impl Row for Inbox {
    const TABLE: &'static str = "inboxes";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        number(self.user_id)
    }
}

/// The preferences of a person who has set any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Chosen {
    pub(crate) user_id: i64,
    pub(crate) preferences: Preferences,
}

impl Row for Chosen {
    const TABLE: &'static str = "preferences";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        number(self.user_id)
    }
}

/// Whether this person was told of this event already.
pub(crate) fn was_told(tx: &Tx<'_>, event_id: &str, user_id: i64) -> bool {
    let key = Mail::key_of(event_id, user_id);
    tx.get::<Mail>(&key).is_some() || !tx.by_index::<Entry>(ENTRY_EVENT, &key).is_empty()
}

/// Adds the newest entry of a person and deletes what is beyond the `kept` newest.
pub(crate) fn add_entry(tx: &mut Tx<'_>, mut entry: Entry, kept: i64) {
    let user_id = entry.user_id;
    let last = tx.get::<Inbox>(&number(user_id)).map_or(0, |inbox| inbox.last_place);
    entry.id = tx.next_id("entry");
    entry.place = last.saturating_add(1);
    tx.put(&Inbox { user_id, last_place: entry.place });
    tx.put(&entry);
    // Two at a time, so that a smaller bound in the configuration is reached too.
    for old in tx.scan::<Entry>(&Entry::key_of(user_id, 0), 2) {
        if old.user_id == user_id && old.place <= entry.place.saturating_sub(kept) {
            tx.delete::<Entry>(&Row::key(&old));
        }
    }
}

/// The entry with that id, if it is this person's.
pub(crate) fn entry_of(tx: &Tx<'_>, user_id: i64, id: i64) -> Option<Entry> {
    let found = tx.by_index::<Entry>(ENTRY_BY_ID, &number(id));
    found.into_iter().find(|entry| entry.user_id == user_id)
}

/// All entries of a person that are not read.
pub(crate) fn unread_of(tx: &Tx<'_>, user_id: i64) -> Vec<Entry> {
    tx.by_index(ENTRY_UNREAD, &number(user_id))
}

pub(crate) fn preferences_of(tx: &Tx<'_>, user_id: i64) -> Preferences {
    tx.get::<Chosen>(&number(user_id)).map(|chosen| chosen.preferences).unwrap_or_default()
}

pub(crate) fn preferences_in(view: &View, user_id: i64) -> Preferences {
    view.get::<Chosen>(&number(user_id)).map(|chosen| chosen.preferences).unwrap_or_default()
}

/// A person's entries, newest first, from behind the place `after` on.
pub(crate) fn entries(
    view: &View,
    user_id: i64,
    unread: bool,
    page: (Option<i64>, usize),
) -> Vec<Entry> {
    let user = number(user_id);
    let (after, limit) = page;
    let row = after.map(|place| Entry::key_of(user_id, place));
    let walk = Walk {
        prefix: &user,
        after: row.as_deref().map(|row| (user.as_str(), row)),
        reversed: true,
        limit,
    };
    let index = if unread { ENTRY_UNREAD } else { ENTRY_OF };
    view.walk(index, walk).into_iter().map(|(_, entry)| entry).collect()
}

/// All mails, newest first, from behind `after` (an id) on.
pub(crate) fn mails(view: &View, after: Option<i64>, limit: usize) -> Vec<Mail> {
    let after = after.map(number);
    // An id has one row only, so the least row key is behind none of its own.
    let after = after.as_deref().map(|id| (id, ""));
    let walk = Walk { prefix: "", after, reversed: true, limit };
    view.walk(MAIL_BY_ID, walk).into_iter().map(|(_, mail)| mail).collect()
}

pub(crate) fn mail_by_id(view: &View, id: i64) -> Option<Mail> {
    view.by_index(MAIL_BY_ID, &number(id)).into_iter().next()
}

/// The pending mail whose turn is first.
pub(crate) fn next_due(view: &View) -> Option<Mail> {
    let walk = Walk { limit: 1, ..Walk::default() };
    view.walk(MAIL_BY_DUE, walk).into_iter().next().map(|(_, mail)| mail)
}

/// Pending mails, those with the earliest turn first.
pub(crate) fn pending(view: &View, limit: usize) -> Vec<Mail> {
    let walk = Walk { limit, ..Walk::default() };
    view.walk(MAIL_BY_DUE, walk).into_iter().map(|(_, mail)| mail).collect()
}

/// Attempts that were begun and not ended.
pub(crate) fn sending(view: &View) -> Vec<Mail> {
    view.by_index(MAIL_SENDING, "yes")
}

/// Finished mails about events before `before`.
pub(crate) fn finished_before(view: &View, before: Timestamp, limit: usize) -> Vec<Mail> {
    let walk = Walk { limit, ..Walk::default() };
    let finished = view.walk(MAIL_FINISHED, walk).into_iter().map(|(_, mail): (_, Mail)| mail);
    finished.take_while(|mail| mail.event_at < before).collect()
}

/// Ordered as the numbers are.
fn number(number: i64) -> String {
    format!("{number:019}")
}

fn instant(at: Timestamp) -> String {
    number(at.as_microsecond().max(0))
}
