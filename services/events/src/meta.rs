//! What every event carries beside its content.

use jiff::Timestamp;
use serde::Serialize;

/// The version of all value shapes; raised when a field changes its meaning.
const SCHEMA_VERSION: &str = "1";

/// When an event happened and what caused it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// A UUID; the same in every rendering of one change.
    pub event_id: String,
    pub at: Timestamp,
    /// The id of the request that caused it, handed on from event to event.
    pub correlation_id: String,
    /// The W3C trace context of the cause.
    pub traceparent: String,
}

/// A record ready to be produced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub topic: &'static str,
    pub key: String,
    pub value: Vec<u8>,
    pub headers: Vec<(&'static str, String)>,
}

/// Something that happened and has a topic of its own.
pub trait Publish {
    /// Topic and event type; one word for both.
    const TOPIC: &'static str;

    /// The record's key.
    fn key(&self) -> String;

    /// The fields beside the envelope's.
    fn body(&self) -> impl Serialize;

    /// The record that tells of it.
    fn into_event(self, meta: &Meta) -> Event
    where
        Self: Sized,
    {
        let envelope = Envelope {
            event_type: Self::TOPIC,
            event_id: &meta.event_id,
            timestamp: format!("{:.3}", meta.at),
            event_timestamp: meta.at.as_millisecond(),
            body: self.body(),
        };
        Event {
            topic: Self::TOPIC,
            key: self.key(),
            value: serde_json::to_vec(&envelope).unwrap_or_default(),
            headers: vec![
                ("event-id", meta.event_id.clone()),
                ("event-type", Self::TOPIC.to_owned()),
                ("schema-version", SCHEMA_VERSION.to_owned()),
                ("correlation-id", meta.correlation_id.clone()),
                ("traceparent", meta.traceparent.clone()),
            ],
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a, B> {
    event_type: &'static str,
    event_id: &'a str,
    timestamp: String,
    event_timestamp: i64,
    #[serde(flatten)]
    body: B,
}
