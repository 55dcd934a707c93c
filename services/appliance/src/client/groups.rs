use std::collections::BTreeMap;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::groups::GroupInfo;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::{ANSWER, POLL, client_config, print, unreachable};
use crate::Failure;
use crate::cli;
use crate::host::now;
use crate::table::{row, table};

/// Prints all groups, or one of them with its members and its lag.
pub(crate) fn groups(command: &cli::Groups) -> Result<(), Failure> {
    let brokers = &command.cluster.brokers;
    let consumer = client(brokers, command.group.as_deref().unwrap_or("ottla-groups"))?;
    let list = consumer
        .fetch_group_list(command.group.as_deref(), ANSWER)
        .map_err(|error| unreachable(brokers, &error))?;
    let text = match &command.group {
        None => {
            let mut rows = vec![row(["GROUP", "STATE", "MEMBERS", "LAG"])];
            for group in list.groups() {
                rows.push(summary(brokers, group)?);
            }
            table(&rows)
        }
        Some(name) => {
            let found = list.groups().iter().find(|group| group.name() == name);
            let lags = lags(&consumer, brokers)?;
            if lags.is_empty() && found.is_none_or(|group| group.members().is_empty()) {
                return Err(Failure::Failed(format!(
                    "there is no consumer group {name} at {brokers}"
                )));
            }
            describe(name, found, &lags)
        }
    };
    print(&text).map(drop)
}

fn client(brokers: &str, group: &str) -> Result<BaseConsumer, Failure> {
    client_config(brokers)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create()
        .map_err(|error| unreachable(brokers, &error))
}

fn summary(brokers: &str, group: &GroupInfo) -> Result<Vec<String>, Failure> {
    let lags = lags(&client(brokers, group.name())?, brokers)?;
    let lag: i64 = lags.iter().map(Lag::lag).sum();
    let lag = if lags.is_empty() { "-".to_owned() } else { lag.to_string() };
    let members = group.members().len().to_string();
    Ok(vec![group.name().to_owned(), group.state().to_owned(), members, lag])
}

fn describe(name: &str, group: Option<&GroupInfo>, lags: &[Lag]) -> String {
    let members = group.map(GroupInfo::members).unwrap_or_default();
    let state = group.map_or("", GroupInfo::state);
    let mut text = format!("group {name}: {}, {} members\n\n", state, members.len());
    let mut rows = vec![row(["TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG"])];
    rows.extend(lags.iter().map(|lag| {
        vec![
            lag.topic.clone(),
            lag.partition.to_string(),
            lag.committed.to_string(),
            lag.end.to_string(),
            lag.lag().to_string(),
        ]
    }));
    text.push_str(&table(&rows));
    if !members.is_empty() {
        text.push('\n');
        let mut rows = vec![row(["MEMBER", "CLIENT", "HOST"])];
        rows.extend(
            members
                .iter()
                .map(|member| row([member.id(), member.client_id(), member.client_host()])),
        );
        text.push_str(&table(&rows));
    }
    text
}

/// Differences up to this are looked into: what is left may be nothing but the markers of transactions.
const LOOKED_INTO: i64 = 100;

/// How far a group is behind in one partition.
struct Lag {
    topic: String,
    partition: i32,
    committed: i64,
    end: i64,
    /// How many records are left to read, if that was looked into.
    left: Option<i64>,
}

impl Lag {
    fn difference(&self) -> i64 {
        (self.end - self.committed).max(0)
    }

    fn lag(&self) -> i64 {
        self.left.unwrap_or_else(|| self.difference())
    }
}

/// Every partition in which the client's group has committed something.
fn lags(consumer: &BaseConsumer, brokers: &str) -> Result<Vec<Lag>, Failure> {
    let failed = |error: KafkaError| unreachable(brokers, &error);
    let metadata = consumer.fetch_metadata(None, ANSWER).map_err(failed)?;
    let mut all = TopicPartitionList::new();
    for topic in metadata.topics().iter().filter(|topic| !topic.name().starts_with("__")) {
        for partition in topic.partitions() {
            all.add_partition(topic.name(), partition.id());
        }
    }
    if all.count() == 0 {
        return Ok(Vec::new());
    }
    let committed = consumer.committed_offsets(all, ANSWER).map_err(failed)?;
    let mut lags = Vec::new();
    for element in committed.elements() {
        if let Offset::Offset(offset) = element.offset() {
            let (_, end) = consumer
                .fetch_watermarks(element.topic(), element.partition(), ANSWER)
                .map_err(failed)?;
            lags.push(Lag {
                topic: element.topic().to_owned(),
                partition: element.partition(),
                committed: offset,
                end,
                left: None,
            });
        }
    }
    look_into(&mut lags, brokers)?;
    Ok(lags)
}

/// Counts what is left in the partitions with a small difference; one that does not end in time stays as it is.
fn look_into(lags: &mut [Lag], brokers: &str) -> Result<(), Failure> {
    let failed = |error: KafkaError| unreachable(brokers, &error);
    let mut list = TopicPartitionList::new();
    for lag in lags.iter().filter(|lag| (1..=LOOKED_INTO).contains(&lag.difference())) {
        list.add_partition_offset(&lag.topic, lag.partition, Offset::Offset(lag.committed))
            .map_err(failed)?;
    }
    let reader: BaseConsumer = client_config(brokers)
        .set("group.id", "ottla-groups")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .map_err(failed)?;
    reader.assign(&list).map_err(failed)?;
    let mut left: BTreeMap<(String, i32), i64> = BTreeMap::new();
    let deadline = now() + ANSWER;
    let mut open = list.count();
    while open > 0 && now() < deadline {
        match reader.poll(POLL) {
            Some(Ok(message)) => {
                *left.entry((message.topic().to_owned(), message.partition())).or_default() += 1;
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(failed(error)),
            None => {}
        }
    }
    for lag in lags.iter_mut().filter(|lag| open == 0 && lag.difference() <= LOOKED_INTO) {
        let found = left.get(&(lag.topic.clone(), lag.partition));
        lag.left = Some(found.copied().unwrap_or(0).min(lag.difference()));
    }
    Ok(())
}
