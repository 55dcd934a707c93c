//! `GET /metrics`: what the broker knows about itself, in the text format that Prometheus reads. No
//! name of a topic, group or client is in it.

mod process;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use server::{Traffic, TrafficStats};
use storage::{CleanerStatus, Storage, StorageStats};

use process::Process;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where the figures come from once the broker of this process has started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(Arc<OnceLock<(Storage, Arc<Traffic>)>>);

impl Metrics {
    pub(crate) fn set(&self, storage: Storage, traffic: Arc<Traffic>) {
        // A broker starts once.
        self.0.get_or_init(|| (storage, traffic));
    }

    pub(crate) fn answer(&self) -> Response {
        let broker = self.0.get().map(|(storage, traffic)| BrokerFigures {
            storage: storage.stats(),
            cleaner: storage.cleaner_status(),
            traffic: traffic.stats(),
        });
        match render(Figures { process: Process::look(), broker }) {
            Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// All figures at one moment.
#[derive(Clone, Copy, Debug)]
struct Figures {
    process: Option<Process>,
    /// None without a broker in this process, or before it has started.
    broker: Option<BrokerFigures>,
}

#[derive(Clone, Copy, Debug, Default)]
struct BrokerFigures {
    storage: StorageStats,
    cleaner: CleanerStatus,
    traffic: TrafficStats,
}

enum Value {
    Process(fn(&Process) -> f64),
    Broker(fn(&BrokerFigures) -> f64),
}

struct Row {
    name: &'static str,
    help: &'static str,
    value: Value,
}

const fn process(name: &'static str, help: &'static str, value: fn(&Process) -> f64) -> Row {
    Row { name, help, value: Value::Process(value) }
}

const fn broker(name: &'static str, help: &'static str, value: fn(&BrokerFigures) -> f64) -> Row {
    Row { name, help, value: Value::Broker(value) }
}

/// Every metric; those that end with `_total` are counters from the start of the process on.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    broker("ottla_checkpoint_last_seconds", "How long the newest checkpoint took", |it| seconds(it.storage.last_checkpoint)),
    broker("ottla_checkpoint_seconds_total", "How long all checkpoints took", |it| seconds(it.storage.checkpoint_time)),
    broker("ottla_checkpoints_total", "Checkpoints taken", |it| number(it.storage.checkpoints)),
    broker("ottla_cleaner_behind", "1 while a log has been due for compaction for more than ten minutes", |it| flag(it.cleaner.behind)),
    broker("ottla_cleaner_deleted_segments_total", "Files of logs deleted by age, size or DeleteRecords", |it| number(it.storage.deleted_segments)),
    broker("ottla_cleaner_due_bytes", "Bytes not yet compacted of the logs that are due for compaction", |it| number(it.cleaner.due_bytes)),
    broker("ottla_cleaner_due_logs", "Logs that are due for compaction", |it| count(it.cleaner.due)),
    broker("ottla_cleaner_oldest_due_seconds", "How long the log has been due for compaction that waits longest", |it| seconds(it.cleaner.longest_due)),
    broker("ottla_cleaner_passes_total", "Logs compacted", |it| number(it.cleaner.passes)),
    broker("ottla_cleaner_reclaimed_bytes_total", "Bytes by which compaction and deletion made the logs shorter", |it| number(it.storage.reclaimed_bytes)),
    broker("ottla_cleaner_uncleanable_logs", "Logs that are not compacted any more because a batch in them is damaged", |it| count(it.cleaner.uncleanable)),
    broker("ottla_connections_accepted_total", "Connections of Kafka clients accepted", |it| number(it.traffic.accepted)),
    broker("ottla_connections_open", "Connections of Kafka clients that are open", |it| number(it.traffic.open)),
    broker("ottla_journal_bytes_total", "Bytes written to the journal", |it| number(it.storage.journal_bytes)),
    broker("ottla_journal_cycles_total", "Commit cycles written to the journal and synced", |it| number(it.storage.cycles)),
    broker("ottla_journal_segments", "Segments of the journal", |it| number(it.storage.journal_segments)),
    broker("ottla_journal_sync_seconds_total", "How long all syncs of the journal took", |it| seconds(it.storage.journal_sync_time)),
    process("ottla_process_cpu_seconds_total", "Processor time of the whole process", |it| number(it.cpu_ms) / 1000.0),
    process("ottla_process_open_files", "Open files and sockets of the whole process", |it| number(it.open_files)),
    process("ottla_process_resident_bytes", "Memory of the whole process, page cache not counted", |it| number(it.resident_bytes)),
    broker("ottla_produce_refused", "1 while produce is refused for want of disk space", |it| flag(it.storage.produce_refused)),
    broker("ottla_received_bytes_total", "Bytes of requests of Kafka clients", |it| number(it.traffic.received_bytes)),
    broker("ottla_sent_bytes_total", "Bytes of answers to Kafka clients", |it| number(it.traffic.sent_bytes)),
];

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "the format has floating-point numbers only, exact up to 2^53"
)]
fn number(value: u64) -> f64 {
    value as f64
}

