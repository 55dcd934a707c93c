//! The topics that events travel on.

/// A topic with what its contract asks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: &'static str,
    pub partitions: i32,
    pub retention_ms: i64,
    /// What the record's key is the id of.
    pub key: &'static str,
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Every event topic; created at the first start.
pub const TOPICS: &[Topic] = &[
    topic("user.created", 3, 30, "userId"),
    topic("user.registered", 3, 30, "userId"),
    topic("user.authenticated", 1, 1, "userId"),
    topic("team.deleted", 3, 30, "teamId"),
    topic("team.left", 3, 30, "teamId"),
    topic("task.created", 3, 7, "userId"),
    topic("task.updated", 3, 7, "taskId"),
    topic("task.completed", 3, 7, "taskId"),
    topic("task.deleted", 3, 7, "taskId"),
    topic("notification.sent", 3, 7, "notificationId"),
    topic("__auth.password-reset", 1, 1, "userId"),
];

/// The topic of that name.
pub fn find(name: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.name == name)
}

const fn topic(name: &'static str, partitions: i32, days: i64, key: &'static str) -> Topic {
    Topic { name, partitions, retention_ms: days * DAY_MS, key }
}
