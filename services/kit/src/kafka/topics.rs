//! Topics are made before they are used: the cluster may not create any by itself.

use std::time::Duration;

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    error::{KafkaError, RDKafkaErrorCode},
    metadata::MetadataTopic,
};

use super::{Cluster, Quiet};
use crate::Tables;

const TIMEOUT: Duration = Duration::from_secs(5);
/// The cluster's default.
const REPLICATION: TopicReplication<'static> = TopicReplication::Fixed(-1);
/// Dead letters are kept for a person to look at.
const DEAD_LETTERS_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// A topic to be made unless it is there.
struct Wanted {
    name: String,
    partitions: i32,
    config: [(&'static str, String); 1],
}

impl Cluster {
    /// The tables of this service, and every topic that events travel on.
    pub(crate) async fn create_tables(&self, tables: &Tables) -> Result<(), KafkaError> {
        let tables = tables.iter().map(|table| Wanted {
            name: self.table_topic(table.name),
            partitions: 1,
            config: [("cleanup.policy", "compact".to_owned())],
        });
        let events = events::topics::TOPICS.iter().map(|topic| Wanted {
            name: topic.name.to_owned(),
            partitions: topic.partitions,
            config: [("retention.ms", topic.retention_ms.to_string())],
        });
        self.create(tables.chain(events).collect()).await
    }

    /// Where records of these topics go that cannot be processed.
    pub(crate) async fn create_dead_letters(&self, topics: &[&str]) -> Result<(), KafkaError> {
        let wanted = topics.iter().map(|topic| Wanted {
            name: format!("{topic}.dlq"),
            partitions: 1,
            config: [("retention.ms", DEAD_LETTERS_MS.to_string())],
        });
        self.create(wanted.collect()).await
    }

    async fn create(&self, mut wanted: Vec<Wanted>) -> Result<(), KafkaError> {
        let admin: AdminClient<Quiet> = self.client("topics").create_with_context(Quiet)?;
        let asking = tokio::task::spawn_blocking(move || {
            let metadata = admin.inner().fetch_metadata(None, TIMEOUT);
            (admin, metadata)
        });
        let Ok((admin, metadata)) = asking.await else { return Err(KafkaError::Canceled) };
        let created = match metadata {
            Ok(metadata) => {
                let there: Vec<&str> = metadata.topics().iter().map(MetadataTopic::name).collect();
                wanted.retain(|topic| !there.contains(&topic.name.as_str()));
                if wanted.is_empty() { Ok(()) } else { create(&admin, &wanted).await }
            }
            Err(error) => Err(error),
        };
        // Its drop joins a thread that looks up every hundred milliseconds; nobody has to wait for that.
        drop(tokio::task::spawn_blocking(move || drop(admin)));
        created
    }
}

async fn create(admin: &AdminClient<Quiet>, wanted: &[Wanted]) -> Result<(), KafkaError> {
    let topics: Vec<NewTopic<'_>> = wanted
        .iter()
        .map(|topic| {
            let new = NewTopic::new(&topic.name, topic.partitions, REPLICATION);
            topic.config.iter().fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    for outcome in admin.create_topics(&topics, &options).await? {
        match outcome {
            // Another service may have been faster.
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                tracing::debug!(topic, %code, "topic not created");
                return Err(KafkaError::AdminOp(code));
            }
        }
    }
    Ok(())
}
