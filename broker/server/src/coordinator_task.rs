//! The task that owns both coordinator machines.
//!
//! It plans an operation, hands the records to the storage in one atomic append, replays them at
//! once, and goes on with the next operation; what the first one answers is held until its append
//! is synced. As the storage appends first in, first out, the log is always in the order of the
//! plans. If an append fails, nothing that was planned since can be trusted: everything in flight
//! ends, the machines are loaded again, and whoever waited is told to ask again. The storage sees to it
//! that none of it is appended: all of it is one chain, which the refused append ends.

mod abandoned;
mod load;
mod plan;
mod sweep;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use coordinator::groups::{
    Answer, GroupCoordinator, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
    SyncGroupResponse, Ticket,
};
use coordinator::record::TopicPartition;
use coordinator::transactions::{TransactionCoordinator, TransactionOf};
use coordinator::{Now, groups, transactions};
use kafka_protocol::protocol::Encodable;
use storage::{AppendChain, AppendError, Appended, OpenTransaction, Storage};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::{ErrorCode, TimestampMs};

use crate::dispatch::{Reply, encode};
use crate::tasks::Tasks;

pub use load::{LoadError, Unreadable};
pub(crate) use plan::Plan;
use sweep::Sweep;

/// Operations that wait for the task.
const MAILBOX: usize = 1_024;
/// Appends that wait for their sync, and their bytes; the last may be beyond.
const MAX_IN_FLIGHT: usize = 256;
const MAX_BYTES_IN_FLIGHT: usize = 16 << 20;
/// The wall clock may be set while the task sleeps, so it never sleeps longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// Between two attempts to load after a failed append.
const RELOAD_PAUSE: Duration = Duration::from_millis(500);

/// From this version of Produce on, `TRANSACTION_ABORTABLE` is understood.
const PRODUCE_KNOWS_ABORTABLE: i16 = 11;
/// From this version of Produce on, partitions join the transaction by being written to.
const PRODUCE_ADDS_PARTITIONS: i16 = 12;

type Operation = Box<dyn FnOnce(&mut Task) + Send>;
type Delivery = Box<dyn FnOnce() + Send>;

/// How the machines are set up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) groups: groups::Config,
    pub(crate) transactions: transactions::Config,
    /// How often committed offsets are looked through for what has expired.
    pub(crate) offsets_check_interval: Duration,
    /// The time of day.
    pub(crate) clock: fn() -> TimestampMs,
}

/// A handle to the task.
#[derive(Clone, Debug)]
pub(crate) struct Coordinator {
    mailbox: mpsc::Sender<Operation>,
}

/// An answer that comes when everything it tells is durable.
#[derive(Debug)]
pub(crate) struct Held<R>(Option<oneshot::Receiver<R>>);

impl<R> Held<R> {
    /// Waits; a lost answer means that the coordinator stops or loads, and is worth asking again.
    pub(crate) async fn wait(self) -> Result<R, ErrorCode> {
        match self.0 {
            Some(answer) => answer.await.map_err(|_lost| ErrorCode::COORDINATOR_NOT_AVAILABLE),
            None => Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }
}

impl<R: Send + 'static> Held<R> {
    /// Answers with what comes, once it comes.
    pub(crate) fn reply<T: Encodable>(
        self,
        version: i16,
        respond: impl FnOnce(Result<R, ErrorCode>) -> T + Send + 'static,
    ) -> Reply {
        Reply::Later(Box::pin(
            async move { encode(&respond(self.wait().await), version).map(Some) },
        ))
    }
}

impl Coordinator {
    /// Loads both machines and starts the task.
    pub(crate) async fn start(
        storage: Storage,
        settings: Settings,
        tasks: &mut Tasks,
        stop: CancellationToken,
    ) -> Result<Self, LoadError> {
        load::create_internal_topics(&storage).await?;
        let mut task = Task::new(storage, settings);
        task.load().await?;
        let (mailbox, operations) = mpsc::channel(MAILBOX);
        tasks.start_vital("coordinator", task.run(operations, stop));
        Ok(Self { mailbox })
    }

