//! What happens to teams happens to their tasks, exactly once: a task's change and its event are one
//! transaction, and the last of them is the one that commits the consumed offset.
//!
//! The topics are open to every Kafka client, so a record is only a reason to ask auth. Auth has changed its rows in the
//! transaction that told of it, and so knows.

use crate::store::Sweep;
use events::{
    Publish,
    team::{TeamDeleted, TeamLeft},
};
use kit::{
    Commit, Tx,
    identity::People,
    worker::{Handler, Record, Subscription, Trouble},
};
use serde::de::DeserializeOwned;
use std::{convert::Infallible, sync::Arc};

/// Tasks that one transaction changes for one record; with more, several go before.
const PORTION: usize = 100;

/// Follows `team.deleted` and `team.left`.
#[derive(Debug)]
pub(crate) struct Teams {
    commit: Commit,
    people: Arc<dyn People>,
}

pub(crate) fn subscription() -> Subscription {
    Subscription {
        group: "__task.teams".to_owned(),
        topics: vec![TeamDeleted::TOPIC, TeamLeft::TOPIC],
    }
}

impl Teams {
    pub(crate) fn new(commit: Commit, people: Arc<dyn People>) -> Teams {
        Teams { commit, people }
    }

    /// Whether auth knows of it too.
    async fn is_true(&self, sweep: &Sweep) -> Result<bool, Trouble> {
        let members = self.people.members(sweep.team_id).await;
        let members = members.map_err(|error| Trouble::Retry(format!("{error:?}").into()))?;
        Ok(match sweep.unassigned {
            None => members.is_empty(),
            Some(person) => members.iter().all(|member| member.user_id != person),
        })
    }
}

impl Handler for Teams {
    /// `None` if auth does not know of it.
    type Prepared = Option<Sweep>;

    async fn prepare(&self, record: &Record) -> Result<Option<Sweep>, Trouble> {
        let sweep: Sweep = match record.topic.as_str() {
            TeamDeleted::TOPIC => read::<TeamDeleted>(record)?.into(),
            TeamLeft::TOPIC => read::<TeamLeft>(record)?.into(),
            topic => return Err(Trouble::Poison(format!("{topic} is no topic of teams"))),
        };
        if !self.is_true(&sweep).await? {
            let Record { topic, partition, offset, .. } = record;
            tracing::info!(topic, partition, offset, "auth says otherwise, the record is ignored");
            return Ok(None);
        }
        while sweep.exceeds(self.commit.view(), PORTION) {
            let portion = move |tx: &mut Tx<'_>| {
                sweep.some(tx, PORTION);
                Ok::<(), Infallible>(())
            };
            self.commit.run(portion).await.map_err(|error| Trouble::Retry(error.into()))?;
        }
        Ok(Some(sweep))
    }

    fn apply(&self, tx: &mut Tx<'_>, _: &Record, sweep: &Option<Sweep>) {
        if let Some(sweep) = sweep {
            sweep.rest(tx);
        }
    }
}

impl From<TeamDeleted> for Sweep {
    fn from(team: TeamDeleted) -> Sweep {
        Sweep { team_id: team.team_id, unassigned: None, actor_id: team.user_id }
    }
}

impl From<TeamLeft> for Sweep {
    fn from(left: TeamLeft) -> Sweep {
        let TeamLeft { team_id, user_id, removed_by } = left;
        Sweep { team_id, unassigned: Some(user_id), actor_id: removed_by }
    }
}

fn read<T: DeserializeOwned>(record: &Record) -> Result<T, Trouble> {
    let value = record.value.as_deref().unwrap_or_default();
    serde_json::from_slice(value).map_err(|error| Trouble::Poison(error.to_string()))
}
