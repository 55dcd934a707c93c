//! Teams: made, renamed, deleted.

use kit::Tx;

use super::{
    Caller, Refusal,
    rows::{Invitation, Member, Team, key},
};
use crate::model::team::{Act, Role};

/// Teams that one person may be in.
pub(crate) const TEAMS_PER_USER: usize = 500;

/// Makes a team that the caller owns.
pub(crate) fn create(
    tx: &mut Tx<'_>,
    caller: Caller,
    ulid: &str,
    name: &str,
) -> Result<Team, Refusal> {
    let user = caller.user(tx)?;
    if tx.by_index::<Member>(Member::BY_USER, &key(user.id)).len() >= TEAMS_PER_USER {
        return Err(Refusal::conflict("too_many_teams", "you are in as many teams as is allowed"));
    }
    Ok(insert(tx, ulid, name, user.id, false))
}

pub(super) fn insert(tx: &mut Tx<'_>, ulid: &str, name: &str, owner: i64, personal: bool) -> Team {
    let id = tx.next_id("teams");
    let (name, ulid) = (name.to_owned(), ulid.to_owned());
    let team = Team { id, ulid, name, personal, created_at: tx.now() };
    tx.put(&team);
    let joined_at = tx.now();
    tx.put(&Member { team_id: id, user_id: owner, role: Role::Owner, joined_at });
    team
}

/// Gives the team another name.
pub(crate) fn rename(
    tx: &mut Tx<'_>,
    caller: Caller,
    team_id: i64,
    name: Option<&str>,
) -> Result<(Team, Role), Refusal> {
    let member = caller.in_team(tx, team_id, Act::Run)?;
    let mut team = tx.get::<Team>(&key(team_id)).ok_or(Refusal::Unknown)?;
    if let Some(name) = name
        && name != team.name
    {
        name.clone_into(&mut team.name);
        tx.put(&team);
    }
    Ok((team, member.role))
}

/// Deletes the team with its memberships and invitations.
pub(crate) fn delete(tx: &mut Tx<'_>, caller: Caller, team_id: i64) -> Result<(), Refusal> {
    caller.in_team(tx, team_id, Act::Run)?;
    shared(tx, team_id)?;
    remove(tx, team_id, caller.user_id);
    Ok(())
}

/// Refuses what makes no sense for a personal team.
pub(super) fn shared(tx: &Tx<'_>, team_id: i64) -> Result<Team, Refusal> {
    let team = tx.get::<Team>(&key(team_id)).ok_or(Refusal::Unknown)?;
    if team.personal {
        Err(Refusal::conflict(
            "personal_team",
            "this is a personal team: it has one member and lasts as long as the account",
        ))
    } else {
        Ok(team)
    }
}

pub(super) fn remove(tx: &mut Tx<'_>, team_id: i64, actor: i64) {
    for member in tx.by_index::<Member>(Member::BY_TEAM, &key(team_id)) {
        tx.delete::<Member>(&Member::key_of(team_id, member.user_id));
    }
    for invitation in tx.by_index::<Invitation>(Invitation::BY_TEAM, &key(team_id)) {
        tx.delete::<Invitation>(&key(invitation.id));
    }
    tx.delete::<Team>(&key(team_id));
    tx.emit(events::team::TeamDeleted { team_id, user_id: actor });
}