    /// Plans an operation after all that were called before; the answer can be waited for later.
    pub(crate) async fn call<R, P>(
        &self,
        plan: impl FnOnce(&mut GroupCoordinator, &mut TransactionCoordinator, Now) -> P + Send + 'static,
    ) -> Held<R>
    where
        R: Send + 'static,
        P: Into<Plan<R>>,
    {
        let (deliver, answer) = oneshot::channel();
        self.send(answer, move |task| {
            let now = task.now();
            let plan = plan(&mut task.groups, &mut task.transactions, now).into();
            task.apply(plan, deliver);
        })
        .await
    }

    pub(crate) async fn join_group(&self, request: JoinGroupRequest) -> Held<JoinGroupResponse> {
        let (deliver, answer) = oneshot::channel();
        self.send(answer, move |task| {
            let ticket = task.wait(Waiting::Join(deliver));
            let plan = task.groups.join_group(task.now(), &request, ticket);
            task.apply_alone(plan.into());
        })
        .await
    }

    pub(crate) async fn sync_group(&self, request: SyncGroupRequest) -> Held<SyncGroupResponse> {
        let (deliver, answer) = oneshot::channel();
        self.send(answer, move |task| {
            let ticket = task.wait(Waiting::Sync(deliver));
            let plan = task.groups.sync_group(task.now(), &request, ticket);
            task.apply_alone(plan.into());
        })
        .await
    }

    /// Calls `then` with whether the producer may write to each of the partitions in its open
    /// transaction, by the codes of Produce at `version`; from v12 on a Produce request adds its
    /// partitions by itself. `then` runs before anything else is planned: what it appends lies
    /// before the end of that transaction. It appends to the chain that it is given, so that nothing
    /// lands in a transaction whose records were refused. It must not block.
    pub(crate) async fn verify_transaction(
        &self,
        version: i16,
        of: TransactionOf,
        partitions: Vec<TopicPartition>,
        then: impl FnOnce(&AppendChain, Vec<Result<(), ErrorCode>>) + Send + 'static,
    ) -> Result<(), ErrorCode> {
        let operation: Operation = Box::new(move |task| {
            let code = |error| verdict(version, error);
            if version >= PRODUCE_ADDS_PARTITIONS {
                let (plan, added) =
                    Plan::from(task.transactions.add_partitions(task.now(), &of, &partitions))
                        .split();
                task.apply_alone(plan);
                then(&task.chain, partitions.iter().map(|_| added.map_err(code)).collect());
                return;
            }
            let verify = |partition| task.transactions.verify(&of, partition).map_err(code);
            then(&task.chain, partitions.iter().map(verify).collect());
        });
        let sent = self.mailbox.send(operation).await;
        sent.map_err(|_closed| ErrorCode::COORDINATOR_NOT_AVAILABLE)
    }

    async fn send<R>(
        &self,
        answer: oneshot::Receiver<R>,
        operation: impl FnOnce(&mut Task) + Send + 'static,
    ) -> Held<R> {
        let sent = self.mailbox.send(Box::new(operation)).await;
        Held(sent.is_ok().then_some(answer))
    }
}

/// A request that the group machine answers later.
enum Waiting {
    Join(oneshot::Sender<JoinGroupResponse>),
    Sync(oneshot::Sender<SyncGroupResponse>),
}

/// An append, and what to answer when it is synced.
struct InFlight {
    done: oneshot::Receiver<Result<Vec<Appended>, AppendError>>,
    bytes: usize,
    deliveries: Vec<Delivery>,
    /// Its last batches abort what was abandoned.
    ends_abandoned: bool,
}

enum Wake {
    Operation(Operation),
    Appended(Result<Vec<Appended>, AppendError>),
    Deadline,
    Stop,
}

struct Task {
    groups: GroupCoordinator,
    transactions: TransactionCoordinator,
    storage: Storage,
    /// The transactions that were open in the logs at the start, until each goes on or is aborted.
    found_open: Vec<OpenTransaction>,
    /// Such an abort was refused, so that producers have worked since.
    has_refused_abort: bool,
    /// What was appended since the machines were loaded.
    chain: AppendChain,
    sweep: Sweep,
    settings: Settings,
    origin: Instant,
    waiting: HashMap<Ticket, Waiting>,
    tickets: u64,
    in_flight: VecDeque<InFlight>,
    /// How long deadlines rested last; none since an append succeeded.
    pause: Duration,
    rests_until_ms: u64,
}

