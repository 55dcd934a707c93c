use std::collections::BTreeSet;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};

use super::{ANSWER, POLL, client_config, print, unreachable};
use crate::Failure;
use crate::cli;

/// Prints records until the end that was asked for: of the topic, of the count, or of the program.
pub(crate) fn consume(command: &cli::Consume) -> Result<(), Failure> {
    let brokers = &command.cluster.brokers;
    let consumer: BaseConsumer = client_config(brokers)
        .set("group.id", command.group.as_deref().unwrap_or("ottla-consume"))
        .set("enable.auto.commit", if command.group.is_some() { "true" } else { "false" })
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", if command.from_beginning { "earliest" } else { "latest" })
        .set("isolation.level", "read_committed")
        .create()
        .map_err(|error| unreachable(brokers, &error))?;
    let partitions = partitions(&consumer, command)?;
    let failed =
        |error: KafkaError| Failure::Failed(format!("cannot read {}: {error}", command.topic));
    if command.group.is_some() {
        consumer.subscribe(&[&command.topic]).map_err(failed)?;
    } else {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            let from = if command.from_beginning { Offset::Beginning } else { Offset::End };
            list.add_partition_offset(&command.topic, partition, from).map_err(failed)?;
        }
        consumer.assign(&list).map_err(failed)?;
    }
    read(&consumer, command)
}

fn partitions(consumer: &BaseConsumer, command: &cli::Consume) -> Result<Vec<i32>, Failure> {
    let metadata = consumer
        .fetch_metadata(Some(&command.topic), ANSWER)
        .map_err(|error| unreachable(&command.cluster.brokers, &error))?;
    let topic = metadata.topics().iter().find(|topic| topic.name() == command.topic);
    let partitions: Vec<i32> =
        topic.iter().flat_map(|topic| topic.partitions()).map(MetadataPartition::id).collect();
    if partitions.is_empty() {
        return Err(Failure::Failed(format!(
            "there is no topic {} at {}",
            command.topic, command.cluster.brokers
        )));
    }
    Ok(partitions)
}

fn read(consumer: &BaseConsumer, command: &cli::Consume) -> Result<(), Failure> {
    let follow = command.follow || !command.from_beginning;
    let mut left = command.max_messages.unwrap_or(u64::MAX);
    let mut ended = BTreeSet::new();
    while left > 0 {
        match consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => {
                ended.remove(&message.partition());
                if !print(&line(&message))? {
                    return Ok(());
                }
                if command.group.is_some() {
                    consumer
                        .store_offset_from_message(&message)
                        .map_err(|error| Failure::Failed(format!("cannot commit: {error}")))?;
                }
                left -= 1;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure,
            ))) if follow => {}
            Some(Err(error)) => {
                return Err(Failure::Failed(format!("cannot read {}: {error}", command.topic)));
            }
        }
        let assigned = consumer.assignment().map_or(0, |list| list.count());
        if !follow && assigned > 0 && ended.len() >= assigned {
            break;
        }
    }
    if command.group.is_some() {
        match consumer.commit_consumer_state(CommitMode::Sync) {
            Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => return Err(Failure::Failed(format!("cannot commit: {error}"))),
        }
    }
    Ok(())
}

/// Key and value as text; what is not UTF-8 is replaced, an absent key or value is `null` as in Kafka's own tool.
fn line(message: &BorrowedMessage<'_>) -> String {
    let text = |bytes: Option<&[u8]>| {
        bytes.map_or_else(|| "null".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    format!("{}\t{}\n", text(message.key()), text(message.payload()))
}
