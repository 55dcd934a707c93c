//! What a person was told.

use axum::extract::State as Shared;
use kit::http::{ApiError, Page, PageQuery, Path, Query};
use kit::identity::Identity;
use kit::time::Millis;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{Missing, State, Sure};
use crate::model::happening::Kind;
use crate::model::letter::AboutTask;
use crate::store::{self, Entry};

/// An entry of one's own list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EntryView {
    id: i64,
    /// The type of the event, such as `task.completed`.
    event_type: &'static str,
    event_id: String,
    /// One sentence for people, without its full stop.
    text: String,
    task_id: Option<i64>,
    team_id: Option<i64>,
    /// Who did it.
    actor_id: Option<i64>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Millis,
    read: bool,
    #[schema(value_type = Option<String>, format = DateTime)]
    read_at: Option<Millis>,
}

impl From<Entry> for EntryView {
    fn from(entry: Entry) -> Self {
        let about = entry.about.as_ref();
        Self {
            id: entry.id,
            event_type: about.map_or(Kind::Welcome, |about| about.kind).event_type(),
            text: about.map_or_else(|| "Welcome to Ottla".to_owned(), AboutTask::sentence),
            task_id: about.map(|about| about.task_id),
            team_id: entry.team_id,
            actor_id: entry.actor_id,
            created_at: Millis(entry.event_at),
            read: entry.read_at.is_some(),
            read_at: entry.read_at.map(Millis),
            event_id: entry.event_id,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// 1 to 200 items, 50 if absent.
    limit: Option<u32>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
    /// Only those that are not read yet.
    unread: Option<bool>,
}

/// One's own entries, newest first.
#[utoipa::path(get, path = "/notifications", tag = "notifications", params(ListQuery), responses(
    (status = 200, body = Page<EntryView>),
    (status = 401, description = "No token, or one that no longer counts"),
    (status = 422, description = "An unknown or invalid parameter"),
))]
pub(crate) async fn list(
    Shared(state): Shared<State>,
    caller: Identity,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<EntryView>>, ApiError> {
    let page = PageQuery { limit: query.limit, cursor: query.cursor };
    let limit = page.limit()?;
    let unread = query.unread.unwrap_or_default();
    let wanted = (page.place()?, limit.saturating_add(1));
    let found = store::entries(state.0.commit.view(), caller.user.id, unread, wanted);
    Ok(axum::Json(Page::cut(found, limit, |entry| entry.place).map(EntryView::from)))
}

/// Marks an entry as read; reading it again changes nothing.
#[utoipa::path(post, path = "/notifications/{id}/read", tag = "notifications",
    params(("id" = i64, Path)), responses(
    (status = 200, body = EntryView),
    (status = 401, description = "No token, or one that no longer counts"),
    (status = 404, description = "One has no such entry"),
    (status = 503, description = "The broker cannot be reached"),
))]
pub(crate) async fn read(
    Shared(state): Shared<State>,
    caller: Identity,
    Path(id): Path<i64>,
) -> Result<axum::Json<EntryView>, ApiError> {
    let command = state.0.commit.run(move |tx| {
        let mut entry = store::entry_of(tx, caller.user.id, id).ok_or(Missing)?;
        if entry.read_at.is_none() {
            entry.read_at = Some(tx.now());
            tx.put(&entry);
        }
        Ok::<_, Missing>(entry)
    });
    Ok(axum::Json(command.await?.into()))
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReadAll {
    /// How many entries were not read before.
    read: usize,
}

/// Marks all entries as read.
#[utoipa::path(post, path = "/notifications/read-all", tag = "notifications", responses(
    (status = 200, body = ReadAll),
    (status = 401, description = "No token, or one that no longer counts"),
    (status = 503, description = "The broker cannot be reached"),
))]
pub(crate) async fn read_all(
    Shared(state): Shared<State>,
    caller: Identity,
) -> Result<axum::Json<ReadAll>, ApiError> {
    let command = state.0.commit.run(move |tx| {
        let unread = store::unread_of(tx, caller.user.id);
        let read = unread.len();
        for mut entry in unread {
            entry.read_at = Some(tx.now());
            tx.put(&entry);
        }
        Ok::<_, Sure>(ReadAll { read })
    });
    Ok(axum::Json(command.await?))
}