impl Task {
    fn new(storage: Storage, settings: Settings) -> Self {
        Self {
            groups: GroupCoordinator::new(settings.groups.clone()),
            transactions: TransactionCoordinator::new(settings.transactions.clone()),
            found_open: storage.take_open_transactions(),
            has_refused_abort: false,
            chain: storage.chain(),
            storage,
            sweep: Sweep::new(settings.offsets_check_interval),
            settings,
            origin: Instant::now(),
            waiting: HashMap::new(),
            tickets: 0,
            in_flight: VecDeque::new(),
            pause: Duration::ZERO,
            rests_until_ms: 0,
        }
    }

    async fn run(mut self, mut operations: mpsc::Receiver<Operation>, stop: CancellationToken) {
        let mut failed = false;
        // A topic's deletion took its offsets along, unless the broker was killed in between.
        self.forget_deleted_topics();
        loop {
            if failed && self.in_flight.is_empty() {
                self.reload(&stop).await;
                self.rest();
                failed = false;
            }
            // Who asks all the time does not keep deadlines from being met.
            if !failed && self.has_room() && self.sleep().is_zero() {
                self.expire();
            }
            match self.wake(&mut operations, &stop, failed).await {
                Wake::Operation(operation) => operation(&mut self),
                Wake::Appended(result) => failed |= self.appended(result.err()),
                Wake::Deadline => {}
                Wake::Stop => break,
            }
        }
        self.waiting.clear();
        while let Some(InFlight { done, deliveries, .. }) = self.in_flight.pop_front() {
            if matches!(done.await, Ok(Ok(_))) {
                deliver_all(deliveries);
            }
        }
    }

    async fn wake(
        &mut self,
        operations: &mut mpsc::Receiver<Operation>,
        stop: &CancellationToken,
        failed: bool,
    ) -> Wake {
        let sleep = self.sleep();
        let takes_more = !failed && self.has_room();
        let first = async {
            match self.in_flight.front_mut() {
                Some(first) => (&mut first.done).await.unwrap_or(Err(AppendError::ShuttingDown)),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            result = first => Wake::Appended(result),
            () = stop.cancelled() => Wake::Stop,
            operation = operations.recv(), if takes_more => {
                operation.map_or(Wake::Stop, Wake::Operation)
            }
            () = tokio::time::sleep(sleep), if takes_more => Wake::Deadline,
        }
    }

    fn now(&self) -> Now {
        let monotonic_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { timestamp: (self.settings.clock)(), monotonic_ms }
    }

    /// What was refused once will be again: deadlines rest, twice as long after each refusal, so that a
    /// full disk does not have everything loaded over and over.
    fn rest(&mut self) {
        self.pause = (self.pause * 2).clamp(RELOAD_PAUSE, LONGEST_SLEEP);
        let pause_ms = u64::try_from(self.pause.as_millis()).unwrap_or(u64::MAX);
        self.rests_until_ms = self.now().monotonic_ms.saturating_add(pause_ms);
    }

    /// Until the next deadline of either machine, or the next look at the offsets.
    fn sleep(&self) -> Duration {
        let now = self.now();
        let rest = Duration::from_millis(self.rests_until_ms.saturating_sub(now.monotonic_ms));
        let of_groups = self.groups.next_deadline().map(|at| at.saturating_sub(now.monotonic_ms));
        let of_transactions = self
            .transactions
            .next_deadline()
            .map(|at| u64::try_from(at.0.saturating_sub(now.timestamp.0)).unwrap_or(0));
        let of_offsets = Some(self.sweep.next_ms.saturating_sub(now.monotonic_ms));
        let of_abandoned = self.has_abandoned().then_some(0);
        let others = of_transactions.into_iter().chain(of_offsets).chain(of_abandoned);
        let nearest = of_groups.into_iter().chain(others).min();
        let sleep = nearest.map_or(LONGEST_SLEEP, Duration::from_millis);
        sleep.clamp(rest, LONGEST_SLEEP)
    }

    fn expire(&mut self) {
        if self.has_abandoned() {
            self.end_abandoned();
        }
        let plan = self.groups.expire(self.now());
        self.apply_alone(plan.into());
        if self.has_room()
            && let Some(plan) = self.transactions.expire(self.now())
        {
            self.apply_alone(plan.into());
        }
        if self.has_room() {
            self.sweep();
        }
    }

    fn wait(&mut self, waiting: Waiting) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.insert(ticket, waiting);
        ticket
    }

