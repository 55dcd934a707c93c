mod worlds;

use coordinator::groups::{Commit, CommitPartition, FetchedOffset, MemberIdentity};
use coordinator::record::{CommittedOffset, GroupRecord, TopicPartition};
use coordinator::transactions::{InitProducerIdRequest, Producer};
use storage::Host;
use tempfile::TempDir;
use wire::batch::{BatchBuilder, NewRecord};
use wire::{LeaderEpoch, Offset, PartitionIndex};

use super::*;
use crate::context::Broker;

const GROUP: &str = "group";

fn opened(directory: &TempDir) -> Storage {
    let config = storage::Config::new(directory.path().join("data"));
    Storage::open(config, Host::real()).unwrap().0
}

/// Waits until nobody writes to the directory any more: an engine whose files are taken away ends
/// its process.
async fn close(storage: Storage, directory: &TempDir) {
    storage.shutdown();
    drop(storage);
    let lock = directory.path().join("data/lock");
    while Host::real().disk.lock(&lock).is_err() {
        tokio::task::yield_now().await;
    }
}

async fn start(storage: &Storage, tasks: &mut Tasks, stop: &CancellationToken) -> Coordinator {
    start_looking(storage, tasks, stop, Duration::from_mins(10)).await
}

async fn start_looking(
    storage: &Storage,
    tasks: &mut Tasks,
    stop: &CancellationToken,
    offsets_check_interval: Duration,
) -> Coordinator {
    let settings = settings(offsets_check_interval);
    Coordinator::start(storage.clone(), settings, tasks, stop.clone()).await.unwrap()
}

fn settings(offsets_check_interval: Duration) -> Settings {
    Settings {
        groups: groups::Config::default(),
        transactions: transactions::Config::default(),
        offsets_check_interval,
        clock: Broker::now,
    }
}

/// Stops the task and waits until it has.
async fn end(coordinator: Coordinator, tasks: Tasks, stop: &CancellationToken) {
    stop.cancel();
    drop(coordinator);
    tasks.join(Duration::from_secs(10)).await;
}

/// A commit by nobody's member.
fn commit_of(group_id: String, partition: TopicPartition, offset: i64) -> Commit {
    Commit {
        group_id,
        generation_id: -1,
        member: MemberIdentity { member_id: String::new(), group_instance_id: None },
        transactional: false,
        retention_time_ms: None,
        knows_group_id_not_found: false,
        partitions: vec![CommitPartition {
            partition,
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(-1),
            metadata: String::new(),
        }],
    }
}

async fn commit(coordinator: &Coordinator, offset: i64) {
    let partition = ("topic".to_owned(), PartitionIndex(0));
    let commit = commit_of(GROUP.to_owned(), partition, offset);
    let held = coordinator.call(move |groups, _, now| groups.commit_offsets(now, &commit)).await;
    assert_eq!(held.wait().await, Ok(Ok(vec![ErrorCode::NONE])));
}

async fn committed(coordinator: &Coordinator) -> Vec<i64> {
    let fetch = |groups: &mut GroupCoordinator| groups.fetch_offsets(GROUP, None, true);
    let held =
        coordinator.call(move |groups, _, _| Plan::<Vec<FetchedOffset>>::only(fetch(groups))).await;
    held.wait().await.unwrap().into_iter().map(|fetched| fetched.offset.0).collect()
}

/// Plans offset 99 as if it were appended, and lets the append fail.
fn failing(deliver: oneshot::Sender<()>) -> Operation {
    Box::new(move |task| {
        task.groups.replay(
            None,
            &GroupRecord::Offset {
                group_id: GROUP.to_owned(),
                topic: "topic".to_owned(),
                partition: PartitionIndex(0),
                value: Some(CommittedOffset {
                    offset: Offset(99),
                    leader_epoch: LeaderEpoch(-1),
                    metadata: String::new(),
                    commit_timestamp: TimestampMs(0),
                    expire_timestamp: None,
                }),
            },
        );
        let (report, done) = oneshot::channel();
        report.send(Err(AppendError::DiskFull)).unwrap();
        let deliveries: Vec<Delivery> = vec![Box::new(move || _ = deliver.send(()))];
        task.in_flight.push_back(InFlight { done, bytes: 0, deliveries, ends_abandoned: false });
    })
}

