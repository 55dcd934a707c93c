//! `Produce` v3-13. v5: log start offset; v7: zstd; v8: record errors and a message; v9:
//! flexible; v10: current leader; v13: topic ids.
//!
//! Versions 0 to 2 are advertised and not served, as Apache Kafka does it: librdkafka up to
//! 2.11.0 turns compression off when it does not see them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coordinator::record::TopicPartition;
use coordinator::transactions::{Producer, TransactionOf};
use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;
use storage::{Append, AppendChain, AppendError, Appended, Catalogue, Durability, Topic};
use tokio::sync::oneshot;
use wire::batch::{self, BatchError, ProduceError, ProduceLimits, RecordLimits};
use wire::{ErrorCode, PartitionIndex, TimestampMs};

use crate::configs;
use crate::context::{Broker, Context};
use crate::dispatch::{Api, Body, Failure, Reply, Request, encode};
use crate::topics;

pub(crate) const API: Api = Api {
    key: ApiKey::Produce,
    accepted: (3, 13),
    advertised: (0, 13),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

/// The first version that names topics by id.
const TOPIC_ID_VERSION: i16 = 13;
const LOG_START_VERSION: i16 = 5;
const ZSTD_VERSION: i16 = 7;
const RECORD_ERRORS_VERSION: i16 = 8;
const ABORTABLE_VERSION: i16 = 11;
/// A commit cycle is waited for at least so long, whatever the request says.
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);

/// When the batches of a request were decompressed to so much, or to so many times the request if that is
/// more, the others are to be sent again.
const MOST_DECOMPRESSED_BYTES: usize = 128 << 20;
const MOST_TIMES: usize = 20;
/// After so many decompressed bytes others have their turn.
const YIELD_EVERY_BYTES: usize = 4 << 20;

type Appends = oneshot::Receiver<Vec<Result<Appended, ErrorCode>>>;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let version = request.version;
    let most_decompressed = MOST_DECOMPRESSED_BYTES.max(MOST_TIMES * request.body.len());
    let mut asked: ProduceRequest = request.decode()?;
    drop(request);
    let acks = asked.acks;
    let refusal = refuse_all(ctx, &asked);
    let transactional_id = asked.transactional_id.take().map(|id| id.0);
    let asked_ms = u64::try_from(asked.timeout_ms).unwrap_or(0);
    let timeout = Duration::from_millis(asked_ms).max(LEAST_TIMEOUT);
    let mut answers =
        Answers { version, response: ProduceResponse::default(), waiting: Vec::new() };
    let mut batches = Batches::default();
    let mut yielded = 0;
    let plan =
        Plan { catalogue: ctx.broker.storage.catalogue(), version, refusal, transactional_id };
    for topic in asked.topic_data {
        answers.topic(&topic);
        let found = plan.topic(ctx, &topic);
        for partition in topic.partition_data {
            let outcome = match &found {
                // They come again by themselves, and what was in front of them does not.
                Ok(_) if batches.decompressed > most_decompressed => {
                    Err(Refusal::Code(ErrorCode::KAFKA_STORAGE_ERROR))
                }
                Ok((topic, limits)) => {
                    let append = (partition.index, partition.records.unwrap_or_default());
                    plan.add(&mut batches, topic, limits, append)
                }
                Err(code) => Err(Refusal::Code(*code)),
            };
            if batches.decompressed - yielded > YIELD_EVERY_BYTES {
                yielded = batches.decompressed;
                tokio::task::yield_now().await;
            }
            match outcome {
                Ok(()) => answers.wait_for(partition.index),
                Err(Refusal::Batch(ProduceError::Batch(BatchError::TooLarge))) => {
                    return Err(Failure::Bomb);
                }
                Err(refusal) => answers.refuse(partition.index, &refusal),
            }
        }
    }
    let durability = if acks == -1 { Durability::Synced } else { Durability::Written };
    let appended = append(&ctx.broker, version, batches, durability, timeout).await;
    Ok(Reply::Later(Box::pin(async move { answers.body(appended, acks).await })))
}

