//! What happens to teams happens to their tasks, exactly once: a task's change and its event are one
//! transaction, and the last of them is the one that commits the consumed offset.

use crate::store::Sweep;
use events::{
    Publish,
    team::{TeamDeleted, TeamLeft},
};
use kit::{
    Commit, Tx,
    worker::{Handler, Record, Subscription, Trouble},
};
use serde::de::DeserializeOwned;
use std::convert::Infallible;

/// Tasks that one transaction changes for one record; with more, several go before.
const PORTION: usize = 100;

/// Follows `team.deleted` and `team.left`.
#[derive(Debug)]
pub(crate) struct Teams {
    commit: Commit,
}

pub(crate) fn subscription() -> Subscription {
    Subscription {
        group: "__task.teams".to_owned(),
        topics: vec![TeamDeleted::TOPIC, TeamLeft::TOPIC],
    }
}

impl Teams {
    pub(crate) fn new(commit: Commit) -> Teams {
        Teams { commit }
    }
}

impl Handler for Teams {
    type Prepared = Sweep;

    async fn prepare(&self, record: &Record) -> Result<Sweep, Trouble> {
        let sweep: Sweep = match record.topic.as_str() {
            TeamDeleted::TOPIC => read::<TeamDeleted>(record)?.into(),
            TeamLeft::TOPIC => read::<TeamLeft>(record)?.into(),
            topic => return Err(Trouble::Poison(format!("{topic} is no topic of teams"))),
        };
        while sweep.exceeds(self.commit.view(), PORTION) {
            let portion = move |tx: &mut Tx<'_>| {
                sweep.some(tx, PORTION);
                Ok::<(), Infallible>(())
            };
            self.commit.run(portion).await.map_err(|error| Trouble::Retry(error.into()))?;
        }
        Ok(sweep)
    }

    fn apply(&self, tx: &mut Tx<'_>, _: &Record, sweep: &Sweep) {
        sweep.rest(tx);
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