#[tokio::test]
async fn a_failed_append_is_forgotten_and_nobody_is_told_that_it_succeeded() {
    let directory = TempDir::new().unwrap();
    let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
    let storage = opened(&directory);
    let coordinator = start(&storage, &mut tasks, &stop).await;
    commit(&coordinator, 7).await;
    let (deliver, answer) = oneshot::channel();
    coordinator.mailbox.send(failing(deliver)).await.unwrap();
    assert!(answer.await.is_err());
    assert_eq!(committed(&coordinator).await, [7]);
    commit(&coordinator, 8).await;
    assert_eq!(committed(&coordinator).await, [8]);
    end(coordinator, tasks, &stop).await;
    close(storage, &directory).await;
}

async fn create_topic(storage: &Storage) {
    let (report, done) = oneshot::channel();
    let change = storage::CatalogueChange::CreateTopic {
        name: "topic".to_owned(),
        partitions: 1,
        configs: std::collections::BTreeMap::new(),
    };
    storage.change_catalogue(change, Box::new(move |result| report.send(result).unwrap()));
    done.await.unwrap().unwrap();
}

async fn append_to(storage: &Storage, partition: storage::PartitionId, batch: bytes::Bytes) {
    let (report, done) = oneshot::channel();
    let batches = vec![storage::Append { partition, batch }];
    storage.chain().append_atomic(batches, Box::new(move |result| report.send(result).unwrap()));
    done.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_marker_among_the_transactions_is_not_in_the_way() {
    let directory = TempDir::new().unwrap();
    let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
    let storage = opened(&directory);
    load::create_internal_topics(&storage).await.unwrap();
    let topic = storage.catalogue().by_name[coordinator::TRANSACTION_STATE].id;
    let partition = storage::PartitionId { topic, partition: PartitionIndex(0) };
    let marker = wire::batch::control_marker(&wire::batch::ControlMarker {
        producer_id: wire::ProducerId(7),
        producer_epoch: wire::ProducerEpoch(0),
        marker: wire::batch::Marker::Commit,
        coordinator_epoch: 0,
        timestamp: TimestampMs(1),
    });
    append_to(&storage, partition, marker).await;
    let coordinator = start(&storage, &mut tasks, &stop).await;
    commit(&coordinator, 7).await;
    end(coordinator, tasks, &stop).await;
    close(storage, &directory).await;
}

fn transactional(producer: Producer) -> bytes::Bytes {
    let sequence = wire::Sequence(0);
    let mut builder =
        BatchBuilder::new().producer(producer.id, producer.epoch, sequence).transactional();
    let (timestamp, value) = (TimestampMs(1), Some(&b"value"[..]));
    builder.push(NewRecord { timestamp, key: None, value, headers: &[] });
    builder.build()
}

#[tokio::test]
async fn a_transaction_whose_end_was_lost_is_aborted_at_the_start_and_no_other() {
    let directory = TempDir::new().unwrap();
    let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
    let storage = opened(&directory);
    create_topic(&storage).await;
    let topic = storage.catalogue().by_name["topic"].id;
    let partition = storage::PartitionId { topic, partition: PartitionIndex(0) };
    let coordinator = start(&storage, &mut tasks, &stop).await;
    let request = InitProducerIdRequest {
        transactional_id: Some("id".to_owned()),
        timeout_ms: 60_000,
        producer: None,
    };
    let begun = coordinator.call(move |_, of, now| of.init_producer_id(now, &request)).await;
    let producer = begun.wait().await.unwrap().unwrap();
    let of = TransactionOf { transactional_id: "id".to_owned(), producer };
    let partitions = [("topic".to_owned(), PartitionIndex(0))];
    let added =
        coordinator.call(move |_, all, now| all.add_partitions(now, &of, &partitions)).await;
    added.wait().await.unwrap().unwrap();
    // As a repair leaves it that lost the marker.
    let unknown = Producer { id: wire::ProducerId(7777), epoch: wire::ProducerEpoch(3) };
    append_to(&storage, partition, transactional(unknown)).await;
    append_to(&storage, partition, transactional(producer)).await;
    end(coordinator, tasks, &stop).await;
    close(storage, &directory).await;

    let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
    let storage = opened(&directory);
    assert_eq!(storage.offsets(partition).unwrap().last_stable_offset, Offset(0));
    let coordinator = start(&storage, &mut tasks, &stop).await;
    commit(&coordinator, 7).await;
    let offsets = storage.offsets(partition).unwrap();
    assert_eq!((offsets.last_stable_offset, offsets.high_watermark), (Offset(1), Offset(3)));
    end(coordinator, tasks, &stop).await;
    close(storage, &directory).await;
}

/// As if a full disk had refused the abort of what was abandoned.
fn refuse_abort(task: &mut Task) {
    assert!(task.has_abandoned() && task.sleep().is_zero());
    let (_, done) = oneshot::channel();
    let deliveries = Vec::new();
    task.in_flight.push_back(InFlight { done, bytes: 0, deliveries, ends_abandoned: true });
    assert!(!task.has_abandoned());
    assert!(task.appended(Some(AppendError::DiskFull)));
}

/// Waits for what is in flight.
async fn land(task: &mut Task) {
    while let Some(first) = task.in_flight.front_mut() {
        (&mut first.done).await.unwrap().unwrap();
        assert!(!task.appended(None));
    }
}

/// Plans for the transactions, and answers once that is durable.
async fn plan_on<R: Send + 'static, P: Into<Plan<R>>>(
    task: &mut Task,
    plan: impl FnOnce(&mut TransactionCoordinator, Now) -> P,
) -> R {
    let (deliver, answer) = oneshot::channel();
    let now = task.now();
    let planned = plan(&mut task.transactions, now);
    task.apply(planned.into(), deliver);
    land(task).await;
    answer.await.unwrap()
}

