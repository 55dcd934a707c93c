use std::time::Duration;

use ::wire::ErrorCode;
use ::wire::batch::{self, BatchBuilder, NewRecord};
use ::wire::{ProducerEpoch, ProducerId, Sequence, TimestampMs};
use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, FetchRequest, GroupId,
    InitProducerIdRequest, InitProducerIdResponse, OffsetFetchRequest, ProduceRequest,
    ProducerId as WireProducerId, TopicName, TransactionalId, TxnOffsetCommitRequest,
};

use server::Config;

use crate::wire::{Client, DEADLINE, House, TOPIC, text};

const GROUP: &str = "group";

/// A transactional id with its present producer.
struct Transactional {
    id: TransactionalId,
    producer_id: WireProducerId,
    producer_epoch: i16,
}

impl Transactional {
    async fn init(client: &mut Client, version: i16, id: &str) -> Self {
        let id = TransactionalId(text(id));
        let begun = init(client, version, &id, None).await;
        assert_eq!(begun.error_code, 0, "v{version}");
        Self { id, producer_id: begun.producer_id, producer_epoch: begun.producer_epoch }
    }

    async fn add_partition(&self, client: &mut Client, version: i16) -> i16 {
        self.add_partition_of(TOPIC, client, version).await
    }

    async fn add_partition_of(&self, topic: &str, client: &mut Client, version: i16) -> i16 {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(TopicName(text(topic)))
            .with_partitions(vec![0]);
        if version < 4 {
            let request = AddPartitionsToTxnRequest::default()
                .with_v3_and_below_transactional_id(self.id.clone())
                .with_v3_and_below_producer_id(self.producer_id)
                .with_v3_and_below_producer_epoch(self.producer_epoch)
                .with_v3_and_below_topics(vec![topic]);
            let added = client.call(version, &request).await;
            let topic = &added.results_by_topic_v3_and_below[0];
            return topic.results_by_partition[0].partition_error_code;
        }
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(self.id.clone())
            .with_producer_id(self.producer_id)
            .with_producer_epoch(self.producer_epoch)
            .with_topics(vec![topic]);
        let request = AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]);
        let added = client.call(version, &request).await;
        let topic = &added.results_by_transaction[0].topic_results[0];
        topic.results_by_partition[0].partition_error_code
    }

    async fn add_offsets(&self, client: &mut Client, version: i16) -> i16 {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.id.clone())
            .with_producer_id(self.producer_id)
            .with_producer_epoch(self.producer_epoch)
            .with_group_id(GroupId(text(GROUP)));
        client.call(version, &request).await.error_code
    }

    async fn commit_offset(&self, client: &mut Client, version: i16, offset: i64) -> i16 {
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text("")));
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(TopicName(text(TOPIC)))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.id.clone())
            .with_group_id(GroupId(text(GROUP)))
            .with_producer_id(self.producer_id)
            .with_producer_epoch(self.producer_epoch)
            .with_topics(vec![topic]);
        client.call(version, &request).await.topics[0].partitions[0].error_code
    }

    async fn produce(&self, client: &mut Client, version: i16, value: &[u8]) -> i16 {
        let mut batch = BatchBuilder::new()
            .producer(
                ProducerId(self.producer_id.0),
                ProducerEpoch(self.producer_epoch),
                Sequence(0),
            )
            .transactional();
        let timestamp = TimestampMs(1_700_000_000_000);
        batch.push(NewRecord { timestamp, key: None, value: Some(value), headers: &[] });
        let partition =
            PartitionProduceData::default().with_index(0).with_records(Some(batch.build()));
        let topic = TopicProduceData::default()
            .with_name(TopicName(text(TOPIC)))
            .with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.id.clone()))
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![topic]);
        let produced = client.call(version, &request).await;
        produced.responses[0].partition_responses[0].error_code
    }

    /// Ends the transaction and goes on as the answer says.
    async fn end(&mut self, client: &mut Client, version: i16, committed: bool) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id.clone())
            .with_producer_id(self.producer_id)
            .with_producer_epoch(self.producer_epoch)
            .with_committed(committed);
        let ended = client.call(version, &request).await;
        if version >= 5 && ended.error_code == 0 {
            self.producer_id = ended.producer_id;
            self.producer_epoch = ended.producer_epoch;
        }
        ended.error_code
    }
}

async fn init(
    client: &mut Client,
    version: i16,
    id: &TransactionalId,
    present: Option<(WireProducerId, i16)>,
) -> InitProducerIdResponse {
    let mut request = InitProducerIdRequest::default()
        .with_transactional_id(Some(id.clone()))
        .with_transaction_timeout_ms(60_000);
    if let Some((producer_id, producer_epoch)) = present {
        request = request.with_producer_id(producer_id).with_producer_epoch(producer_epoch);
    }
    client.call(version, &request).await
}

