//! What waits for the committer, bounded in bytes.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use wire::{Offset, TopicId};

use crate::{
    api::{
        Append, AppendError, Appended, CatalogueChange, CatalogueError, DeleteRecordsError, Done,
        Durability, PartitionId,
    },
    catalogue::{EXISTING_TOPIC_BYTES, PART_BYTES, PART_RECORDS},
    keeper::Clean,
    mutant::{self, Mutant},
};

/// What callers may have handed over at a time. The server keeps less in flight; what is beyond
/// is answered as timed out.
const MAX_QUEUED_BYTES: usize = 192 << 20;

/// What stands on one another: once a plan of it was refused, nothing behind that is appended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain(Arc<AtomicBool>);

impl Chain {
    pub(crate) fn is_broken(&self) -> bool {
        self.0.load(Ordering::SeqCst) && !mutant::is(Mutant::KeepOn)
    }

    pub(crate) fn end(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Batches that are answered one by one.
pub(crate) struct AppendRequest {
    pub(crate) batches: Vec<Append>,
    /// What they stand on, if anything.
    pub(crate) chain: Option<Chain>,
    /// One for each batch that has been planned.
    pub(crate) results: Vec<Result<Appended, AppendError>>,
    pub(crate) durability: Durability,
    /// By the monotonic clock.
    pub(crate) deadline: Duration,
    pub(crate) done: Done<Vec<Result<Appended, AppendError>>>,
}

impl AppendRequest {
    /// One that stands on nothing and waits for ever.
    pub(crate) fn new(
        batches: Vec<Append>,
        durability: Durability,
        done: Done<Vec<Result<Appended, AppendError>>>,
    ) -> Self {
        let results = Vec::with_capacity(batches.len());
        Self { batches, chain: None, results, durability, deadline: Duration::MAX, done }
    }
}

/// One call.
pub(crate) enum Request {
    Append(AppendRequest),
    Atomic {
        chain: Chain,
        batches: Vec<Append>,
        done: Done<Result<Vec<Appended>, AppendError>>,
    },
    Catalogue {
        change: CatalogueChange,
        done: Done<Result<TopicId, CatalogueError>>,
    },
    DeleteRecords(DeleteRecords),
    Clean(Clean),
    /// Asks whether cycles are still made.
    Probe {
        done: Done<()>,
    },
}

/// Moves a log's start.
pub(crate) struct DeleteRecords {
    pub(crate) partition: PartitionId,
    /// The high watermark if none.
    pub(crate) before: Option<Offset>,
    pub(crate) done: Done<Result<Offset, DeleteRecordsError>>,
}

/// Room for a catalogue record beside its strings.
const CATALOGUE_RECORD_BYTES: usize = 512;

impl Request {
    /// How many batches are yet to be planned, and their bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        match self {
            Self::Append(request) => sizes(request.batches.iter().skip(request.results.len())),
            Self::Atomic { batches, .. } => sizes(batches.iter()),
            Self::Catalogue { change, .. } => (1, CATALOGUE_RECORD_BYTES + strings(change)),
            Self::Clean(Clean::RecordCatalogue { .. }) => (PART_RECORDS, 2 * PART_BYTES),
            Self::DeleteRecords(_) | Self::Clean(_) => (1, CATALOGUE_RECORD_BYTES),
            Self::Probe { .. } => (0, 0),
        }
    }

    pub(crate) fn refuse(self) {
        match self {
            Self::Append(mut request) => {
                request.results.resize(request.batches.len(), Err(AppendError::ShuttingDown));
                (request.done)(request.results);
            }
            Self::Atomic { done, .. } => done(Err(AppendError::ShuttingDown)),
            Self::Catalogue { done, .. } => done(Err(CatalogueError::ShuttingDown)),
            // What was written anew is removed by the next start.
            Self::Clean(_) => {}
            Self::DeleteRecords(request) => (request.done)(Err(DeleteRecordsError::ShuttingDown)),
            Self::Probe { done } => done(()),
        }
    }
}

fn sizes<'a>(batches: impl Iterator<Item = &'a Append>) -> (usize, usize) {
    batches.fold((0, 0), |(count, bytes), append| (count + 1, bytes + append.batch.len()))
}

/// An existing topic's own name and configs are written too; they are bounded by what made them.
fn strings(change: &CatalogueChange) -> usize {
    let of = |configs: &std::collections::BTreeMap<String, String>| {
        configs.iter().map(|(key, value)| key.len() + value.len() + 8).sum::<usize>()
    };
    EXISTING_TOPIC_BYTES
        + match change {
            CatalogueChange::CreateTopic { name, configs, .. } => name.len() + of(configs),
            CatalogueChange::SetConfigs { configs, .. }
            | CatalogueChange::SetBrokerConfigs { configs } => of(configs),
            CatalogueChange::DeleteTopic { .. } | CatalogueChange::AddPartitions { .. } => 0,
        }
}

/// Every batch of a plan as a plan of its own, answered with the last.
fn in_parts(
    chain: &Chain,
    batches: Vec<Append>,
    done: Done<Result<Vec<Appended>, AppendError>>,
) -> Vec<Request> {
    let count = batches.len();
    let answers = Arc::new(Mutex::new((Vec::new(), Some(done))));
    let part = |append| {
        let answers = Arc::clone(&answers);
        let answer = move |one: Result<Vec<Appended>, AppendError>| {
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            let (given, done) = &mut *answers;
            given.push(one);
            if let Some(done) = done.take_if(|_| given.len() == count) {
                let all: Result<Vec<_>, _> = given.drain(..).collect();
                done(all.map(|all| all.concat()));
            }
        };
        Request::Atomic { chain: chain.clone(), batches: vec![append], done: Box::new(answer) }
    };
    batches.into_iter().map(part).collect()
}

#[derive(Default)]
struct State {
    requests: VecDeque<Request>,
    bytes: usize,
    stopping: bool,
}

/// First in, first out.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    woken: Condvar,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("bytes", &self.lock().bytes).finish_non_exhaustive()
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, request: Request) {
        match request {
            Request::Atomic { chain, batches, done } if mutant::is(Mutant::SplitPlan) => {
                for part in in_parts(&chain, batches, done) {
                    self.push_one(part);
                }
            }
            request => self.push_one(request),
        }
    }

    fn push_one(&self, request: Request) {
        let (_, bytes) = request.size();
        let mut state = self.lock();
        if state.stopping {
            drop(state);
            request.refuse();
            return;
        }
        match request {
            Request::Append(mut request) if state.bytes + bytes > MAX_QUEUED_BYTES => {
                drop(state);
                request.results.resize(request.batches.len(), Err(AppendError::TimedOut));
                (request.done)(request.results);
            }
            request => {
                state.bytes += bytes;
                state.requests.push_back(request);
                // A committer that is busy looks again by itself.
                let first = state.requests.len() == 1;
                drop(state);
                if first {
                    self.woken.notify_one();
                }
            }
        }
    }

    /// Moves everything to the end of `backlog`.
    pub(crate) fn drain_into(&self, backlog: &mut VecDeque<Request>) {
        let mut state = self.lock();
        state.bytes = 0;
        backlog.append(&mut state.requests);
    }

    /// Waits until there is something, or the time has passed. `false` once it is to stop and
    /// there is nothing.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        let mut state = self.lock();
        if state.requests.is_empty() && !state.stopping {
            state = match timeout {
                None => self.woken.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(timeout) => {
                    self.woken
                        .wait_timeout(state, timeout)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        !(state.stopping && state.requests.is_empty())
    }

    pub(crate) fn stop(&self) {
        self.lock().stopping = true;
        self.woken.notify_one();
    }
}
