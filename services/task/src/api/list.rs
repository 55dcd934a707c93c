//! `GET /tasks`.

use super::{Api, body::TaskBody, no_team, role};
use crate::{
    model::{
        Priority, Status,
        query::{self, AssigneeFilter, Filter, Place, Sort},
    },
    store::{self, Ask},
};
use axum::{Json, extract::State, http::StatusCode};
use kit::{
    http::{ApiError, Page, PageQuery, Query},
    identity::Identity,
};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

/// Which tasks, in which order, and which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListTasks {
    /// 1 to 200, 50 if absent.
    limit: Option<u32>,
    /// The `nextCursor` of the page before, with the same sort.
    cursor: Option<String>,
    /// createdAt, updatedAt, dueDate, priority or title, with `-` before it from the last to the
    /// first; `-createdAt` if absent. Tasks without a due date come last either way.
    sort: Option<String>,
    /// Only this team's; else those of all the caller's teams.
    team_id: Option<i64>,
    /// `pending` (or `open`) or `completed`.
    status: Option<String>,
    /// A user's id, `me`, or `none`.
    assignee_id: Option<String>,
    /// CRITICAL, HIGH, MEDIUM or LOW.
    priority: Option<String>,
    /// Without regard to case.
    tag: Option<String>,
    /// A day or an instant: only what is due before it.
    due_before: Option<String>,
    /// Text in title, description or a tag, without regard to case.
    q: Option<String>,
}

/// Where a page ended, and in which order.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    sort: String,
    place: Place,
}

/// List tasks
///
/// A filter that few of many tasks meet may end a page early, even with no item on it: there is
/// more as long as `nextCursor` is not null.
#[utoipa::path(get, path = "/tasks", tag = "tasks", params(ListTasks),
    responses((status = 200, body = Page<TaskBody>), (status = 401), (status = 404),
        (status = 422), (status = 503)))]
pub(super) async fn list(
    State(api): State<Api>,
    me: Identity,
    Query(query): Query<ListTasks>,
) -> Result<Json<Page<TaskBody>>, ApiError> {
    let ask = query.ask(&me)?;
    let sort = ask.sort.name();
    let view = api.commit.view().clone();
    // A filter that admits few makes a long read: not on a thread that answers others.
    let page = tokio::task::spawn_blocking(move || store::list(&view, &ask)).await;
    let page = page.map_err(ApiError::internal)?;
    let mark = page.next.map(|place| Mark { sort, place });
    let next_cursor = mark.as_ref().map(PageQuery::encode);
    Ok(Json(Page { items: page.items.iter().map(TaskBody::from).collect(), next_cursor }))
}

impl ListTasks {
    fn ask(self, me: &Identity) -> Result<Ask, ApiError> {
        let teams = match self.team_id {
            Some(team) => vec![role(me, team).map(|_| team).ok_or_else(no_team)?],
            None => me.teams.iter().map(|team| team.id).collect(),
        };
        let sort = self.sort.as_deref().map(Sort::parse).transpose()?.unwrap_or_default();
        let assignee = self.assignee_id.as_deref();
        let filter = Filter {
            status: self.status.as_deref().map(Status::parse).transpose()?,
            assignee: assignee.map(|text| AssigneeFilter::parse(text, me.user.id)).transpose()?,
            priority: self.priority.as_deref().map(Priority::parse).transpose()?,
            tag: self.tag.as_deref().map(query::tag).transpose()?,
            due_before: self.due_before.as_deref().map(query::due_before).transpose()?,
            search: self.q.as_deref().map(query::search).transpose()?.flatten(),
        };
        let page = PageQuery { limit: self.limit, cursor: self.cursor };
        let after = match page.place::<Mark>()? {
            Some(mark) if mark.sort != sort.name() => return Err(other_list()),
            mark => mark.map(|mark| mark.place),
        };
        Ok(Ask { teams, filter, sort, after, limit: page.limit()? })
    }
}

fn other_list() -> ApiError {
    let message = "this cursor belongs to a list in another order; begin without one";
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_cursor", message).field("cursor")
}
