//! What is stored, one compacted topic per table. Indexes are derived and never in the log.

use std::fmt;

use jiff::Timestamp;
use kit::Row;
use serde::{Deserialize, Serialize};

use crate::model::{account::fold, team::Role};

/// The key of a numbered row: sorts as the number does.
pub(crate) fn key(id: i64) -> String {
    format!("{id:019}")
}

/// An Argon2id hash in PHC form, which no log line shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

/// A person with an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct User {
    pub id: i64,
    pub ulid: String,
    pub username: String,
    pub email: String,
    pub password_hash: PasswordHash,
    pub administrator: bool,
    pub personal_team_id: i64,
    pub created_at: Timestamp,
}

impl User {
    pub(crate) const BY_EMAIL: &'static str = "email";
    pub(crate) const BY_USERNAME: &'static str = "username";
    pub(crate) const BY_OFFICE: &'static str = "office";
    /// The key of [`User::BY_OFFICE`].
    pub(crate) const ADMINISTRATOR: &'static str = "administrator";
}

impl Row for User {
    const TABLE: &'static str = "users";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        key(self.id)
    }

    fn indexes(&self) -> Vec<(&'static str, String)> {
        let mut indexes =
            vec![(Self::BY_EMAIL, fold(&self.email)), (Self::BY_USERNAME, fold(&self.username))];
        if self.administrator {
            indexes.push((Self::BY_OFFICE, Self::ADMINISTRATOR.to_owned()));
        }
        indexes
    }
}

/// A log-in that has not ended. The token itself is only with the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Session {
    pub id: i64,
    pub user_id: i64,
    pub token_hash: String,
    pub user_agent: String,
    pub created_at: Timestamp,
    /// Coarse: written at most once an hour.
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Session {
    pub(crate) const BY_TOKEN: &'static str = "token";
    pub(crate) const BY_USER: &'static str = "user";
}

impl Row for Session {
    const TABLE: &'static str = "sessions";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        key(self.id)
    }

    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![(Self::BY_TOKEN, self.token_hash.clone()), (Self::BY_USER, key(self.user_id))]
    }
}

/// A way back in for who forgot the password; works once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reset {
    pub token_hash: String,
    pub user_id: i64,
    pub expires_at: Timestamp,
}

impl Reset {
    pub(crate) const BY_USER: &'static str = "user";
}

impl Row for Reset {
    const TABLE: &'static str = "resets";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        self.token_hash.clone()
    }

    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![(Self::BY_USER, key(self.user_id))]
    }
}

/// People who share tasks, or one person alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Team {
    pub id: i64,
    pub ulid: String,
    pub name: String,
    /// One's own, made at registration; it has one member and goes with the account.
    pub personal: bool,
    pub created_at: Timestamp,
}

impl Row for Team {
    const TABLE: &'static str = "teams";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        key(self.id)
    }
}

/// A person in a team.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Member {
    pub team_id: i64,
    pub user_id: i64,
    pub role: Role,
    pub joined_at: Timestamp,
}

impl Member {
    pub(crate) const BY_TEAM: &'static str = "team";
    pub(crate) const BY_USER: &'static str = "user";

    pub(crate) fn key_of(team_id: i64, user_id: i64) -> String {
        format!("{}/{}", key(team_id), key(user_id))
    }
}

impl Row for Member {
    const TABLE: &'static str = "members";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        Member::key_of(self.team_id, self.user_id)
    }

    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![(Self::BY_TEAM, key(self.team_id)), (Self::BY_USER, key(self.user_id))]
    }
}

/// A way into a team. The code itself is only with who was invited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Invitation {
    pub id: i64,
    pub team_id: i64,
    /// For this address only, once; `None`: for everyone who has the code, until it expires.
    pub email: Option<String>,
    pub role: Role,
    pub code_hash: String,
    pub created_by: i64,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Invitation {
    pub(crate) const BY_CODE: &'static str = "code";
    pub(crate) const BY_TEAM: &'static str = "team";
}

impl Row for Invitation {
    const TABLE: &'static str = "invitations";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        key(self.id)
    }

    fn indexes(&self) -> Vec<(&'static str, String)> {
        vec![(Self::BY_CODE, self.code_hash.clone()), (Self::BY_TEAM, key(self.team_id))]
    }
}
