//! From a stored mail to a server or a file: composing and one attempt to deliver.

pub(crate) mod compose;
pub(crate) mod outbox;
pub(crate) mod smtp;

use tokio_util::sync::CancellationToken;

use crate::mail::compose::Composed;
use crate::mail::outbox::Outbox;
use crate::mail::smtp::Smtp;
use crate::model::mail::{Outcome, Route};

/// Where mails go.
#[derive(Debug)]
pub(crate) enum Mailer {
    Smtp(Smtp),
    File(Outbox),
}

/// One attempt and what it says of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) outcome: Outcome,
    /// The server works, whatever it thinks of this mail.
    pub(crate) server_works: bool,
}

impl Mailer {
    pub(crate) fn route(&self) -> Route {
        match self {
            Self::Smtp(_) => Route::Smtp,
            Self::File(_) => Route::File,
        }
    }

    /// Makes one attempt, which ends within a bounded time, and soon after `stop`.
    pub(crate) async fn deliver(&self, mail: &Composed, stop: &CancellationToken) -> Delivery {
        match self {
            Self::Smtp(smtp) => smtp.deliver(mail, stop).await,
            Self::File(outbox) => outbox.deliver(mail).await,
        }
    }
}
