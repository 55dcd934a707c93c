//! The routes of tasks.

mod assignment;
mod body;
mod list;

use crate::{
    model::{
        Edit, Invalid, Task,
        access::{self, Act},
    },
    store,
};
use assignment::Assignment;
use axum::{
    extract::{FromRef, State},
    http::StatusCode,
};
use body::{CreateTask, PatchTask, TaskBody};
use kit::{
    Commit, Tx,
    http::{
        ApiError, ETag, IdempotencyKey, IfMatch, Json, Path,
        idempotency::{Once, Reply},
    },
    identity::{Identity, People, Role},
};
use std::sync::Arc;
use ulid::Ulid;
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(Clone, Debug)]
struct Api {
    commit: Commit,
    people: Arc<dyn People>,
}

impl FromRef<Api> for Arc<dyn People> {
    fn from_ref(api: &Api) -> Arc<dyn People> {
        Arc::clone(&api.people)
    }
}

/// The routes, without `/api`.
pub(crate) fn router(commit: Commit, people: Arc<dyn People>) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(create, list::list))
        .routes(routes!(show, patch, delete))
        .routes(routes!(complete))
        .routes(routes!(reopen))
        .with_state(Api { commit, people })
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> ApiError {
        let message = invalid.to_string();
        ApiError::invalid(invalid.field, message)
    }
}

/// Create a task
///
/// In the caller's personal team if no other is named. Owners and members of a team may do it.
/// Published as `task.created`.
#[utoipa::path(post, path = "/tasks", tag = "tasks", request_body = CreateTask,
    params(("Idempotency-Key" = Option<String>, Header,
        description = "The same key and body within 24 hours: the same answer, one task")),
    responses((status = 201, body = TaskBody), (status = 400), (status = 401),
        (status = 403, description = "A guest of the team"),
        (status = 404, description = "No such team, or not one of the caller's"),
        (status = 422), (status = 503)))]
async fn create(
    State(api): State<Api>,
    me: Identity,
    key: IdempotencyKey,
    Json(body): Json<CreateTask>,
) -> Result<Reply, ApiError> {
    let personal = me.personal_team().map(|team| team.id);
    let team_id = body.team_id.or(personal).ok_or_else(no_team)?;
    let draft = body.draft(team_id, me.user.id)?;
    let assignment = Assignment::ask(&api, Some(team_id), draft.assignee_id).await?;
    // Whoever told of a deletion before the team was there told a lie: it lives.
    let lives = store::was_deleted(api.commit.view(), team_id)
        && !api.people.members(team_id).await?.is_empty();
    let once = Once::new(key, &format!("{} POST /tasks", me.user.id), &body);
    let chance = Ulid::generate().random();
    let command = move |tx: &mut Tx<'_>| {
        once.run(tx, |tx| {
            let role = role(&me, team_id).ok_or_else(no_team)?;
            if store::is_deleted_team(tx, team_id) && !lives {
                return Err(no_team());
            }
            if !access::may(role, Act::Change) {
                return Err(only_reads());
            }
            assignment.check(tx)?;
            let millis = u64::try_from(tx.now().as_millisecond()).unwrap_or_default();
            let ulid = Ulid::from_parts(millis, chance).to_string();
            let task = store::create(tx, draft.clone(), ulid);
            Ok(reply(StatusCode::CREATED, &task))
        })
    };
    Ok(api.commit.run(command).await?)
}

/// Show a task
#[utoipa::path(get, path = "/tasks/{id}", tag = "tasks", params(("id" = i64, Path)),
    responses((status = 200, body = TaskBody, headers(("ETag" = String))), (status = 401),
        (status = 404), (status = 503)))]
async fn show(
    State(api): State<Api>,
    me: Identity,
    Path(id): Path<i64>,
) -> Result<(ETag, axum::Json<TaskBody>), ApiError> {
    let task = store::find(api.commit.view(), id).ok_or_else(ApiError::not_found)?;
    role(&me, task.team_id).ok_or_else(ApiError::not_found)?;
    Ok((ETag(task.version), axum::Json(TaskBody::from(&task))))
}

/// Change a task
///
/// A merge patch (RFC 7396): what is absent stays, `null` empties. Owners and members of the team
/// may do it; a guest may change the status of a task that is assigned to them. Published as
/// `task.completed` if the status changes, else as `task.updated`; if nothing changes there is
/// neither an event nor a new version.
#[utoipa::path(patch, path = "/tasks/{id}", tag = "tasks", request_body = PatchTask,
    params(("id" = i64, Path),
        ("If-Match" = Option<String>, Header, description = "Only if the task still has this ETag"),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = TaskBody, headers(("ETag" = String))), (status = 400),
        (status = 401), (status = 403), (status = 404),
        (status = 412, description = "The task has another ETag by now"),
        (status = 422), (status = 503)))]
async fn patch(
    State(api): State<Api>,
    me: Identity,
    Path(id): Path<i64>,
    (if_match, key): (IfMatch, IdempotencyKey),
    Json(body): Json<PatchTask>,
) -> Result<Reply, ApiError> {
    let edit = body.edit()?;
    let team = store::find(api.commit.view(), id)
        .map(|task| task.team_id)
        .filter(|team| role(&me, *team).is_some());
    let person = body.assignee_id.clone().into_change().flatten();
    let assignment = Assignment::ask(&api, team, person).await?;
    let once = Once::new(key, &format!("{} PATCH /tasks/{id}", me.user.id), &body);
    let changing = Changing { me, id, if_match, once, edit, assignment };
    changing.run(&api).await
}

