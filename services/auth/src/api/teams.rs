//! Teams.

use axum::{extract::State as Shared, http::StatusCode};
use kit::{
    Tx,
    http::{
        ApiError, IdempotencyKey, Json, Page, PageQuery, Patch, Path, Query, idempotency::Reply,
    },
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{State, keyed, views::TeamView, who::Who};
use crate::{
    model::{
        Invalid,
        team::{self, Act, Role},
    },
    store::{
        rows::{Member, Team, key},
        teams,
    },
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTeam {
    /// 1 to 100 characters.
    name: String,
}

/// Makes a team that one owns; once, if it is repeated with the same `Idempotency-Key`.
#[utoipa::path(post, path = "/teams", tag = "teams", request_body = NewTeam,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 201, body = TeamView),
        (status = 401, description = "No token, or one that no longer counts"),
        (status = 422, description = "The name is missing or invalid, or the key was used already"),
    )
)]
pub(crate) async fn create(
    Shared(state): Shared<State>,
    who: Who,
    key: IdempotencyKey,
    Json(body): Json<NewTeam>,
) -> Result<Reply, ApiError> {
    let name = team::name(&body.name)?.to_owned();
    let (caller, ulid) = (who.caller(), state.ulid());
    let once = keyed(key, &who, "POST /teams", &body.name);
    let create = move |tx: &mut Tx<'_>| {
        let team = teams::create(tx, caller, &ulid, &name)?;
        Ok(Reply::json(StatusCode::CREATED, &TeamView::of(team, Role::Owner)))
    };
    state.once(once, create).await
}

/// The teams that one is in.
#[utoipa::path(get, path = "/teams", tag = "teams", params(PageQuery), responses(
    (status = 200, body = Page<TeamView>),
    (status = 401, description = "No token, or one that no longer counts"),
))]
pub(crate) async fn list(
    Shared(state): Shared<State>,
    who: Who,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<Page<TeamView>>, ApiError> {
    let view = state.view();
    let own = view.by_index::<Member>(Member::BY_USER, &key(who.user.id));
    let teams = own.into_iter().filter_map(|own| {
        let team = view.get::<Team>(&key(own.team_id))?;
        Some(TeamView::of(team, own.role))
    });
    Ok(axum::Json(super::page(teams, &page, |team| team.id)?))
}

/// One team that one is in.
#[utoipa::path(get, path = "/teams/{id}", tag = "teams", params(("id" = i64, Path)), responses(
    (status = 200, body = TeamView),
    (status = 401, description = "No token, or one that no longer counts"),
    (status = 404, description = "One is in no such team"),
))]
pub(crate) async fn one(
    Shared(state): Shared<State>,
    who: Who,
    Path(team): Path<i64>,
) -> Result<axum::Json<TeamView>, ApiError> {
    let own = state.allowed(&who, team, Act::See)?;
    let team = state.view().get::<Team>(&key(own.team_id)).ok_or_else(ApiError::not_found)?;
    Ok(axum::Json(TeamView::of(team, own.role)))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Renaming {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
}

/// Renames a team (RFC 7396); for owners.
#[utoipa::path(patch, path = "/teams/{id}", tag = "teams", request_body = Renaming,
    params(("id" = i64, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = TeamView),
        (status = 403, description = "One is no owner of it"),
        (status = 404, description = "One is in no such team"),
        (status = 422, description = "The name is invalid"),
    )
)]
pub(crate) async fn rename(
    Shared(state): Shared<State>,
    who: Who,
    Path(team): Path<i64>,
    key: IdempotencyKey,
    Json(body): Json<Renaming>,
) -> Result<Reply, ApiError> {
    let caller = who.caller();
    let name = match body.name {
        Patch::Absent => None,
        Patch::Null => return Err(Invalid::new("name", "null", "a team needs a name").into()),
        Patch::Value(name) => Some(team::name(&name)?.to_owned()),
    };
    let once = keyed(key, &who, &format!("PATCH /teams/{team}"), &name);
    let rename = move |tx: &mut Tx<'_>| {
        let (team, role) = teams::rename(tx, caller, team, name.as_deref())?;
        Ok(Reply::json(StatusCode::OK, &TeamView::of(team, role)))
    };
    state.once(once, rename).await
}

/// Deletes a team with all that belongs to it; for owners.
#[utoipa::path(delete, path = "/teams/{id}", tag = "teams",
    params(("id" = i64, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 403, description = "One is no owner of it"),
        (status = 404, description = "One is in no such team"),
        (status = 409, description = "It is a personal team"),
    )
)]
pub(crate) async fn delete(
    Shared(state): Shared<State>,
    who: Who,
    Path(team): Path<i64>,
    key: IdempotencyKey,
) -> Result<Reply, ApiError> {
    let caller = who.caller();
    let once = keyed(key, &who, &format!("DELETE /teams/{team}"), &());
    let delete = move |tx: &mut Tx<'_>| {
        teams::delete(tx, caller, team)?;
        Ok(Reply::no_content())
    };
    state.once(once, delete).await
}