#[tokio::test]
async fn an_abort_of_what_was_abandoned_that_is_refused_is_tried_again() {
    let directory = TempDir::new().unwrap();
    let storage = opened(&directory);
    create_topic(&storage).await;
    let topic = storage.catalogue().by_name["topic"].id;
    let partition = storage::PartitionId { topic, partition: PartitionIndex(0) };
    load::create_internal_topics(&storage).await.unwrap();
    let unknown = Producer { id: wire::ProducerId(7777), epoch: wire::ProducerEpoch(3) };
    append_to(&storage, partition, transactional(unknown)).await;
    close(storage, &directory).await;

    let storage = opened(&directory);
    let mut task = Task::new(storage.clone(), settings(Duration::from_mins(10)));
    task.load().await.unwrap();
    refuse_abort(&mut task);
    task.load().await.unwrap();
    assert!(task.has_abandoned() && task.sleep().is_zero());
    task.expire();
    land(&mut task).await;
    assert!(task.found_open.is_empty());
    assert_eq!(storage.offsets(partition).unwrap().last_stable_offset, Offset(2));
    drop(task);
    close(storage, &directory).await;
}

#[tokio::test]
async fn a_producer_that_came_back_after_a_refused_abort_loses_nothing() {
    let directory = TempDir::new().unwrap();
    let storage = opened(&directory);
    create_topic(&storage).await;
    let topic = storage.catalogue().by_name["topic"].id;
    let partition = storage::PartitionId { topic, partition: PartitionIndex(0) };
    load::create_internal_topics(&storage).await.unwrap();
    let request = InitProducerIdRequest {
        transactional_id: Some("id".to_owned()),
        timeout_ms: 60_000,
        producer: None,
    };
    let mut task = Task::new(storage.clone(), settings(Duration::from_mins(10)));
    let first = plan_on(&mut task, |of, now| of.init_producer_id(now, &request)).await.unwrap();
    append_to(&storage, partition, transactional(first)).await;
    drop(task);
    close(storage, &directory).await;

    let storage = opened(&directory);
    let mut task = Task::new(storage.clone(), settings(Duration::from_mins(10)));
    task.load().await.unwrap();
    refuse_abort(&mut task);
    task.load().await.unwrap();
    let producer = plan_on(&mut task, |of, now| of.init_producer_id(now, &request)).await.unwrap();
    assert_eq!(producer.id, first.id);
    let of = TransactionOf { transactional_id: "id".to_owned(), producer };
    let partitions = [("topic".to_owned(), PartitionIndex(0))];
    plan_on(&mut task, |all, now| all.add_partitions(now, &of, &partitions)).await.unwrap();
    append_to(&storage, partition, transactional(producer)).await;
    task.expire();
    land(&mut task).await;
    assert!(task.found_open.is_empty());
    assert_eq!(storage.offsets(partition).unwrap().high_watermark, Offset(2));
    drop(task);
    close(storage, &directory).await;
}

