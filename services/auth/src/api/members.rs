//! The people of a team.

use axum::{extract::State as Shared, http::StatusCode};
use kit::{
    Tx,
    http::{
        ApiError, IdempotencyKey, Json, Page, PageQuery, Patch, Path, Query, idempotency::Reply,
    },
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{State, keyed, views::MemberView, who::Who};
use crate::{
    model::{
        Invalid,
        team::{Act, Role},
    },
    store::{
        members,
        rows::{Member, key},
    },
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct NewMember {
    user_id: i64,
    role: Role,
}

/// Adds a person who has an account; for owners.
#[utoipa::path(post, path = "/teams/{id}/members", tag = "teams", request_body = NewMember,
    params(("id" = i64, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 201, body = MemberView),
        (status = 403, description = "One is no owner of it"),
        (status = 404, description = "One is in no such team"),
        (status = 409, description = "The person is in it already, or it is a personal team"),
        (status = 422, description = "There is no such person or role"),
    )
)]
pub(crate) async fn add(
    Shared(state): Shared<State>,
    who: Who,
    Path(team): Path<i64>,
    key: IdempotencyKey,
    Json(body): Json<NewMember>,
) -> Result<Reply, ApiError> {
    let (caller, user, role) = (who.caller(), body.user_id, body.role);
    let once = keyed(key, &who, &format!("POST /teams/{team}/members"), &(user, role));
    let add = move |tx: &mut Tx<'_>| {
        let (member, user) = members::add(tx, caller, team, user, role)?;
        Ok(Reply::json(StatusCode::CREATED, &MemberView::of(&member, user)))
    };
    state.once(once, add).await
}

/// Everyone in a team that one is in.
#[utoipa::path(get, path = "/teams/{id}/members", tag = "teams",
    params(("id" = i64, Path), PageQuery),
    responses(
        (status = 200, body = Page<MemberView>),
        (status = 404, description = "One is in no such team"),
    )
)]
pub(crate) async fn list(
    Shared(state): Shared<State>,
    who: Who,
    Path(team): Path<i64>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<Page<MemberView>>, ApiError> {
    state.allowed(&who, team, Act::See)?;
    let view = state.view();
    let members = view.by_index::<Member>(Member::BY_TEAM, &key(team));
    let members = members.into_iter().filter_map(|member| {
        let user = view.get(&key(member.user_id))?;
        Some(MemberView::of(&member, user))
    });
    Ok(axum::Json(super::page(members, &page, |member| member.user_id)?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRole {
    #[serde(default)]
    #[schema(value_type = Option<Role>)]
    role: Patch<Role>,
}

/// Gives a member another role (RFC 7396); for owners. A team keeps an owner.
#[utoipa::path(patch, path = "/teams/{id}/members/{userId}", tag = "teams", request_body = NewRole,
    params(("id" = i64, Path), ("userId" = i64, Path),
        ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = MemberView),
        (status = 403, description = "One is no owner of it"),
        (status = 404, description = "One is in no such team, or the person is not"),
        (status = 409, description = "This is the last owner"),
        (status = 422, description = "There is no such role"),
    )
)]
pub(crate) async fn change(
    Shared(state): Shared<State>,
    who: Who,
    Path((team, user)): Path<(i64, i64)>,
    key: IdempotencyKey,
    Json(body): Json<NewRole>,
) -> Result<Reply, ApiError> {
    let caller = who.caller();
    let role = match body.role {
        Patch::Absent => None,
        Patch::Null => return Err(Invalid::new("role", "null", "a member has a role").into()),
        Patch::Value(role) => Some(role),
    };
    let once = keyed(key, &who, &format!("PATCH /teams/{team}/members/{user}"), &role);
    let change = move |tx: &mut Tx<'_>| {
        let (member, user) = members::change_role(tx, caller, team, user, role)?;
        Ok(Reply::json(StatusCode::OK, &MemberView::of(&member, user)))
    };
    state.once(once, change).await
}

/// Takes a member out, or leaves; owners may remove everyone, everyone themselves. A team keeps
/// an owner.
#[utoipa::path(delete, path = "/teams/{id}/members/{userId}", tag = "teams",
    params(("id" = i64, Path), ("userId" = i64, Path),
        ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 403, description = "One is no owner of it"),
        (status = 404, description = "One is in no such team, or the person is not"),
        (status = 409, description = "This is the last owner, or a personal team"),
    )
)]
pub(crate) async fn remove(
    Shared(state): Shared<State>,
    who: Who,
    Path((team, user)): Path<(i64, i64)>,
    key: IdempotencyKey,
) -> Result<Reply, ApiError> {
    let caller = who.caller();
    let once = keyed(key, &who, &format!("DELETE /teams/{team}/members/{user}"), &());
    let leave = move |tx: &mut Tx<'_>| {
        members::leave(tx, caller, team, user)?;
        Ok(Reply::no_content())
    };
    state.once(once, leave).await
}
