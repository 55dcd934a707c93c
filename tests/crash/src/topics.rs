//! The topics of a run, who writes to them, and how they are cleaned.

use std::path::Path;
use std::process::Command;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::history::{Acks, Cleanup, Topic};
use crate::load::{External, Producer};

pub(crate) const LEADER: usize = 0;
pub(crate) const ALL: usize = 1;
pub(crate) const IDEMPOTENT: usize = 2;
pub(crate) const TRANSACTIONAL: usize = 3;
pub(crate) const DELETED: usize = 4;
const COMPACTED: usize = 5;
const JAVA_IDEMPOTENT: usize = 6;
const JAVA_TRANSACTIONAL: usize = 7;
const GO: usize = 8;
const JAVA_LEADER: usize = 9;
const GO_LEADER: usize = 10;

/// A topic and the settings that bring its cleanup about.
pub(crate) struct Wanted {
    pub(crate) name: &'static str,
    /// What the tally calls its records.
    pub(crate) acknowledged: &'static str,
    pub(crate) transactional: bool,
    partitions: i32,
    cleanup: Cleanup,
    settings: &'static [(&'static str, &'static str)],
}

const fn kept(name: &'static str, acknowledged: &'static str, partitions: i32) -> Wanted {
    let (transactional, cleanup) = (false, Cleanup::Never);
    Wanted { name, acknowledged, transactional, partitions, cleanup, settings: &[] }
}

const fn transactional(name: &'static str, acknowledged: &'static str) -> Wanted {
    Wanted { transactional: true, ..kept(name, acknowledged, 2) }
}

/// In the order of the constants above. Different counts of partitions, so that not all logs go on in a new file at once.
pub(crate) const TOPICS: [Wanted; 11] = [
    kept("crash-leader", "records acknowledged: acks=1", 2),
    kept("crash-all", "records acknowledged: acks=all", 3),
    kept("crash-idempotent", "records acknowledged: idempotent", 1),
    transactional("crash-transactional", "records acknowledged: transactional"),
    Wanted {
        name: "crash-deleted",
        acknowledged: "records acknowledged: on a log that is deleted from",
        transactional: false,
        partitions: 1,
        cleanup: Cleanup::Delete,
        // Nothing goes but what was asked for.
        settings: &[("retention.bytes", "-1"), ("retention.ms", "-1")],
    },
    Wanted {
        name: "crash-compacted",
        acknowledged: "records acknowledged: on a compacted log",
        transactional: false,
        partitions: 1,
        cleanup: Cleanup::Compact,
        settings: &[("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.1")],
    },
    kept("crash-java-idempotent", "records acknowledged: Java, idempotent", 2),
    transactional("crash-java-transactional", "records acknowledged: Java, transactional"),
    kept("crash-go", "records acknowledged: kafka-go, acks=all", 2),
    kept("crash-java-leader", "records acknowledged: Java, acks=1", 2),
    kept("crash-go-leader", "records acknowledged: kafka-go, acks=1", 2),
];

pub(crate) const PRODUCERS: &[Producer] = &[
    Producer { number: 1, topic: LEADER, acks: Acks::Leader, idempotent: false },
    Producer { number: 2, topic: ALL, acks: Acks::All, idempotent: false },
    Producer { number: 3, topic: IDEMPOTENT, acks: Acks::All, idempotent: true },
    Producer { number: 4, topic: TRANSACTIONAL, acks: Acks::All, idempotent: true },
    Producer { number: 10, topic: TRANSACTIONAL, acks: Acks::All, idempotent: true },
    Producer { number: 11, topic: TRANSACTIONAL, acks: Acks::All, idempotent: true },
    Producer { number: 5, topic: DELETED, acks: Acks::All, idempotent: true },
    Producer { number: 12, topic: DELETED, acks: Acks::All, idempotent: true },
    Producer { number: 13, topic: DELETED, acks: Acks::All, idempotent: true },
    Producer { number: 6, topic: COMPACTED, acks: Acks::All, idempotent: true },
    Producer { number: 14, topic: COMPACTED, acks: Acks::All, idempotent: true },
    Producer { number: 15, topic: COMPACTED, acks: Acks::All, idempotent: true },
];

/// Producers of Apache Kafka's Java client, from the jars at `libs`.
pub(crate) fn java(repository: &Path, libs: &Path, directory: &Path) -> External {
    let class_path = format!("{}/*", libs.display());
    let words = ["java", "-Xmx256m", "-cp", &class_path, "tests/crash/clients/CrashProducers.java"];
    External {
        command: words.map(str::to_owned).to_vec(),
        directory: repository.to_owned(),
        log: directory.join("log-java"),
        producers: vec![
            Producer { number: 7, topic: JAVA_IDEMPOTENT, acks: Acks::All, idempotent: true },
            Producer { number: 8, topic: JAVA_TRANSACTIONAL, acks: Acks::All, idempotent: true },
            Producer { number: 16, topic: JAVA_LEADER, acks: Acks::Leader, idempotent: false },
        ],
    }
}

/// Producers of kafka-go, compiled into `directory` first.
pub(crate) fn go(repository: &Path, directory: &Path) -> External {
    let module = repository.join("tests/interop/kafka-go");
    let program = directory.join("crash-go");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg("./crash").current_dir(&module);
    assert!(build.status().unwrap().success(), "go build");
    External {
        command: vec![program.display().to_string()],
        directory: module,
        log: directory.join("log-go"),
        producers: vec![
            Producer { number: 9, topic: GO, acks: Acks::All, idempotent: false },
            Producer { number: 17, topic: GO_LEADER, acks: Acks::Leader, idempotent: false },
        ],
    }
}

pub(crate) fn topics() -> Vec<Topic> {
    let topic = |wanted: &Wanted| Topic {
        name: wanted.name.to_owned(),
        partitions: wanted.partitions,
        cleanup: wanted.cleanup,
    };
    TOPICS.iter().map(topic).collect()
}

/// A topic that is no part of the history.
pub(crate) const PROBED: &str = "crash-probed";

pub(crate) fn create_topics(brokers: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let probed = NewTopic::new(PROBED, 1, TopicReplication::Fixed(1));
    let created = runtime.block_on(admin.create_topics([&probed], &AdminOptions::new())).unwrap();
    assert_eq!(created, [Ok(PROBED.to_owned())]);
    for wanted in TOPICS {
        let one = TopicReplication::Fixed(1);
        let mut new =
            NewTopic::new(wanted.name, wanted.partitions, one).set("segment.bytes", "1048576");
        for (key, value) in wanted.settings {
            new = new.set(key, value);
        }
        let created = runtime.block_on(admin.create_topics([&new], &AdminOptions::new())).unwrap();
        assert_eq!(created, [Ok(wanted.name.to_owned())]);
    }
}