fn count(value: usize) -> f64 {
    number(u64::try_from(value).unwrap_or(u64::MAX))
}

fn seconds(value: Duration) -> f64 {
    value.as_secs_f64()
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for row in ROWS {
            let value = match row.value {
                Value::Process(value) => self.process.as_ref().map(value),
                Value::Broker(value) => self.broker.as_ref().map(value),
            };
            let Some(value) = value else { continue };
            // The encoder adds the ending of a counter.
            if let Some(name) = row.name.strip_suffix("_total") {
                let counter =
                    encoder.encode_descriptor(name, row.help, None, MetricType::Counter)?;
                ConstCounter::new(value).encode(counter)?;
            } else {
                let gauge =
                    encoder.encode_descriptor(row.name, row.help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(gauge)?;
            }
        }
        Ok(())
    }
}

fn render(figures: Figures) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(figures));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATIONS: &str = include_str!("../../../docs/operations.md");

    fn lines(figures: Figures) -> Vec<String> {
        let text = render(figures).unwrap();
        assert!(text.ends_with("# EOF\n"), "{text}");
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn the_documented_metrics_are_those_that_there_are() {
        let documented: Vec<(&str, &str)> = OPERATIONS
            .lines()
            .filter_map(|line| line.strip_prefix("| `ottla_")?.strip_suffix(" |"))
            .filter_map(|line| line.split_once("` | "))
            .collect();
        let rows: Vec<(&str, &str)> =
            ROWS.iter().map(|row| (row.name.trim_start_matches("ottla_"), row.help)).collect();
        assert_eq!(documented, rows);
        assert!(ROWS.is_sorted_by(|one, other| one.name < other.name));
    }

    #[test]
    fn a_cleaner_that_falls_behind_is_visible() {
        let mut broker = BrokerFigures::default();
        let process = Some(Process::default());
        let shown = lines(Figures { process, broker: Some(broker) });
        assert_eq!(shown.len(), ROWS.len());
        assert!(shown.contains(&"ottla_cleaner_behind 0.0".to_owned()), "{shown:?}");
        broker.cleaner.behind = true;
        broker.cleaner.longest_due = Duration::from_mins(11);
        broker.cleaner.due_bytes = 3 << 30;
        broker.storage.reclaimed_bytes = 17;
        let shown = lines(Figures { process, broker: Some(broker) });
        for line in [
            "ottla_cleaner_behind 1.0",
            "ottla_cleaner_oldest_due_seconds 660.0",
            "ottla_cleaner_due_bytes 3221225472.0",
            "ottla_cleaner_reclaimed_bytes_total 17.0",
        ] {
            assert!(shown.contains(&line.to_owned()), "{line} in {shown:?}");
        }
    }

    #[test]
    fn a_process_without_a_broker_says_what_it_takes_itself() {
        let shown = lines(Figures { process: Process::look(), broker: None });
        assert_eq!(shown.len(), 3, "{shown:?}");
        assert!(shown.iter().all(|line| line.starts_with("ottla_process_")));
    }
}
