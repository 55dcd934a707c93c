//! Other people, as far as one may see them.

use std::collections::HashSet;

use axum::extract::State as Shared;
use kit::http::{ApiError, Page, PageQuery, Path, Query};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{State, views::Person, who::Who};
use crate::{
    model::account::fold,
    store::rows::{Member, User, key},
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// A part of the username, or of the address of those whose address one may see.
    q: Option<String>,
    /// Only who is in this team, which must be one's own.
    team_id: Option<i64>,
    /// How many at most, 1 to 200.
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
}

/// The people here, by id.
#[utoipa::path(get, path = "/users", tag = "users", params(Wanted), responses(
    (status = 200, body = Page<Person>),
    (status = 401, description = "No token, or one that no longer counts"),
    (status = 404, description = "One is in no such team"),
    (status = 422, description = "A parameter is unknown or invalid"),
))]
pub(crate) async fn list(
    Shared(state): Shared<State>,
    who: Who,
    Query(wanted): Query<Wanted>,
) -> Result<axum::Json<Page<Person>>, ApiError> {
    let view = state.view();
    let mates = team_mates(&state, who.user.id);
    let users: Vec<User> = match wanted.team_id {
        Some(team_id) => {
            let members = view.by_index::<Member>(Member::BY_TEAM, &key(team_id));
            if !members.iter().any(|member| member.user_id == who.user.id) {
                return Err(ApiError::not_found());
            }
            members.iter().filter_map(|member| view.get(&key(member.user_id))).collect()
        }
        None => view.scan("", usize::MAX),
    };
    let q = wanted.q.as_deref().map(fold).unwrap_or_default();
    let found = users.into_iter().filter(|user| {
        fold(&user.username).contains(&q)
            || mates.contains(&user.id) && fold(&user.email).contains(&q)
    });
    let page = PageQuery { limit: wanted.limit, cursor: wanted.cursor };
    let page = super::page(found, &page, |user: &User| user.id)?;
    Ok(axum::Json(page.map(|user| {
        let shows_email = mates.contains(&user.id);
        Person::of(user, shows_email)
    })))
}

/// One person.
#[utoipa::path(get, path = "/users/{id}", tag = "users", params(("id" = i64, Path)), responses(
    (status = 200, body = Person),
    (status = 401, description = "No token, or one that no longer counts"),
    (status = 404, description = "There is no such person"),
))]
pub(crate) async fn one(
    Shared(state): Shared<State>,
    who: Who,
    Path(user): Path<i64>,
) -> Result<axum::Json<Person>, ApiError> {
    let user = state.view().get::<User>(&key(user)).ok_or_else(ApiError::not_found)?;
    let shows_email = team_mates(&state, who.user.id).contains(&user.id);
    Ok(axum::Json(Person::of(user, shows_email)))
}

/// Oneself and everyone in one's teams.
fn team_mates(state: &State, user_id: i64) -> HashSet<i64> {
    let own = state.view().by_index::<Member>(Member::BY_USER, &key(user_id));
    let mates = own
        .iter()
        .flat_map(|own| state.view().by_index::<Member>(Member::BY_TEAM, &key(own.team_id)))
        .map(|member| member.user_id);
    mates.chain([user_id]).collect()
}
