//! What happens to teams, for the services whose rows belong to a team.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Publish;

/// A team is gone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TeamDeleted {
    pub team_id: i64,
    /// Who deleted it.
    pub user_id: i64,
}

impl Publish for TeamDeleted {
    const TOPIC: &'static str = "team.deleted";

    fn key(&self) -> String {
        self.team_id.to_string()
    }

    fn body(&self) -> impl Serialize {
        json!({"teamId": self.team_id, "userId": self.user_id, "payload": {}})
    }
}

/// A person is no longer in a team.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TeamLeft {
    pub team_id: i64,
    pub user_id: i64,
    /// The person or who removed them.
    pub removed_by: i64,
}

impl Publish for TeamLeft {
    const TOPIC: &'static str = "team.left";

    fn key(&self) -> String {
        self.team_id.to_string()
    }

    fn body(&self) -> impl Serialize {
        json!({
            "teamId": self.team_id,
            "userId": self.user_id,
            "removedBy": self.removed_by,
            "payload": {"userId": self.user_id},
        })
    }
}