#[tokio::test]
async fn very_many_records_are_several_appends_in_their_order() {
    let directory = TempDir::new().unwrap();
    let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
    let storage = opened(&directory);
    let coordinator = start(&storage, &mut tasks, &stop).await;
    let long = "g".repeat(30_000);
    for part in 0..3 {
        let partitions = (0..400).map(|index| CommitPartition {
            partition: ("topic".to_owned(), PartitionIndex(part * 400 + index)),
            offset: Offset(5),
            leader_epoch: LeaderEpoch(-1),
            metadata: String::new(),
        });
        let all = Commit {
            partitions: partitions.collect(),
            ..commit_of(long.clone(), ("topic".to_owned(), PartitionIndex(0)), 5)
        };
        let held = coordinator.call(move |groups, _, now| groups.commit_offsets(now, &all)).await;
        assert_eq!(held.wait().await.unwrap().unwrap().len(), 400);
    }
    let group = long.clone();
    let held = coordinator.call(move |groups, _, _| groups.delete_group(&group)).await;
    assert_eq!(held.wait().await, Ok(ErrorCode::NONE));
    let held = coordinator.call(move |groups, _, _| groups.delete_group(&long)).await;
    assert_eq!(held.wait().await, Ok(ErrorCode::GROUP_ID_NOT_FOUND));
    end(coordinator, tasks, &stop).await;
    close(storage, &directory).await;
}

#[tokio::test]
async fn what_is_refused_again_and_again_is_not_loaded_all_the_time() {
    let directory = TempDir::new().unwrap();
    let storage = opened(&directory);
    let mut task = Task::new(storage.clone(), settings(Duration::from_mins(10)));
    let mut rests = Vec::new();
    for _ in 0..6 {
        task.rest();
        rests.push(task.pause.as_millis());
        assert!(task.sleep() + Duration::from_millis(400) > task.pause);
    }
    assert_eq!(rests, [500, 1000, 2000, 4000, 8000, 10_000]);
    let (report, done) = oneshot::channel();
    report.send(Ok(Vec::new())).unwrap();
    task.in_flight.push_back(InFlight {
        done,
        bytes: 0,
        deliveries: Vec::new(),
        ends_abandoned: false,
    });
    assert!(!task.appended(None));
    assert_eq!(task.pause, Duration::ZERO);
    drop(task);
    close(storage, &directory).await;
}

#[tokio::test]
async fn offsets_of_a_topic_that_is_not_there_are_forgotten_at_the_start() {
    let directory = TempDir::new().unwrap();
    let storage = opened(&directory);
    // The first commits as if the broker had been killed between a deletion and what follows from it.
    for expected in [vec![7], vec![]] {
        let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
        let coordinator = start(&storage, &mut tasks, &stop).await;
        if !expected.is_empty() {
            commit(&coordinator, 7).await;
        }
        assert_eq!(committed(&coordinator).await, expected);
        end(coordinator, tasks, &stop).await;
    }
    close(storage, &directory).await;
}

#[tokio::test]
async fn offsets_of_a_topic_that_is_not_there_are_forgotten_at_the_next_look() {
    let directory = TempDir::new().unwrap();
    let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
    let often = Duration::from_millis(10);
    let storage = opened(&directory);
    let coordinator = start_looking(&storage, &mut tasks, &stop, often).await;
    // As if the broker had been killed between a deletion and what follows from it.
    commit(&coordinator, 7).await;
    let gone = async { while !committed(&coordinator).await.is_empty() {} };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    end(coordinator, tasks, &stop).await;
    close(storage, &directory).await;
}

#[tokio::test]
async fn committed_offsets_are_there_without_the_map() {
    let directory = TempDir::new().unwrap();
    for offset in [7, 8, 9] {
        let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
        let storage = opened(&directory);
        if offset == 7 {
            create_topic(&storage).await;
        }
        let coordinator = start(&storage, &mut tasks, &stop).await;
        if offset > 7 {
            assert_eq!(committed(&coordinator).await, [offset - 1]);
        }
        commit(&coordinator, offset).await;
        end(coordinator, tasks, &stop).await;
        close(storage, &directory).await;
        std::fs::remove_dir_all(directory.path().join("data/map")).unwrap();
    }
}
