//! Invitations to a team.

use axum::{extract::State as Shared, http::StatusCode};
use jiff::SignedDuration;
use kit::{
    Tx,
    http::{ApiError, IdempotencyKey, Json, Page, PageQuery, Path, Query, idempotency::Reply},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    State, keyed,
    views::{InvitationView, TeamView},
    who::Who,
};
use crate::{
    model::{
        Invalid, account,
        team::{Act, Role},
        token::{self, Token},
    },
    store::{
        invitations::{self, NewInvitation},
        rows::{Invitation, key},
    },
};

const DEFAULT_HOURS: i64 = 7 * 24;
const MAX_HOURS: i64 = 30 * 24;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Inviting {
    /// The only address that may use the code, once. Absent: everyone who has the code may use
    /// it until it expires.
    #[serde(default)]
    email: Option<String>,
    /// `member` if absent.
    #[serde(default)]
    role: Option<Role>,
    /// 1 to 720; 168 if absent.
    #[serde(default)]
    valid_hours: Option<i64>,
}

/// Makes an invitation; for owners. Its code is shown in this answer only: a repetition with the same
/// `Idempotency-Key` has the invitation without it.
#[utoipa::path(post, path = "/teams/{id}/invitations", tag = "teams", request_body = Inviting,
    params(("id" = i64, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 201, body = InvitationView),
        (status = 403, description = "One is no owner of it"),
        (status = 404, description = "One is in no such team"),
        (status = 409, description = "It is a personal team, or has too many invitations"),
        (status = 422, description = "A field is unknown or invalid"),
    )
)]
pub(crate) async fn create(
    Shared(state): Shared<State>,
    who: Who,
    Path(team): Path<i64>,
    key: IdempotencyKey,
    Json(body): Json<Inviting>,
) -> Result<Reply, ApiError> {
    let hours = body.valid_hours.unwrap_or(DEFAULT_HOURS);
    if !(1..=MAX_HOURS).contains(&hours) {
        let message = format!("an invitation is valid for 1 to {MAX_HOURS} hours");
        return Err(Invalid::new("validHours", "out_of_range", message).into());
    }
    body.email.as_deref().map(account::email).transpose()?;
    let code = Token::draw().map_err(ApiError::internal)?;
    let caller = who.caller();
    let new = NewInvitation {
        team_id: team,
        email: body.email,
        role: body.role.unwrap_or(Role::Member),
        code_hash: code.hash(),
        valid_for: SignedDuration::from_hours(hours),
    };
    let fingerprint = (&new.email, new.role, hours);
    let once = keyed(key, &who, &format!("POST /teams/{team}/invitations"), &fingerprint);
    let create = move |tx: &mut Tx<'_>| {
        let made = invitations::create(tx, caller, &new)?;
        Ok(Reply::json(StatusCode::CREATED, &InvitationView::of(made)))
    };
    let mut reply = state.once(once, create).await?;
    // The answer that is kept has no code, and one that was kept has another code than this.
    let fresh = !state.view().by_index::<Invitation>(Invitation::BY_CODE, &code.hash()).is_empty();
    if let (true, Some(serde_json::Value::Object(invitation))) = (fresh, &mut reply.body) {
        invitation.insert("code".to_owned(), code.reveal().into());
    }
    Ok(reply)
}

/// The open invitations of a team; for owners.
#[utoipa::path(get, path = "/teams/{id}/invitations", tag = "teams",
    params(("id" = i64, Path), PageQuery),
    responses(
        (status = 200, body = Page<InvitationView>),
        (status = 403, description = "One is no owner of it"),
        (status = 404, description = "One is in no such team"),
    )
)]
pub(crate) async fn list(
    Shared(state): Shared<State>,
    who: Who,
    Path(team): Path<i64>,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<Page<InvitationView>>, ApiError> {
    state.allowed(&who, team, Act::Run)?;
    let now = state.0.clock.now();
    let mut open = state.view().by_index::<Invitation>(Invitation::BY_TEAM, &key(team));
    open.retain(|invitation| invitation.expires_at > now);
    let page = super::page(open, &page, |invitation| invitation.id)?;
    Ok(axum::Json(page.map(InvitationView::of)))
}

/// Takes an invitation back; for owners.
#[utoipa::path(delete, path = "/teams/{id}/invitations/{invitationId}", tag = "teams",
    params(("id" = i64, Path), ("invitationId" = i64, Path),
        ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 204),
        (status = 403, description = "One is no owner of it"),
        (status = 404, description = "One is in no such team, or it has no such invitation"),
    )
)]
pub(crate) async fn delete(
    Shared(state): Shared<State>,
    who: Who,
    Path((team, invitation)): Path<(i64, i64)>,
    key: IdempotencyKey,
) -> Result<Reply, ApiError> {
    let caller = who.caller();
    let once = keyed(key, &who, &format!("DELETE /teams/{team}/invitations/{invitation}"), &());
    let delete = move |tx: &mut Tx<'_>| {
        invitations::delete(tx, caller, team, invitation)?;
        Ok(Reply::no_content())
    };
    state.once(once, delete).await
}

/// Joins the team of a code.
#[utoipa::path(post, path = "/invitations/{code}/accept", tag = "teams",
    params(("code" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 200, body = TeamView),
        (status = 403, description = "The invitation is for another e-mail address"),
        (status = 404, description = "There is no such invitation, or no longer"),
        (status = 409, description = "One is in the team already"),
    )
)]
pub(crate) async fn accept(
    Shared(state): Shared<State>,
    who: Who,
    Path(code): Path<String>,
    key: IdempotencyKey,
) -> Result<Reply, ApiError> {
    let hash = token::presented(&code).ok_or_else(ApiError::not_found)?;
    let caller = who.caller();
    let once = keyed(key, &who, &format!("POST /invitations/{hash}/accept"), &());
    let accept = move |tx: &mut Tx<'_>| {
        let (team, role) = invitations::accept(tx, caller, &hash)?;
        Ok(Reply::json(StatusCode::OK, &TeamView::of(team, role)))
    };
    state.once(once, accept).await
}
