//! What became of a mail.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Publish;

/// An attempt to notify a person ended: well, badly, or nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationSent {
    pub notification_id: i64,
    pub user_id: i64,
    /// The event that the person was told of.
    pub cause_event_id: String,
    pub cause_event_type: String,
    /// `email`.
    pub channel: String,
    /// `sent`, `failed` or `unknown`.
    pub status: String,
}

impl Publish for NotificationSent {
    const TOPIC: &'static str = "notification.sent";

    fn key(&self) -> String {
        self.notification_id.to_string()
    }

    fn body(&self) -> impl Serialize {
        json!({
            "notificationId": self.notification_id,
            "userId": self.user_id,
            "causeEventId": self.cause_event_id,
            "causeEventType": self.cause_event_type,
            "channel": self.channel,
            "status": self.status,
            "payload": {"channel": self.channel, "status": self.status},
        })
    }
}