/// The offset that the group has committed, and the error of its partition.
async fn committed(client: &mut Client) -> (i64, i16) {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(TopicName(text(TOPIC)))
        .with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(GROUP)))
        .with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true);
    let found = client.call(9, &request).await.groups[0].topics[0].partitions[0].clone();
    (found.committed_offset, found.error_code)
}

/// The values that a reader of committed records is given, without those it is told to skip.
async fn read_committed(client: &mut Client) -> Vec<String> {
    let partition = FetchPartition::default().with_partition(0).with_partition_max_bytes(1 << 20);
    let topic =
        FetchTopic::default().with_topic(TopicName(text(TOPIC))).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_bytes(1 << 20)
        .with_isolation_level(1)
        .with_topics(vec![topic]);
    let fetched = client.call(4, &request).await.responses[0].partitions[0].clone();
    let aborted = fetched.aborted_transactions.unwrap_or_default();
    let records: Bytes = fetched.records.unwrap_or_default();
    let mut values = Vec::new();
    for view in batch::batches(&records) {
        let header = view.header;
        let is_aborted = aborted.iter().any(|transaction| {
            transaction.producer_id.0 == header.producer_id.0
                && transaction.first_offset == header.base_offset.0
        });
        if header.is_control() || is_aborted {
            continue;
        }
        let mut records = batch::records(&view, batch::RecordLimits::default()).unwrap();
        while let Some(record) = records.next_record() {
            let value = record.unwrap().value.unwrap().to_vec();
            values.push(String::from_utf8(value).unwrap());
        }
    }
    values
}

#[tokio::test]
async fn every_version_of_the_transaction_protocol_commits() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    for version in 0..=5 {
        let mut mine = Transactional::init(&mut client, version, &format!("tx-{version}")).await;
        assert_eq!(mine.add_partition(&mut client, version).await, 0, "v{version}");
        let value = format!("committed by v{version}");
        assert_eq!(mine.produce(&mut client, (8 + version).min(12), value.as_bytes()).await, 0);
        assert_eq!(mine.add_offsets(&mut client, version.min(4)).await, 0);
        let offset = i64::from(version) + 10;
        assert_eq!(mine.commit_offset(&mut client, version, offset).await, 0);
        assert_eq!(committed(&mut client).await.1, ErrorCode::UNSTABLE_OFFSET_COMMIT.0);
        assert_eq!(mine.end(&mut client, version, true).await, 0, "v{version}");
        assert_eq!(committed(&mut client).await, (offset, 0));
    }
    let expected: Vec<String> = (0..=5).map(|v| format!("committed by v{v}")).collect();
    assert_eq!(read_committed(&mut client).await, expected);
    house.stop().await;
}

#[tokio::test]
async fn a_partition_that_was_not_added_takes_no_transactional_batch_of_an_old_client() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    let mut mine = Transactional::init(&mut client, 4, "tx").await;
    let refused = mine.produce(&mut client, 9, b"x").await;
    assert_eq!(refused, ErrorCode::INVALID_TXN_STATE.0);
    let refused = mine.produce(&mut client, 11, b"x").await;
    assert_eq!(refused, ErrorCode::TRANSACTION_ABORTABLE.0);
    assert_eq!(mine.commit_offset(&mut client, 3, 1).await, ErrorCode::INVALID_TXN_STATE.0);
    assert_eq!(mine.produce(&mut client, 12, b"added by itself").await, 0);
    assert_eq!(mine.commit_offset(&mut client, 5, 7).await, 0);
    assert_eq!(mine.end(&mut client, 5, true).await, 0);
    assert_eq!(mine.producer_epoch, 1);
    assert_eq!(read_committed(&mut client).await, ["added by itself"]);
    assert_eq!(committed(&mut client).await, (7, 0));
    house.stop().await;
}

#[tokio::test]
async fn no_transaction_goes_to_the_coordinators_own_topics() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    for version in [3, 5] {
        let mine = Transactional::init(&mut client, version, "tx").await;
        for topic in ["__transaction_state", "__consumer_offsets"] {
            let refused = mine.add_partition_of(topic, &mut client, version).await;
            assert_eq!(refused, ErrorCode::TOPIC_AUTHORIZATION_FAILED.0, "{topic} v{version}");
        }
    }
    house.stop().await;
}

#[tokio::test]
async fn an_abort_hides_records_and_offsets() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    let mut mine = Transactional::init(&mut client, 4, "tx").await;
    mine.add_partition(&mut client, 3).await;
    mine.add_offsets(&mut client, 3).await;
    assert_eq!(mine.produce(&mut client, 9, b"aborted").await, 0);
    assert_eq!(mine.commit_offset(&mut client, 3, 7).await, 0);
    assert!(read_committed(&mut client).await.is_empty());
    assert_eq!(mine.end(&mut client, 3, false).await, 0);
    assert!(read_committed(&mut client).await.is_empty());
    assert_eq!(committed(&mut client).await, (-1, 0));
    house.stop().await;
}

