use coordinator::groups::{Commit, CommitPartition, FetchedOffset, MemberIdentity};
use coordinator::record::{CommittedOffset, GroupRecord};
use storage::Host;
use tempfile::TempDir;
use wire::{LeaderEpoch, Offset, PartitionIndex};

use super::*;
use crate::context::Broker;

const GROUP: &str = "group";

async fn start(directory: &TempDir, tasks: &mut Tasks, stop: &CancellationToken) -> Coordinator {
    start_looking(directory, tasks, stop, Duration::from_mins(10)).await
}

async fn start_looking(
    directory: &TempDir,
    tasks: &mut Tasks,
    stop: &CancellationToken,
    offsets_check_interval: Duration,
) -> Coordinator {
    let config = storage::Config::new(directory.path().join("data"));
    let (storage, _) = Storage::open(config, Host::real()).unwrap();
    let settings = Settings {
        groups: groups::Config::default(),
        transactions: transactions::Config::default(),
        offsets_check_interval,
        clock: Broker::now,
    };
    Coordinator::start(storage, settings, tasks, stop.clone()).await.unwrap()
}

async fn commit(coordinator: &Coordinator, offset: i64) {
    let commit = Commit {
        group_id: GROUP.to_owned(),
        generation_id: -1,
        member: MemberIdentity { member_id: String::new(), group_instance_id: None },
        transactional: false,
        retention_time_ms: None,
        knows_group_id_not_found: false,
        partitions: vec![CommitPartition {
            partition: ("topic".to_owned(), PartitionIndex(0)),
            offset: Offset(offset),
            leader_epoch: LeaderEpoch(-1),
            metadata: String::new(),
        }],
    };
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
        task.in_flight.push_back(InFlight { done, deliveries });
    })
}

#[tokio::test]
async fn a_failed_append_is_forgotten_and_nobody_is_told_that_it_succeeded() {
    let directory = TempDir::new().unwrap();
    let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
    let coordinator = start(&directory, &mut tasks, &stop).await;
    commit(&coordinator, 7).await;
    let (deliver, answer) = oneshot::channel();
    coordinator.mailbox.send(failing(deliver)).await.unwrap();
    assert!(answer.await.is_err());
    assert_eq!(committed(&coordinator).await, [7]);
    commit(&coordinator, 8).await;
    assert_eq!(committed(&coordinator).await, [8]);
    stop.cancel();
    tasks.join(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn offsets_of_a_topic_that_is_not_there_are_forgotten_at_the_next_look() {
    let directory = TempDir::new().unwrap();
    let (mut tasks, stop) = (Tasks::default(), CancellationToken::new());
    let often = Duration::from_millis(10);
    let coordinator = start_looking(&directory, &mut tasks, &stop, often).await;
    // As if the broker had been killed between a deletion and what follows from it.
    commit(&coordinator, 7).await;
    let gone = async { while !committed(&coordinator).await.is_empty() {} };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
    stop.cancel();
    tasks.join(Duration::from_secs(10)).await;
}