    fn apply<R: Send + 'static>(&mut self, plan: Plan<R>, deliver: oneshot::Sender<R>) {
        let (plan, response) = plan.split();
        self.carry_out(plan, Some(Box::new(move || drop(deliver.send(response)))));
    }

    fn apply_alone(&mut self, plan: Plan<()>) {
        self.carry_out(plan, None);
    }

    /// Appends, replays, and holds the answers.
    fn carry_out(&mut self, mut plan: Plan<()>, delivery: Option<Delivery>) {
        let answers =
            std::mem::take(&mut plan.answers).into_iter().filter_map(|(ticket, answer)| {
                let waiting = self.waiting.remove(&ticket)?;
                Some(answer_to(waiting, answer))
            });
        let deliveries: Vec<Delivery> = answers.chain(delivery).collect();
        let appends = plan.appends(&self.storage.catalogue(), (self.settings.clock)());
        plan.replay(&mut self.groups, &mut self.transactions);
        for batches in appends {
            let bytes = batches.iter().map(|append| append.batch.len()).sum();
            let (report, done) = oneshot::channel();
            self.chain.append_atomic(batches, Box::new(move |result| drop(report.send(result))));
            self.in_flight.push_back(InFlight {
                done,
                bytes,
                deliveries: Vec::new(),
                ends_abandoned: false,
            });
        }
        match self.in_flight.back_mut() {
            Some(last) => last.deliveries.extend(deliveries),
            None => deliver_all(deliveries),
        }
    }

    /// Whether another plan may wait for its sync.
    fn has_room(&self) -> bool {
        let bytes: usize = self.in_flight.iter().map(|one| one.bytes).sum();
        self.in_flight.len() < MAX_IN_FLIGHT && bytes < MAX_BYTES_IN_FLIGHT
    }

    /// Gives out what waited for the oldest append; true if it failed.
    fn appended(&mut self, error: Option<AppendError>) -> bool {
        let Some(InFlight { deliveries, ends_abandoned, .. }) = self.in_flight.pop_front() else {
            return false;
        };
        let Some(error) = error else {
            self.pause = Duration::ZERO;
            if ends_abandoned {
                self.found_open.clear();
            }
            deliver_all(deliveries);
            return false;
        };
        self.has_refused_abort |= ends_abandoned;
        if !matches!(error, AppendError::ShuttingDown | AppendError::ChainBroken) {
            tracing::error!(%error, "the coordinator's records were not appended");
        }
        true
    }

    async fn reload(&mut self, stop: &CancellationToken) {
        self.waiting.clear();
        while let Err(error) = self.load().await {
            tracing::error!(%error, "groups and transactions cannot be loaded");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RELOAD_PAUSE) => {}
            }
        }
    }

    async fn load(&mut self) -> Result<(), LoadError> {
        let (storage, settings) = (self.storage.clone(), self.settings.clone());
        let loaded = tokio::task::spawn_blocking(move || load::load(&storage, &settings));
        let machines = loaded.await.map_err(|_panic| LoadError::Panicked)??;
        self.take_up(machines, self.now());
        Ok(())
    }

    /// Goes on with what was loaded.
    fn take_up(&mut self, machines: load::Machines, now: Now) {
        (self.groups, self.transactions) = machines;
        self.chain = self.storage.chain();
        self.groups.loaded(now);
        self.transactions.loaded(now);
    }
}

/// What Produce and `TxnOffsetCommit` say where the coordinator's own APIs have other words.
pub(crate) fn verdict(produce_version: i16, error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::INVALID_TXN_STATE if produce_version >= PRODUCE_KNOWS_ABORTABLE => {
            ErrorCode::TRANSACTION_ABORTABLE
        }
        other => other,
    }
}

fn deliver_all(deliveries: Vec<Delivery>) {
    for deliver in deliveries {
        deliver();
    }
}

fn answer_to(waiting: Waiting, answer: Answer) -> Delivery {
    match (waiting, answer) {
        (Waiting::Join(deliver), Answer::Join(response)) => {
            Box::new(move || drop(deliver.send(response)))
        }
        (Waiting::Sync(deliver), Answer::Sync(response)) => {
            Box::new(move || drop(deliver.send(response)))
        }
        (Waiting::Join(_), Answer::Sync(_)) | (Waiting::Sync(_), Answer::Join(_)) => {
            unreachable!("a ticket is of one kind")
        }
    }
}

#[cfg(test)]
mod tests;