#[tokio::test]
async fn init_producer_id_answers_after_the_abort_that_it_causes() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    let mut old = Transactional::init(&mut client, 4, "tx").await;
    old.add_partition(&mut client, 3).await;
    old.add_offsets(&mut client, 3).await;
    assert_eq!(old.produce(&mut client, 9, b"left open").await, 0);
    assert_eq!(old.commit_offset(&mut client, 3, 7).await, 0);

    let mut new = Transactional::init(&mut client, 4, "tx").await;
    assert!(new.producer_epoch > old.producer_epoch);
    assert_eq!(committed(&mut client).await, (-1, 0), "the abort came before the answer");
    for (version, fenced) in
        [(1, ErrorCode::INVALID_PRODUCER_EPOCH), (2, ErrorCode::PRODUCER_FENCED)]
    {
        assert_eq!(old.add_partition(&mut client, version).await, fenced.0);
        assert_eq!(old.add_offsets(&mut client, version).await, fenced.0);
        assert_eq!(old.end(&mut client, version, true).await, fenced.0);
    }
    let fenced = ErrorCode::INVALID_PRODUCER_EPOCH.0;
    assert_eq!(old.produce(&mut client, 9, b"late").await, fenced);
    assert_eq!(old.commit_offset(&mut client, 3, 9).await, fenced);
    let present = Some((old.producer_id, old.producer_epoch));
    assert_eq!(init(&mut client, 3, &old.id, present).await.error_code, fenced);
    let refused = init(&mut client, 4, &old.id, present).await.error_code;
    assert_eq!(refused, ErrorCode::PRODUCER_FENCED.0);

    new.add_partition(&mut client, 3).await;
    assert_eq!(new.produce(&mut client, 9, b"new").await, 0);
    assert_eq!(new.end(&mut client, 3, true).await, 0);
    assert_eq!(read_committed(&mut client).await, ["new"]);
    house.stop().await;
}

#[tokio::test]
async fn a_transaction_goes_on_after_the_broker_came_back() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    let mut mine = Transactional::init(&mut client, 4, "tx").await;
    mine.add_partition(&mut client, 3).await;
    mine.add_offsets(&mut client, 3).await;
    assert_eq!(mine.produce(&mut client, 9, b"before").await, 0);
    assert_eq!(mine.commit_offset(&mut client, 3, 7).await, 0);
    house.restart().await;
    let mut client = house.client().await;
    assert!(read_committed(&mut client).await.is_empty());
    assert_eq!(committed(&mut client).await.1, ErrorCode::UNSTABLE_OFFSET_COMMIT.0);
    assert_eq!(mine.end(&mut client, 3, true).await, 0);
    assert_eq!(read_committed(&mut client).await, ["before"]);
    assert_eq!(committed(&mut client).await, (7, 0));

    let another = Transactional::init(&mut client, 4, "another").await;
    assert_ne!(another.producer_id, mine.producer_id);
    house.stop().await;
}

#[tokio::test]
async fn producers_without_transactions_get_ids_of_their_own() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000);
    let mut given = std::collections::BTreeSet::new();
    for version in 0..=5 {
        let begun = client.call(version, &request).await;
        assert_eq!((begun.error_code, begun.producer_epoch), (0, 0));
        assert!(given.insert(begun.producer_id.0));
    }
    house.restart().await;
    let mut client = house.client().await;
    assert!(given.insert(client.call(5, &request).await.producer_id.0));
    let half = request.with_producer_id(WireProducerId(5));
    assert_eq!(client.call(5, &half).await.error_code, ErrorCode::INVALID_REQUEST.0);
    house.stop().await;
}

#[tokio::test]
async fn a_transactional_id_is_forgotten_unless_its_transaction_is_open() {
    let forgetful = |config: Config| Config {
        transactional_id_expiration: Duration::from_millis(50),
        ..config
    };
    let mut house = House::with(forgetful).await;
    let mut client = house.client().await;
    let mut busy = Transactional::init(&mut client, 5, "busy").await;
    // On a slow machine the id may be forgotten before it is used.
    while busy.add_partition(&mut client, 3).await != 0 {
        busy = Transactional::init(&mut client, 5, "busy").await;
    }
    let mut idle = Transactional::init(&mut client, 5, "idle").await;
    let unknown = ErrorCode::INVALID_PRODUCER_ID_MAPPING.0;
    let forgotten = async { while idle.end(&mut client, 3, true).await != unknown {} };
    tokio::time::timeout(DEADLINE, forgotten).await.unwrap();

    house.restart_with(|config| config).await;
    let mut client = house.client().await;
    assert_eq!(idle.end(&mut client, 3, true).await, unknown);
    assert_eq!(busy.end(&mut client, 3, true).await, 0);
    house.stop().await;
}
