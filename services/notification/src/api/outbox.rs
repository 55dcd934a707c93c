//! What became of the mails, for the administrator.

use axum::extract::State as Shared;
use kit::http::{ApiError, Page, PageQuery, Path, Query};
use kit::identity::Identity;
use kit::time::Millis;
use serde::Serialize;
use utoipa::ToSchema;

use super::State;
use crate::model::happening::Kind;
use crate::model::mail::{Mail, Route, Status};
use crate::store;

/// A mail and what became of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MailView {
    id: i64,
    to: String,
    user_id: i64,
    subject: String,
    /// The type of the event that it is about, such as `task.completed`.
    event_type: &'static str,
    event_id: String,
    status: Status,
    attempts: u32,
    /// What went wrong last.
    error: Option<String>,
    /// Where it stands if no mail server is configured.
    file: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Millis,
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Millis>,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Millis>,
}

impl MailView {
    fn of(mail: Mail, state: &State) -> Self {
        let in_file = mail.route == Some(Route::File) && mail.status == Status::Sent;
        Self {
            id: mail.id,
            user_id: mail.user_id,
            subject: mail.letter.subject(),
            event_type: mail.letter.kind().event_type(),
            status: mail.status,
            attempts: mail.attempts,
            file: in_file.then(|| state.0.outbox.join(mail.file_name()).display().to_string()),
            created_at: Millis(mail.created_at),
            next_attempt_at: mail.next_attempt_at.map(Millis),
            finished_at: mail.finished_at.map(Millis),
            to: mail.to,
            event_id: mail.event_id,
            error: mail.error,
        }
    }
}

/// A mail with its text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WholeMail {
    #[serde(flatten)]
    mail: MailView,
    /// Null for a mail that carries a secret.
    text: Option<String>,
}

/// All mails, newest first; those that are done with stay for 30 days. For the administrator.
#[utoipa::path(get, path = "/notifications/outbox", tag = "notifications", params(PageQuery), responses(
    (status = 200, body = Page<MailView>),
    (status = 401, description = "No token, or one that no longer counts"),
    (status = 403, description = "One is not the administrator"),
    (status = 422, description = "An unknown or invalid parameter"),
))]
pub(crate) async fn list(
    Shared(state): Shared<State>,
    caller: Identity,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<Page<MailView>>, ApiError> {
    only_administrator(&caller)?;
    let limit = page.limit()?;
    let found = store::mails(state.0.commit.view(), page.place()?, limit.saturating_add(1));
    let page = Page::cut(found, limit, |mail| mail.id);
    Ok(axum::Json(page.map(|mail| MailView::of(mail, &state))))
}

/// One mail with its text. For the administrator.
#[utoipa::path(get, path = "/notifications/outbox/{id}", tag = "notifications",
    params(("id" = i64, Path)), responses(
    (status = 200, body = WholeMail),
    (status = 401, description = "No token, or one that no longer counts"),
    (status = 403, description = "One is not the administrator"),
    (status = 404, description = "There is no such mail, or no longer"),
))]
pub(crate) async fn one(
    Shared(state): Shared<State>,
    caller: Identity,
    Path(id): Path<i64>,
) -> Result<axum::Json<WholeMail>, ApiError> {
    only_administrator(&caller)?;
    let found = store::mail_by_id(state.0.commit.view(), id);
    let mail = found.ok_or_else(ApiError::not_found)?;
    // Whoever reads a token can take over the account, and an administrator is not meant to.
    let text = if mail.letter.kind() == Kind::PasswordReset {
        None
    } else {
        Some(state.0.composer.render(&mail.letter).map_err(ApiError::internal)?.text)
    };
    Ok(axum::Json(WholeMail { mail: MailView::of(mail, &state), text }))
}

fn only_administrator(caller: &Identity) -> Result<(), ApiError> {
    if caller.user.administrator {
        Ok(())
    } else {
        Err(ApiError::forbidden("only the administrator sees the mails of everyone"))
    }
}
