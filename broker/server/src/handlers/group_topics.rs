//! What the APIs of offsets have in common: partitions by topic, each with its error.

use coordinator::record::TopicPartition;
use kafka_protocol::protocol::StrBytes;
use wire::{ErrorCode, PartitionIndex};

use crate::context::Context;

/// How many partitions the topic has, for whoever may know.
pub(crate) fn access(ctx: &Context, topic: &str) -> Result<i32, ErrorCode> {
    if !ctx.broker.authorizer.allows(ctx.principal, topic) {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    let catalogue = ctx.broker.storage.catalogue();
    let topic = catalogue.by_name.get(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    Ok(topic.partitions)
}

/// The error of every partition of a request, in the request's order.
#[derive(Debug, Default)]
pub(crate) struct TopicErrors(Vec<(StrBytes, Vec<(PartitionIndex, ErrorCode)>)>);

impl TopicErrors {
    /// Notes a partition, with an error if it is not one of the topic's.
    pub(crate) fn check(
        &mut self,
        topic: &StrBytes,
        partition: PartitionIndex,
        partition_count: Result<i32, ErrorCode>,
    ) -> ErrorCode {
        let error = match partition_count {
            Ok(count) if (0..count).contains(&partition.0) => ErrorCode::NONE,
            Ok(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Err(error) => error,
        };
        self.note(topic, partition, error);
        error
    }

    pub(crate) fn note(&mut self, topic: &StrBytes, partition: PartitionIndex, error: ErrorCode) {
        match self.0.last_mut() {
            Some((name, partitions)) if name == topic => partitions.push((partition, error)),
            Some(_) | None => self.0.push((topic.clone(), vec![(partition, error)])),
        }
    }

    /// Whether every partition so far is without error.
    pub(crate) fn is_clean(&self) -> bool {
        self.0.iter().flat_map(|(_, partitions)| partitions).all(|(_, error)| error.is_none())
    }

    /// Gives partitions that had no error so far what the coordinator says of them.
    pub(crate) fn fill(
        &mut self,
        partitions: Vec<TopicPartition>,
        outcome: Result<Vec<ErrorCode>, ErrorCode>,
    ) {
        let all = outcome.as_ref().err().copied().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR);
        let mut each = outcome.unwrap_or_default().into_iter();
        let mut known = partitions.into_iter().peekable();
        for (name, noted) in &mut self.0 {
            for (index, error) in noted {
                if error.is_none()
                    && known.next_if(|(topic, p)| **topic == **name && p == index).is_some()
                {
                    *error = each.next().unwrap_or(all);
                }
            }
        }
    }

    /// Gives all partitions one error.
    pub(crate) fn replace_all(&mut self, error: impl Fn(ErrorCode) -> ErrorCode) {
        for (_, partitions) in &mut self.0 {
            for (_, noted) in partitions {
                *noted = error(*noted);
            }
        }
    }

    pub(crate) fn into_topics(self) -> Vec<(StrBytes, Vec<(PartitionIndex, ErrorCode)>)> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_coordinator_go_to_the_partitions_it_was_asked_about() {
        let mut errors = TopicErrors::default();
        let topic = StrBytes::from_static_str("t");
        for index in 0..3 {
            errors.check(&topic, PartitionIndex(index), Ok(if index == 1 { 0 } else { 3 }));
        }
        let asked = vec![("t".to_owned(), PartitionIndex(0)), ("t".to_owned(), PartitionIndex(2))];
        errors.fill(asked, Ok(vec![ErrorCode::NONE, ErrorCode::OFFSET_METADATA_TOO_LARGE]));
        let found: Vec<ErrorCode> =
            errors.into_topics().remove(0).1.into_iter().map(|(_, error)| error).collect();
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        assert_eq!(found, [ErrorCode::NONE, unknown, ErrorCode::OFFSET_METADATA_TOO_LARGE]);
    }
}
