//! What happens to accounts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Publish;

/// An account was made; read by the notification service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserCreated {
    pub user_id: i64,
    pub username: String,
    pub email: String,
}

impl Publish for UserCreated {
    const TOPIC: &'static str = "user.created";

    fn key(&self) -> String {
        self.user_id.to_string()
    }

    fn body(&self) -> impl Serialize {
        account(self.user_id, &self.username, &self.email)
    }
}

/// The same event under its other name, kept for longer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserRegistered {
    pub user_id: i64,
    pub username: String,
    pub email: String,
}

impl Publish for UserRegistered {
    const TOPIC: &'static str = "user.registered";

    fn key(&self) -> String {
        self.user_id.to_string()
    }

    fn body(&self) -> impl Serialize {
        account(self.user_id, &self.username, &self.email)
    }
}

fn account(user_id: i64, username: &str, email: &str) -> impl Serialize + use<> {
    json!({
        "userId": user_id,
        "username": username,
        "email": email,
        "payload": {"email": email, "username": username},
    })
}

/// Somebody logged in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserAuthenticated {
    pub user_id: i64,
    pub session_id: i64,
}

impl Publish for UserAuthenticated {
    const TOPIC: &'static str = "user.authenticated";

    fn key(&self) -> String {
        self.user_id.to_string()
    }

    fn body(&self) -> impl Serialize {
        json!({
            "userId": self.user_id,
            "sessionId": self.session_id,
            "payload": {"sessionId": self.session_id},
        })
    }
}

/// Somebody asked for a way back in. On a closed topic, because the token is a secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordResetRequested {
    pub user_id: i64,
    pub email: String,
    pub username: String,
    /// Used once, until `expires_at`.
    pub token: String,
    pub expires_at: Timestamp,
}

impl Publish for PasswordResetRequested {
    const TOPIC: &'static str = "__auth.password-reset";

    fn key(&self) -> String {
        self.user_id.to_string()
    }

    fn body(&self) -> impl Serialize {
        json!({
            "userId": self.user_id,
            "email": self.email,
            "username": self.username,
            "token": self.token,
            "expiresAt": format!("{:.3}", self.expires_at),
        })
    }
}
