//! The writer against a log that fails as told.

use std::{
    collections::{HashSet, VecDeque},
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::{
    Batch, Broken, Commit, CommitError, Consumed, Log, NotOpen, Open, Patience, Submitted,
    Surroundings, Writer,
};
use crate::{Row, Status, Tables, View, clock::ManualClock, db::Db};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Name {
    name: String,
    owner: i64,
}

impl Row for Name {
    const TABLE: &'static str = "names";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        self.name.clone()
    }

    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![("owner", self.owner.to_string())]
    }
}

/// What the log does next, and what it did.
#[derive(Debug, Default)]
struct Script {
    commits: VecDeque<Result<(), Broken>>,
    /// Whether the transaction of unknown fate is found when the log is opened again.
    found: bool,
    opens: VecDeque<Result<(), NotOpen>>,
    /// The number of commands of each transaction that was tried.
    tried: Vec<usize>,
    /// What each of them consumed.
    consumed: Vec<usize>,
    view: Option<View>,
    last: Vec<(String, crate::tx::Changes)>,
}

struct Scripted(Arc<Mutex<Script>>);

impl Log for Scripted {
    fn commit(&mut self, batch: &Batch) -> Result<Vec<(String, i64)>, Broken> {
        let mut script = self.0.lock().unwrap();
        script.tried.push(batch.planned.iter().filter(|(_, own)| !own.is_empty()).count());
        script.consumed.push(batch.consumed.len());
        script.last = batch
            .planned
            .iter()
            .map(|(id, own)| {
                let rows = own.rows.clone();
                (id.clone(), crate::tx::Changes { rows, records: Vec::new() })
            })
            .collect();
        script.commits.pop_front().unwrap_or(Ok(())).map(|()| Vec::new())
    }

    fn open(&mut self, asked: &HashSet<String>, _: Patience) -> Result<HashSet<String>, NotOpen> {
        let mut script = self.0.lock().unwrap();
        script.opens.pop_front().unwrap_or(Ok(()))?;
        if !script.found {
            return Ok(HashSet::new());
        }
        // As a restore does: what was committed comes into the view.
        for (_, own) in std::mem::take(&mut script.last) {
            let rows = own.rows.into_iter().map(|((table, key), change)| (table, key, change));
            script.view.as_ref().unwrap().0.apply(rows, [], |_, _| Vec::new()).unwrap();
        }
        Ok(asked.clone())
    }

    fn close(&mut self) {}
}

struct Fixture {
    commit: Commit,
    commands: mpsc::Receiver<Submitted>,
    writer: Writer<Scripted>,
    script: Arc<Mutex<Script>>,
    status: watch::Sender<Status>,
    _directory: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let tables = Tables::new().with::<Name>();
    let names = tables.iter().map(|table| table.name);
    let view = View(Arc::new(Db::open(&directory.path().join("view"), names).unwrap()));
    let (status, watching) = watch::channel(Status::Serving);
    let (commit, commands) = Commit::new(view.clone(), watching);
    let script = Arc::new(Mutex::new(Script { view: Some(view.clone()), ..Script::default() }));
    let clock = Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let writer = Writer::new(Surroundings { view, clock, tables }, Scripted(Arc::clone(&script)));
    Fixture { commit, commands, writer, script, status, _directory: directory }
}

type Claimed = Result<i64, CommitError<&'static str>>;

impl Fixture {
    /// Everyone wants the same name; the answers come when the round is over.
    fn claims(&mut self, name: &'static str, owners: &[i64]) -> (Open, Vec<Claimed>) {
        let asked: Vec<_> = owners.iter().map(|owner| claim(&self.commit, name, *owner)).collect();
        let mut commands = Vec::new();
        while let Ok(command) = self.commands.try_recv() {
            commands.push(command);
        }
        let open = self.writer.step(commands);
        (open, asked.into_iter().map(now).collect())
    }

    fn tried(&self) -> Vec<usize> {
        self.script.lock().unwrap().tried.clone()
    }

    fn owner(&self, name: &str) -> Option<i64> {
        self.commit.view().get::<Name>(name).map(|row| row.owner)
    }
}

fn claim(commit: &Commit, name: &'static str, owner: i64) -> impl Future<Output = Claimed> + use<> {
    commit.run(move |tx| {
        if tx.get::<Name>(name).is_some() {
            return Err("taken");
        }
        tx.put(&Name { name: name.to_owned(), owner });
        Ok(tx.next_id("names"))
    })
}

/// The outcome of what has one already.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("no answer"),
    }
}

const TAKEN: Claimed = Err(CommitError::Refused("taken"));

#[test]
fn of_commands_that_arrive_together_one_wins_and_the_others_see_it() {
    let mut f = fixture();
    let (open, answers) = f.claims("a", &[1, 2, 3]);
    assert_eq!((open, answers), (Open::Yes, vec![Ok(1), TAKEN, TAKEN]));
    assert_eq!(f.tried(), [1]);
    assert_eq!(f.owner("a"), Some(1));
    assert_eq!(f.commit.view().by_index::<Name>("owner", "1").len(), 1);
    assert!(f.commit.view().by_index::<Name>("owner", "2").is_empty());
}

