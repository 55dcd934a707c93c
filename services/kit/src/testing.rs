//! A service without Kafka, for unit tests: the real planning and the real view, with a log in memory.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use axum::http::{HeaderMap, header};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    Commit, Outgoing, Status, Tables, View,
    clock::{Clock, ManualClock},
    commit::{Batch, Broken, Log, NotOpen, Patience, Surroundings, Writer},
    db::Db,
    http::ApiError,
    identity::{Answer, Identity, Membership, People, Person, Role, TeamMember, User},
};

/// A writer over a log in memory; the view lies in a directory that goes with it.
#[derive(Debug)]
pub struct Testing {
    pub commit: Commit,
    pub clock: Arc<ManualClock>,
    log: Arc<Mutex<Vec<Outgoing>>>,
    status: watch::Sender<Status>,
    _directory: tempfile::TempDir,
}

impl Testing {
    /// Starts at 2026-01-01T00:00:00Z.
    ///
    /// # Panics
    /// If the temporary directory cannot be made.
    #[expect(clippy::expect_used, reason = "a panic is how a test reports")]
    pub fn new(tables: Tables) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let names: Vec<_> = tables.iter().map(|table| table.name).collect();
        let db = Db::open(&directory.path().join("view"), names.into_iter()).expect("a view");
        let view = View(Arc::new(db));
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a timestamp");
        let clock = Arc::new(ManualClock::at(start));
        let for_writer: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let (status, watching) = watch::channel(Status::Serving);
        let (commit, mut commands) = Commit::new(view.clone(), watching);
        let log = Arc::<Mutex<Vec<Outgoing>>>::default();
        let surroundings = Surroundings { view, clock: for_writer, tables };
        let mut writer = Writer::new(surroundings, Memory(Arc::clone(&log)));
        thread::spawn(move || {
            while let Some(command) = commands.blocking_recv() {
                let mut together = vec![command];
                while let Ok(next) = commands.try_recv() {
                    together.push(next);
                }
                writer.step(together);
            }
        });
        Self { commit, clock, log, status, _directory: directory }
    }

    /// The records that were published, tables not included, with their values as JSON.
    pub fn published(&self) -> Vec<(String, serde_json::Value)> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let value = |record: &Outgoing| {
            record.value.as_deref().and_then(|value| serde_json::from_slice(value).ok())
        };
        log.iter().map(|record| (record.topic.clone(), value(record).unwrap_or_default())).collect()
    }

    /// The records that were published, tables not included.
    pub fn records(&self) -> Vec<Outgoing> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As if the broker went away or came back.
    pub fn set_status(&self, status: Status) {
        self.status.send_replace(status);
    }
}

struct Memory(Arc<Mutex<Vec<Outgoing>>>);

impl Log for Memory {
    fn commit(&mut self, batch: &Batch) -> Result<Vec<(String, i64)>, Broken> {
        let records = batch.planned.iter().flat_map(|(_, changes)| changes.records.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(records);
        Ok(Vec::new())
    }

    fn open(&mut self, _: &HashSet<String>, _: Patience) -> Result<HashSet<String>, NotOpen> {
        Ok(HashSet::new())
    }

    fn close(&mut self) {}
}

/// People that a test makes up. The token of a person is `token-<id>`.
#[derive(Clone, Debug, Default)]
pub struct FakePeople(Arc<Mutex<Village>>);

#[derive(Debug, Default)]
struct Village {
    people: Vec<Identity>,
    unreachable: bool,
}

impl FakePeople {
    /// Adds a person with a personal team of the same number. The first is administrator.
    #[must_use]
    pub fn with(self, id: i64, username: &str) -> Self {
        let mut village = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let administrator = village.people.is_empty();
        village.people.push(Identity {
            user: User {
                id,
                username: username.to_owned(),
                email: format!("{username}@example.com"),
                administrator,
            },
            session_id: id,
            teams: vec![Membership {
                id,
                name: username.to_owned(),
                role: Role::Owner,
                personal: true,
            }],
        });
        drop(village);
        self
    }

    /// Puts people into a team.
    #[must_use]
    pub fn with_team(self, team: i64, members: &[(i64, Role)]) -> Self {
        let mut village = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for person in &mut village.people {
            for (_, role) in members.iter().filter(|(id, _)| *id == person.user.id) {
                person.teams.push(Membership {
                    id: team,
                    name: format!("team {team}"),
                    role: *role,
                    personal: false,
                });
            }
        }
        drop(village);
        self
    }

    /// Takes a person away.
    pub fn forget(&self, id: i64) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .people
            .retain(|person| person.user.id != id);
    }

    /// Takes a person out of a team.
    pub fn leave(&self, team: i64, id: i64) {
        let mut village = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for person in village.people.iter_mut().filter(|person| person.user.id == id) {
            person.teams.retain(|membership| membership.id != team);
        }
    }

    /// As if auth could not be reached, or could again.
    pub fn set_unreachable(&self, unreachable: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).unreachable = unreachable;
    }

    fn ask<T>(&self, question: impl FnOnce(&[Identity]) -> T) -> Result<T, ApiError> {
        let village = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if village.unreachable {
            return Err(ApiError::unavailable("the auth service cannot be reached"));
        }
        Ok(question(&village.people))
    }
}

impl People for FakePeople {
    fn identify<'a>(&'a self, headers: &'a HeaderMap) -> Answer<'a, Identity> {
        Box::pin(async move {
            let token = headers
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            let found = self.ask(|people| {
                people
                    .iter()
                    .find(|person| token == format!("Bearer token-{}", person.user.id))
                    .cloned()
            });
            found?.ok_or_else(ApiError::unauthenticated)
        })
    }

    fn person(&self, id: i64) -> Answer<'_, Option<Person>> {
        Box::pin(async move {
            self.ask(|people| {
                let found = people.iter().find(|person| person.user.id == id);
                found.map(|person| Person {
                    id,
                    username: person.user.username.clone(),
                    email: person.user.email.clone(),
                })
            })
        })
    }

    fn members(&self, team: i64) -> Answer<'_, Vec<TeamMember>> {
        Box::pin(async move {
            self.ask(|people| {
                let member = |person: &Identity| {
                    let role = person.team(team)?.role;
                    Some(TeamMember { user_id: person.user.id, role })
                };
                people.iter().filter_map(member).collect()
            })
        })
    }
}
