//! The settings of a topic that the engine itself follows.

use std::{str::FromStr, sync::Arc};

use crate::api::{Catalogue, Topic};

/// What holds for a topic: its own settings, else the broker's, else Kafka's defaults.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopicSettings {
    pub(crate) segment_bytes: u64,
    pub(crate) segment_ms: i64,
    pub(crate) log_append_time: bool,
    /// `cleanup.policy` has `delete`.
    pub(crate) delete: bool,
    /// `cleanup.policy` has `compact`.
    pub(crate) compact: bool,
    /// No limit if none.
    pub(crate) retention_ms: Option<i64>,
    /// No limit if none.
    pub(crate) retention_bytes: Option<u64>,
    pub(crate) min_cleanable_dirty_ratio: f64,
    pub(crate) min_compaction_lag_ms: i64,
    pub(crate) max_compaction_lag_ms: i64,
    pub(crate) delete_retention_ms: i64,
}

const WEEK_MS: i64 = 7 * DAY_MS;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Of the catalogue's own log, which a start reads.
const CATALOGUE_SEGMENT_BYTES: u64 = 4 << 20;

impl TopicSettings {
    /// Of a topic; none is the catalogue's own, of which nothing goes by itself.
    pub(crate) fn of(
        catalogue: &Catalogue,
        topic: Option<&Arc<Topic>>,
        default_segment_bytes: u64,
    ) -> Self {
        let found = Found { catalogue, topic };
        let policy = found.text("cleanup.policy", "log.cleanup.policy").unwrap_or("delete");
        let has = |wanted: &str| {
            topic.is_some() && policy.split(',').any(|policy| policy.trim() == wanted)
        };
        let max_compaction_lag_ms = found
            .number("max.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms")
            .unwrap_or(i64::MAX);
        let segment_ms = found.number("segment.ms", "log.roll.ms").unwrap_or(WEEK_MS);
        let retention_ms = found.number("retention.ms", "log.retention.ms").unwrap_or(WEEK_MS);
        let retention_bytes = found.number("retention.bytes", "log.retention.bytes");
        Self {
            segment_bytes: match topic {
                Some(_) => found
                    .number("segment.bytes", "log.segment.bytes")
                    .unwrap_or(default_segment_bytes),
                None => default_segment_bytes.min(CATALOGUE_SEGMENT_BYTES),
            },
            // What may wait no longer for compaction does not stay in the file that is written to.
            segment_ms: if has("compact") {
                segment_ms.min(max_compaction_lag_ms)
            } else {
                segment_ms
            },
            log_append_time: found
                .text("message.timestamp.type", "log.message.timestamp.type")
                .is_some_and(|value| value == "LogAppendTime"),
            delete: has("delete"),
            compact: has("compact"),
            retention_ms: Some(retention_ms).filter(|ms| *ms >= 0),
            retention_bytes: retention_bytes.and_then(|bytes: i64| u64::try_from(bytes).ok()),
            min_cleanable_dirty_ratio: found
                .number("min.cleanable.dirty.ratio", "log.cleaner.min.cleanable.ratio")
                .unwrap_or(0.5),
            min_compaction_lag_ms: found
                .number("min.compaction.lag.ms", "log.cleaner.min.compaction.lag.ms")
                .unwrap_or(0),
            max_compaction_lag_ms,
            delete_retention_ms: found
                .number("delete.retention.ms", "log.cleaner.delete.retention.ms")
                .unwrap_or(DAY_MS),
        }
    }
}

struct Found<'a> {
    catalogue: &'a Catalogue,
    topic: Option<&'a Arc<Topic>>,
}

impl<'a> Found<'a> {
    fn text(&self, name: &str, synonym: &str) -> Option<&'a str> {
        let own = self.topic?.configs.get(name);
        own.or_else(|| self.catalogue.broker_config(synonym)).map(String::as_str)
    }

    fn number<T: FromStr>(&self, name: &str, synonym: &str) -> Option<T> {
        self.text(name, synonym)?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn configs(name: &str, value: &str) -> BTreeMap<String, String> {
        [(name.to_owned(), value.to_owned())].into()
    }

    #[test]
    fn a_topics_own_setting_holds_before_the_run_times_and_that_before_the_starts() {
        let topic = |configs| {
            let id = wire::TopicId(uuid::Uuid::from_u128(9));
            Arc::new(Topic { id, name: "t".to_owned(), partitions: 1, configs })
        };
        let retention = |catalogue: &Catalogue, topic: &Arc<Topic>| {
            TopicSettings::of(catalogue, Some(topic), 1 << 30).retention_ms
        };
        let (plain, own) = (topic(BTreeMap::new()), topic(configs("retention.ms", "1")));
        let mut catalogue = Catalogue::default();
        assert_eq!(retention(&catalogue, &plain), Some(WEEK_MS));
        catalogue.static_configs = Arc::new(configs("log.retention.ms", "3"));
        assert_eq!(retention(&catalogue, &plain), Some(3));
        catalogue.broker_configs = configs("log.retention.ms", "2");
        assert_eq!(retention(&catalogue, &plain), Some(2));
        assert_eq!(retention(&catalogue, &own), Some(1));
    }
}