/// What is wrong with the request as a whole, if anything is.
fn refuse_all(ctx: &Context, asked: &ProduceRequest) -> Option<ErrorCode> {
    if !(-1..=1).contains(&asked.acks) {
        return Some(ErrorCode::INVALID_REQUIRED_ACKS);
    }
    let id = asked.transactional_id.as_ref()?;
    (!ctx.may(id)).then_some(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
}

/// Hands the batches to the storage; those of a transaction once the coordinator has confirmed
/// that the transaction is open and has their partitions.
async fn append(
    broker: &Broker,
    version: i16,
    batches: Batches,
    durability: Durability,
    timeout: Duration,
) -> Option<Appends> {
    let Batches { appends, transaction, .. } = batches;
    if appends.is_empty() {
        return None;
    }
    let (done, appended) = oneshot::channel();
    let Some((of, partitions)) = transaction else {
        let send = move |all: Vec<Result<_, AppendError>>| {
            // Nobody waits for the results any more when the connection is gone.
            drop(done.send(all.into_iter().map(|one| one.map_err(error_code)).collect()));
        };
        broker.storage.append(appends, durability, timeout, Box::new(send));
        return Some(appended);
    };
    let then = move |chain: &AppendChain, verified: Vec<Result<(), ErrorCode>>| {
        let all = appends.into_iter().zip(&verified);
        let allowed: Vec<_> = all.filter(|(_, ok)| ok.is_ok()).map(|(append, _)| append).collect();
        let send = move |all: Vec<Result<_, AppendError>>| {
            let mut all = all.into_iter();
            let merge = |ok: Result<(), ErrorCode>| {
                ok.and_then(|()| {
                    all.next().unwrap_or(Err(AppendError::ShuttingDown)).map_err(error_code)
                })
            };
            drop(done.send(verified.into_iter().map(merge).collect()));
        };
        if allowed.is_empty() {
            send(Vec::new());
        } else {
            chain.append(allowed, durability, timeout, Box::new(send));
        }
    };
    // Without a coordinator the channel is dropped, which is answered as a refusal to be retried.
    let handed_on = broker.coordinator.verify_transaction(version, of, partitions, then).await;
    tracing::debug!(?handed_on, "transactional batches wait for the coordinator");
    Some(appended)
}

/// The batches of a request that are to be appended.
#[derive(Default)]
struct Batches {
    appends: Vec<Append>,
    /// The bytes that were decompressed to look at them.
    decompressed: usize,
    /// The transaction that all of them belong to, with the partition of each.
    transaction: Option<(TransactionOf, Vec<TopicPartition>)>,
}

impl Batches {
    fn push(&mut self, append: Append) {
        self.appends.push(append);
    }

    /// Adds a batch of a transaction; all batches of a request are of one producer.
    fn push_transactional(
        &mut self,
        append: Append,
        of: &TransactionOf,
        partition: TopicPartition,
    ) -> Result<(), ErrorCode> {
        let (first, partitions) = self.transaction.get_or_insert_with(|| (of.clone(), Vec::new()));
        if first != of {
            return Err(ErrorCode::INVALID_TXN_STATE);
        }
        partitions.push(partition);
        self.appends.push(append);
        Ok(())
    }
}

/// Why a partition's records are not appended.
enum Refusal {
    Code(ErrorCode),
    Batch(ProduceError),
}

/// What all partitions of a request have in common.
struct Plan {
    catalogue: Arc<Catalogue>,
    version: i16,
    refusal: Option<ErrorCode>,
    transactional_id: Option<StrBytes>,
}

impl Plan {
    fn topic(
        &self,
        ctx: &Context,
        topic: &TopicProduceData,
    ) -> Result<(Arc<Topic>, ProduceLimits), ErrorCode> {
        if let Some(code) = self.refusal {
            return Err(code);
        }
        let by_id = self.version >= TOPIC_ID_VERSION;
        let found = ctx.topic(&self.catalogue, by_id, (&topic.name, topic.topic_id))?;
        if topics::is_internal(&found.name) {
            return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
        }
        let limits = self.limits(&found);
        Ok((found, limits))
    }

    fn add(
        &self,
        batches: &mut Batches,
        topic: &Topic,
        limits: &ProduceLimits,
        (index, batch): (i32, Bytes),
    ) -> Result<(), Refusal> {
        let partition = topics::partition(topic, index).map_err(Refusal::Code)?;
        let header = batch::validate_produced(&batch, limits, &mut batches.decompressed);
        let header = header.map_err(Refusal::Batch)?.header;
        let append = Append { partition, batch };
        match (&self.transactional_id, header.is_transactional()) {
            (None, false) => {
                batches.push(append);
                Ok(())
            }
            (Some(id), true) => {
                let producer = Producer { id: header.producer_id, epoch: header.producer_epoch };
                let of = TransactionOf { transactional_id: id.to_string(), producer };
                let partition = (topic.name.clone(), PartitionIndex(index));
                batches.push_transactional(append, &of, partition).map_err(Refusal::Code)
            }
            (None, true) | (Some(_), false) => Err(Refusal::Code(ErrorCode::INVALID_TXN_STATE)),
        }
    }

    fn limits(&self, topic: &Topic) -> ProduceLimits {
        let number = |name| configs::effective_number(&self.catalogue, topic, name);
        let now = Broker::now();
        let is_append_time =
            configs::effective(&self.catalogue, topic, "message.timestamp.type") == "LogAppendTime";
        let (before, after) = if is_append_time {
            (i64::MAX, i64::MAX)
        } else {
            (number("message.timestamp.before.max.ms"), number("message.timestamp.after.max.ms"))
        };
        ProduceLimits {
            max_message_bytes: usize::try_from(number("max.message.bytes")).unwrap_or(0),
            requires_key: configs::is_compacted(&self.catalogue, topic),
            allows_zstd: self.version >= ZSTD_VERSION,
            max_timestamp: TimestampMs(now.0.saturating_add(after)),
            min_timestamp: TimestampMs(now.0.saturating_sub(before)),
            records: RecordLimits::default(),
        }
    }
}

/// The response, with places for what the storage has yet to say.
struct Answers {
    version: i16,
    response: ProduceResponse,
    /// Topic and partition, by their place in the response, of each append in its order.
    waiting: Vec<(usize, usize)>,
}

impl Answers {
    fn topic(&mut self, topic: &TopicProduceData) {
        self.response.responses.push(
            TopicProduceResponse::default()
                .with_name(topic.name.clone())
                .with_topic_id(topic.topic_id)
                .with_partition_responses(Vec::with_capacity(topic.partition_data.len())),
        );
    }

    fn partition(&mut self, answer: PartitionProduceResponse) {
        if let Some(topic) = self.response.responses.last_mut() {
            topic.partition_responses.push(answer);
        }
    }

    fn wait_for(&mut self, index: i32) {
        let topic = self.response.responses.len().saturating_sub(1);
        let partition =
            self.response.responses.last().map_or(0, |topic| topic.partition_responses.len());
        self.waiting.push((topic, partition));
        self.partition(PartitionProduceResponse::default().with_index(index));
    }

    fn refuse(&mut self, index: i32, refusal: &Refusal) {
        let answer = PartitionProduceResponse::default().with_index(index).with_base_offset(-1);
        let answer = match refusal {
            Refusal::Code(code) => answer.with_error_code(code.0),
            Refusal::Batch(error) => {
                let answer = answer.with_error_code(error.code().0);
                if self.version >= RECORD_ERRORS_VERSION {
                    answer
                        .with_error_message(Some(StrBytes::from_string(error.to_string())))
                        .with_record_errors(record_errors(error))
                } else {
                    answer
                }
            }
        };
        self.partition(answer);
    }

    /// The response once the storage has answered; none, and no fault either, for acks=0.
    async fn body(mut self, appended: Option<Appends>, acks: i16) -> Result<Option<Body>, Failure> {
        if let Some(appended) = appended {
            let outcomes = appended.await.unwrap_or_else(|_dropped| {
                vec![Err(ErrorCode::NOT_LEADER_OR_FOLLOWER); self.waiting.len()]
            });
            let version = self.version;
            for ((topic, partition), outcome) in
                std::mem::take(&mut self.waiting).into_iter().zip(outcomes)
            {
                let topic = self.response.responses.get_mut(topic);
                if let Some(answer) =
                    topic.and_then(|topic| topic.partition_responses.get_mut(partition))
                {
                    fill(answer, version, outcome);
                }
            }
        }
        if acks == 0 {
            let mut partitions =
                self.response.responses.iter().flat_map(|topic| &topic.partition_responses);
            // A client that is not told of errors learns by the connection that there was one.
            let is_well = partitions.all(|partition| partition.error_code == 0);
            return if is_well { Ok(None) } else { Err(Failure::Unanswerable) };
        }
        encode(&self.response, self.version).map(Some)
    }
}

fn fill(answer: &mut PartitionProduceResponse, version: i16, outcome: Result<Appended, ErrorCode>) {
    match outcome {
        Ok(appended) => {
            answer.base_offset = appended.base_offset.0;
            answer.log_append_time_ms = appended.log_append_time.map_or(-1, |time| time.0);
            if version >= LOG_START_VERSION {
                answer.log_start_offset = appended.log_start_offset.0;
            }
        }
        Err(code) => {
            answer.base_offset = -1;
            answer.log_append_time_ms = -1;
            answer.error_code = code_for(version, code).0;
        }
    }
}

/// Clients that know it are told that a transaction can still be aborted and tried again.
fn code_for(version: i16, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::INVALID_TXN_STATE if version >= ABORTABLE_VERSION => {
            ErrorCode::TRANSACTION_ABORTABLE
        }
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        code => code,
    }
}

/// What a producer is told of a batch that is not appended.
pub(crate) fn error_code(error: AppendError) -> ErrorCode {
    match error {
        AppendError::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        AppendError::OutOfOrderSequence => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        AppendError::InvalidProducerEpoch => ErrorCode::INVALID_PRODUCER_EPOCH,
        AppendError::InvalidTxnState => ErrorCode::INVALID_TXN_STATE,
        AppendError::InvalidBatch => ErrorCode::CORRUPT_MESSAGE,
        AppendError::TimedOut => ErrorCode::REQUEST_TIMED_OUT,
        AppendError::TooLarge => ErrorCode::MESSAGE_TOO_LARGE,
        AppendError::DiskFull => ErrorCode::KAFKA_STORAGE_ERROR,
        AppendError::ChainBroken | AppendError::ShuttingDown => ErrorCode::NOT_LEADER_OR_FOLLOWER,
    }
}

fn record_errors(error: &ProduceError) -> Vec<BatchIndexAndErrorMessage> {
    let of = |record: &batch::RecordError| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(record.batch_index)
            .with_batch_index_error_message(Some(StrBytes::from_static_str(record.message)))
    };
    error.record_errors().iter().map(of).collect()
}
