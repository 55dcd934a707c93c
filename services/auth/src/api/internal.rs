//! What other services ask, with the service key; to everyone else these routes do not exist, and
//! the description of the API is silent about them.

use axum::{Json, Router, extract::State as Shared, routing::get};
use kit::{
    View,
    http::{ApiError, Path},
    identity::{self, Identity, Membership, Person, TeamMember},
};

use super::{
    State,
    who::{Service, Who},
};
use crate::{
    model::team::Role,
    store::rows::{Member, Team, User, key},
};

pub(super) fn router() -> Router<State> {
    Router::new()
        .route("/internal/identity", get(who))
        .route("/internal/users/{id}", get(person))
        .route("/internal/teams/{id}/members", get(members))
}

async fn who(_: Service, Shared(state): Shared<State>, who: Who) -> Json<Identity> {
    let user = identity::User {
        id: who.user.id,
        username: who.user.username,
        email: who.user.email,
        administrator: who.user.administrator,
    };
    let teams = memberships(state.view(), user.id);
    Json(Identity { user, session_id: who.session.id, teams })
}

fn memberships(view: &View, user_id: i64) -> Vec<Membership> {
    let own = view.by_index::<Member>(Member::BY_USER, &key(user_id));
    let teams = own.into_iter().filter_map(|own| {
        let team = view.get::<Team>(&key(own.team_id))?;
        let role = role(own.role);
        Some(Membership { id: team.id, name: team.name, role, personal: team.personal })
    });
    teams.collect()
}

/// `null` if there is no such person: 404 says that the key is wrong.
async fn person(
    _: Service,
    Shared(state): Shared<State>,
    Path(user): Path<i64>,
) -> Json<Option<Person>> {
    let user = state.view().get::<User>(&key(user));
    Json(user.map(|user| Person { id: user.id, username: user.username, email: user.email }))
}

/// Nobody if there is no such team. Asked by way of the writer: who consumed `team.left` or `team.deleted` may be here
/// before the view knows of it.
async fn members(
    _: Service,
    Shared(state): Shared<State>,
    Path(team): Path<i64>,
) -> Result<Json<Vec<TeamMember>>, ApiError> {
    let members = state.0.commit.run(move |tx| {
        let members = tx.by_index::<Member>(Member::BY_TEAM, &key(team)).into_iter();
        let member =
            |member: Member| TeamMember { user_id: member.user_id, role: role(member.role) };
        Ok::<_, ApiError>(members.map(member).collect())
    });
    Ok(Json(members.await?))
}

fn role(role: Role) -> identity::Role {
    match role {
        Role::Guest => identity::Role::Guest,
        Role::Member => identity::Role::Member,
        Role::Owner => identity::Role::Owner,
    }
}
