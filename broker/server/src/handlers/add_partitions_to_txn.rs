//! `AddPartitionsToTxn` v0-5. v2: `PRODUCER_FENCED`; v3: flexible; v4: many transactions, for
//! brokers that add or verify on behalf of their clients; v5: KIP-890.

use coordinator::record::TopicPartition;
use coordinator::transactions::TransactionOf;
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiKey, TopicName,
};
use wire::{ErrorCode, PartitionIndex};

use crate::context::Context;
use crate::coordinator_task::{Held, Plan};
use crate::dispatch::{Api, Failure, Reply, Request, encode};
use crate::handlers::group_topics::{TopicErrors, access};
use crate::handlers::transactional::{fenced_before, of, producer};
use crate::topics;

pub(crate) const API: Api = Api {
    key: ApiKey::AddPartitionsToTxn,
    accepted: (0, 5),
    advertised: (0, 5),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const FIRST_WITH_PRODUCER_FENCED: i16 = 2;
const FIRST_WITH_MANY_TRANSACTIONS: i16 = 4;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: AddPartitionsToTxnRequest = request.decode()?;
    let version = request.version;
    if version >= FIRST_WITH_MANY_TRANSACTIONS {
        return many(ctx, asked.transactions, version).await;
    }
    let transaction = AddPartitionsToTxnTransaction::default()
        .with_transactional_id(asked.v3_and_below_transactional_id)
        .with_producer_id(asked.v3_and_below_producer_id)
        .with_producer_epoch(asked.v3_and_below_producer_epoch)
        .with_topics(asked.v3_and_below_topics);
    let adding = begin(ctx, transaction).await;
    Ok(Reply::Later(Box::pin(async move {
        let (_, topics) = adding.finish(version).await;
        let response =
            AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(topics);
        encode(&response, version).map(Some)
    })))
}

async fn many(
    ctx: &Context,
    transactions: Vec<AddPartitionsToTxnTransaction>,
    version: i16,
) -> Result<Reply, Failure> {
    let mut all = Vec::new();
    for transaction in transactions {
        all.push(begin(ctx, transaction).await);
    }
    Ok(Reply::Later(Box::pin(async move {
        let mut results = Vec::new();
        for adding in all {
            let (of, topics) = adding.finish(version).await;
            let id = kafka_protocol::protocol::StrBytes::from_string(of.transactional_id);
            results.push(
                AddPartitionsToTxnResult::default()
                    .with_transactional_id(id.into())
                    .with_topic_results(topics),
            );
        }
        let response = AddPartitionsToTxnResponse::default().with_results_by_transaction(results);
        encode(&response, version).map(Some)
    })))
}

/// Partitions on their way into a transaction.
struct Adding {
    of: TransactionOf,
    errors: TopicErrors,
    held: Option<Held<Result<(), ErrorCode>>>,
}

async fn begin(ctx: &Context, transaction: AddPartitionsToTxnTransaction) -> Adding {
    let of = of(
        &transaction.transactional_id,
        producer(transaction.producer_id, transaction.producer_epoch),
    );
    let mut errors = TopicErrors::default();
    let allowed = ctx.broker.authorizer.allows(ctx.principal, &of.transactional_id);
    let partitions = check(ctx, &transaction.topics, allowed, &mut errors);
    if !errors.is_clean() {
        // One bad partition keeps the others out: the client begins again without it.
        errors.replace_all(|error| {
            if error.is_none() { ErrorCode::OPERATION_NOT_ATTEMPTED } else { error }
        });
        return Adding { of, errors, held: None };
    }
    let (verify_only, whose) = (transaction.verify_only, of.clone());
    let held = ctx
        .broker
        .coordinator
        .call(move |_, transactions, now| -> Plan<Result<(), ErrorCode>> {
            if verify_only {
                let verify = |partition| transactions.verify(&whose, partition);
                Plan::only(partitions.iter().try_for_each(verify))
            } else {
                transactions.add_partitions(now, &whose, &partitions).into()
            }
        })
        .await;
    Adding { of, errors, held: Some(held) }
}

fn check(
    ctx: &Context,
    topics: &[AddPartitionsToTxnTopic],
    allowed: bool,
    errors: &mut TopicErrors,
) -> Vec<TopicPartition> {
    let mut partitions = Vec::new();
    for topic in topics {
        let partition_count = if !allowed {
            Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        } else if topics::is_internal(&topic.name) {
            // Offsets join a transaction by AddOffsetsToTxn.
            Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED)
        } else {
            access(ctx, &topic.name)
        };
        for index in topic.partitions.iter().copied().map(PartitionIndex) {
            if errors.check(&topic.name, index, partition_count).is_none() {
                partitions.push((topic.name.to_string(), index));
            }
        }
    }
    partitions
}

impl Adding {
    async fn finish(mut self, version: i16) -> (TransactionOf, Vec<AddPartitionsToTxnTopicResult>) {
        if let Some(held) = self.held {
            let outcome = held.wait().await.and_then(|outcome| outcome);
            let error = outcome.err().unwrap_or(ErrorCode::NONE);
            let error = fenced_before(FIRST_WITH_PRODUCER_FENCED, version, error);
            self.errors.replace_all(|_| error);
        }
        let topics = self.errors.into_topics().into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|(index, error)| {
                AddPartitionsToTxnPartitionResult::default()
                    .with_partition_index(index.0)
                    .with_partition_error_code(error.0)
            });
            AddPartitionsToTxnTopicResult::default()
                .with_name(TopicName(name))
                .with_results_by_partition(partitions.collect())
        });
        (self.of, topics.collect())
    }
}
