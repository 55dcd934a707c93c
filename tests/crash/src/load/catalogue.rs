//! Creates and deletes topics that nobody writes to.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::{Recorder, client, name_of};
use crate::history::Made;
use crate::time::{DEADLINE, pause};

const PREFIX: &str = "crash-made-";
/// In the place of a producer's number.
const NOBODY: u64 = 0;
/// So many topics are left.
const KEPT: usize = 20;
const PATIENCE: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_millis(50);

/// Creates and deletes until told to stop.
pub(crate) fn change_topics(brokers: &str, recorder: &Recorder) {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = AdminOptions::new().request_timeout(Some(PATIENCE));
    let mut there: VecDeque<String> = VecDeque::new();
    for number in 0.. {
        pause(BETWEEN);
        if recorder.producers_stop() {
            return;
        }
        let name = format!("{PREFIX}{number}");
        recorder.made(&name, Made::Creating);
        let new = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
        let created = runtime.block_on(admin.create_topics([&new], &options));
        if is_done(&created, recorder) {
            recorder.made(&name, Made::Created);
            there.push_back(name);
        }
        if there.len() > KEPT
            && let Some(name) = there.pop_front()
        {
            recorder.made(&name, Made::Deleting);
            let deleted = runtime.block_on(admin.delete_topics(&[&name], &options));
            if is_done(&deleted, recorder) {
                recorder.made(&name, Made::Deleted);
            }
        }
    }
}

/// Whether the broker answered with success.
fn is_done(answer: &Result<Vec<TopicResult>, KafkaError>, recorder: &Recorder) -> bool {
    let error = match answer.as_ref().map(Vec::as_slice) {
        Ok([Ok(_)]) => return true,
        Ok([Err((_, code))]) => format!("{code:?}"),
        Ok(_) => "no answer for the topic".to_owned(),
        Err(error) => name_of(error),
    };
    recorder.refused(NOBODY, &error, false);
    false
}

/// Those that are there.
pub(crate) fn made_topics(brokers: &str) -> BTreeSet<String> {
    let consumer: BaseConsumer = client(brokers).create().unwrap();
    let all = consumer.fetch_metadata(None, DEADLINE).unwrap();
    let names = all.topics().iter().map(|topic| topic.name().to_owned());
    names.filter(|name| name.starts_with(PREFIX)).collect()
}
