//! Invitations to a team.

use axum::{extract::State as Shared, http::StatusCode};
use jiff::SignedDuration;
use kit::http::{ApiError, Json, Page, PageQuery, Path, Query};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    State,
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

/// Makes an invitation; for owners. Its code is shown in this answer only.
#[utoipa::path(post, path = "/teams/{id}/invitations", tag = "teams", request_body = Inviting,
    params(("id" = i64, Path)),
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
    Json(body): Json<Inviting>,
) -> Result<(StatusCode, axum::Json<InvitationView>), ApiError> {
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
    let made = state.0.commit.run(move |tx| invitations::create(tx, caller, &new)).await?;
    let view = InvitationView::of(made, Some(code.reveal().to_owned()));
    Ok((StatusCode::CREATED, axum::Json(view)))
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
    Ok(axum::Json(page.map(|invitation| InvitationView::of(invitation, None))))
}

/// Takes an invitation back; for owners.
#[utoipa::path(delete, path = "/teams/{id}/invitations/{invitationId}", tag = "teams",
    params(("id" = i64, Path), ("invitationId" = i64, Path)),
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
) -> Result<StatusCode, ApiError> {
    let caller = who.caller();
    state.0.commit.run(move |tx| invitations::delete(tx, caller, team, invitation)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Joins the team of a code.
#[utoipa::path(post, path = "/invitations/{code}/accept", tag = "teams",
    params(("code" = String, Path)),
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
) -> Result<axum::Json<TeamView>, ApiError> {
    let hash = token::presented(&code).ok_or_else(ApiError::not_found)?;
    let caller = who.caller();
    let joined = state.0.commit.run(move |tx| invitations::accept(tx, caller, &hash)).await?;
    Ok(axum::Json(TeamView::of(joined.0, joined.1)))
}