#[test]
fn a_round_that_changes_nothing_has_no_transaction() {
    let mut f = fixture();
    assert_eq!(f.claims("a", &[1]).1, [Ok(1)]);
    assert_eq!(f.claims("a", &[2, 3]).1, [TAKEN, TAKEN]);
    assert_eq!(f.tried(), [1]);
}

#[test]
fn after_an_abort_each_command_is_planned_once_more_alone() {
    let mut f = fixture();
    f.script.lock().unwrap().commits = [Err(Broken::Aborted), Err(Broken::Aborted)].into();
    let (open, answers) = f.claims("a", &[1, 2, 3]);
    assert_eq!(open, Open::Yes);
    assert_eq!(answers, [Err(CommitError::Unavailable), Ok(1), TAKEN]);
    assert_eq!(f.tried(), [1, 1, 1]);
    assert_eq!(f.owner("a"), Some(2));
}

#[test]
fn a_transaction_that_was_lost_refuses_its_commands_and_those_that_saw_them() {
    let mut f = fixture();
    f.script.lock().unwrap().commits = [Err(Broken::Closed)].into();
    let (open, answers) = f.claims("a", &[1, 2]);
    assert_eq!(open, Open::No);
    assert_eq!(answers, [Err(CommitError::Unavailable), Err(CommitError::Unavailable)]);
    assert_eq!(f.owner("a"), None);
}

#[test]
fn an_unknown_outcome_is_answered_by_the_command_ids_in_the_log() {
    let mut f = fixture();
    f.script.lock().unwrap().commits = [Err(Broken::Unknown)].into();
    f.script.lock().unwrap().found = true;
    let (open, answers) = f.claims("a", &[1, 2]);
    assert_eq!((open, answers), (Open::Yes, vec![Ok(1), TAKEN]));
    assert_eq!(f.tried(), [1]);
    assert_eq!(f.owner("a"), Some(1));
}

#[test]
fn an_unknown_outcome_that_left_nothing_is_planned_again() {
    let mut f = fixture();
    f.script.lock().unwrap().commits = [Err(Broken::Unknown)].into();
    let (open, answers) = f.claims("a", &[1, 2]);
    assert_eq!((open, answers), (Open::Yes, vec![Ok(1), TAKEN]));
    assert_eq!(f.tried(), [1, 1]);
}

#[test]
fn an_outcome_that_nobody_can_tell_is_said_to_be_unknown() {
    for broken in [Broken::Unknown, Broken::Fenced] {
        let mut f = fixture();
        f.script.lock().unwrap().commits = [Err(broken)].into();
        f.script.lock().unwrap().opens = [Err(NotOpen::Unreachable)].into();
        let (open, answers) = f.claims("a", &[1, 2]);
        assert_eq!(open, if broken == Broken::Fenced { Open::Fenced } else { Open::No });
        assert!(matches!(answers[0], Err(CommitError::Unknown { .. })), "{answers:?}");
        assert_eq!(answers[1], Err(CommitError::Unavailable));
    }
}

#[test]
fn a_command_that_panics_harms_no_neighbour() {
    let mut f = fixture();
    let bad = f.commit.run(|_| -> Result<(), ()> { panic!("on purpose") });
    let (open, answers) = f.claims("a", &[1]);
    assert_eq!((open, answers), (Open::Yes, vec![Ok(1)]));
    assert_eq!(now(bad), Err(CommitError::Unavailable));
}

#[test]
fn what_a_command_consumed_that_panics_is_read_again() {
    let mut f = fixture();
    let member: BaseConsumer = ClientConfig::new().set("group.id", "g").create().unwrap();
    let group = Arc::new(member.group_metadata().unwrap());
    let consumed = || Some(Consumed { group: Arc::clone(&group), next: Vec::new() });
    let bad = f.commit.submit(|_| -> Result<(), ()> { panic!("on purpose") }, consumed());
    let good = f.commit.submit(|_| Ok::<_, ()>(()), consumed());
    f.claims("a", &[1]);
    assert_eq!((now(bad), now(good)), (Err(CommitError::Unavailable), Ok(())));
    assert_eq!(f.script.lock().unwrap().consumed, [1]);
}

#[test]
fn who_gets_no_answer_does_not_hear_that_nothing_happened() {
    let mut f = fixture();
    let asked = claim(&f.commit, "a", 1);
    drop(f.commands.try_recv().unwrap());
    assert!(matches!(now(asked), Err(CommitError::Unknown { .. })));
}

#[test]
fn nothing_is_taken_while_the_service_does_not_serve() {
    let mut f = fixture();
    f.status.send_replace(Status::Disconnected);
    assert_eq!(f.claims("a", &[1]).1, [Err(CommitError::Unavailable)]);
    assert!(f.tried().is_empty());
}