/// Complete a task
///
/// Published as `task.completed`; on a task that is completed already nothing happens.
#[utoipa::path(post, path = "/tasks/{id}/complete", tag = "tasks",
    params(("id" = i64, Path), ("If-Match" = Option<String>, Header),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = TaskBody, headers(("ETag" = String))), (status = 401),
        (status = 403), (status = 404), (status = 412), (status = 422), (status = 503)))]
async fn complete(
    State(api): State<Api>,
    me: Identity,
    Path(id): Path<i64>,
    if_match: IfMatch,
    key: IdempotencyKey,
) -> Result<Reply, ApiError> {
    let once = Once::new(key, &format!("{} POST /tasks/{id}/complete", me.user.id), &());
    let edit = Edit::status(true);
    Changing { me, id, if_match, once, edit, assignment: Assignment::Nobody }.run(&api).await
}

/// Reopen a completed task
///
/// Published as `task.completed` with `completed: false`; on an open task nothing happens.
#[utoipa::path(post, path = "/tasks/{id}/reopen", tag = "tasks",
    params(("id" = i64, Path), ("If-Match" = Option<String>, Header),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = TaskBody, headers(("ETag" = String))), (status = 401),
        (status = 403), (status = 404), (status = 412), (status = 422), (status = 503)))]
async fn reopen(
    State(api): State<Api>,
    me: Identity,
    Path(id): Path<i64>,
    if_match: IfMatch,
    key: IdempotencyKey,
) -> Result<Reply, ApiError> {
    let once = Once::new(key, &format!("{} POST /tasks/{id}/reopen", me.user.id), &());
    let edit = Edit::status(false);
    Changing { me, id, if_match, once, edit, assignment: Assignment::Nobody }.run(&api).await
}

/// Delete a task
///
/// Owners and members of the team may do it. Published as `task.deleted`.
#[utoipa::path(delete, path = "/tasks/{id}", tag = "tasks",
    params(("id" = i64, Path), ("If-Match" = Option<String>, Header),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 204), (status = 401), (status = 403), (status = 404), (status = 412),
        (status = 422), (status = 503)))]
async fn delete(
    State(api): State<Api>,
    me: Identity,
    Path(id): Path<i64>,
    if_match: IfMatch,
    key: IdempotencyKey,
) -> Result<Reply, ApiError> {
    let once = Once::new(key, &format!("{} DELETE /tasks/{id}", me.user.id), &());
    let command = move |tx: &mut Tx<'_>| {
        once.run(tx, |tx| {
            let task = permitted(tx, &me, id, |_| Act::Change)?;
            if !if_match.allows(task.version) {
                return Err(ApiError::precondition_failed());
            }
            store::delete(tx, &task, me.user.id);
            Ok(Reply::no_content())
        })
    };
    Ok(api.commit.run(command).await?)
}

/// A change of one task, on its way to the writer.
struct Changing {
    me: Identity,
    id: i64,
    if_match: IfMatch,
    once: Once,
    edit: Edit,
    assignment: Assignment,
}

impl Changing {
    async fn run(self, api: &Api) -> Result<Reply, ApiError> {
        let command = move |tx: &mut Tx<'_>| self.once.run(tx, |tx| self.plan(tx));
        Ok(api.commit.run(command).await?)
    }

    fn plan(&self, tx: &mut Tx<'_>) -> Result<Reply, ApiError> {
        let me = self.me.user.id;
        let task = permitted(tx, &self.me, self.id, |task| {
            if self.edit.only_status() {
                Act::SetStatus { assigned_to_caller: task.assignee_id == Some(me) }
            } else {
                Act::Change
            }
        })?;
        if !self.if_match.allows(task.version) {
            return Err(ApiError::precondition_failed());
        }
        self.assignment.check(tx)?;
        let edited = store::edit(tx, task, &self.edit, me);
        Ok(reply(StatusCode::OK, &edited))
    }
}

/// The task, if the caller sees it and may do this with it.
fn permitted(
    tx: &Tx<'_>,
    me: &Identity,
    id: i64,
    act: impl FnOnce(&Task) -> Act,
) -> Result<Task, ApiError> {
    let task = store::get(tx, id).ok_or_else(ApiError::not_found)?;
    let role = role(me, task.team_id).ok_or_else(ApiError::not_found)?;
    if access::may(role, act(&task)) { Ok(task) } else { Err(only_reads()) }
}

fn role(me: &Identity, team: i64) -> Option<access::Role> {
    me.team(team).map(|membership| match membership.role {
        Role::Owner => access::Role::Owner,
        Role::Member => access::Role::Member,
        Role::Guest => access::Role::Guest,
    })
}

fn reply(status: StatusCode, task: &Task) -> Reply {
    Reply::json(status, &TaskBody::from(task)).with_etag(task.version)
}

fn no_team() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found", "there is no such team, or you are not in it")
        .field("teamId")
}

fn only_reads() -> ApiError {
    ApiError::forbidden("guests of a team see its tasks and complete their own, no more")
}

#[cfg(test)]
mod tests;
