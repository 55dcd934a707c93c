//! What makes a service run: the view, the writer's thread, ownership of the table, and the router's frame.

use std::{io::ErrorKind, path::Path, sync::Arc};

use axum::{
    extract::{Request, State},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use super::{owner::Owner, writer};
use crate::{
    Commit, Service, ServiceContext, StartError, Status, Tables, View,
    commit::{Submitted, Surroundings, Writer},
    db::{Db, break_seal},
    http::{ApiError, trace},
    kafka::{Cluster, KafkaLog},
};

/// Lies beside the view after a clean stop.
const SEAL: &str = "view.clean";

/// A service's writer and view, on their way to being active.
#[derive(Debug)]
pub struct Engine {
    context: ServiceContext,
    cluster: Cluster,
    tables: Tables,
    commit: Commit,
    commands: mpsc::Receiver<Submitted>,
    status: watch::Sender<Status>,
}

impl Engine {
    /// Opens the view; one that was not closed by a clean stop is thrown away, the log restores it. [`Engine::serve`] does the rest.
    pub fn open(context: &ServiceContext, tables: Tables) -> Result<Self, StartError> {
        let io = |cause| StartError::Io { path: context.data_dir.display().to_string(), cause };
        std::fs::create_dir_all(&context.data_dir).map_err(io)?;
        let cluster = Cluster::new(context).map_err(io)?;
        let view = View(Arc::new(open_view(&context.data_dir, &tables)?));
        let (status, watching) = watch::channel(Status::Starting("connecting"));
        let (commit, commands) = Commit::new(view, watching);
        Ok(Self { context: context.clone(), cluster, tables, commit, commands, status })
    }

    pub fn commit(&self) -> Commit {
        self.commit.clone()
    }

    /// Starts the service: it serves once the table is ours and restored. The router gets trace context and, until
    /// then, 503; `tasks` are the service's own, which end by `context.stop`.
    pub fn serve(
        self,
        router: OpenApiRouter,
        mut tasks: JoinSet<()>,
    ) -> Result<Service, StartError> {
        let Self { context, cluster, tables, commit, commands, status } = self;
        let stop = CancellationToken::new();
        let (asked, held, ends) = (context.stop.clone(), commit.clone(), stop.clone());
        tasks.spawn(async move {
            asked.cancelled().await;
            held.released().await;
            ends.cancel();
        });
        let (owner, ownership) = Owner::new(cluster.clone(), tables.clone(), stop.clone());
        let rejoin = owner.rejoin();
        let surroundings = Surroundings {
            view: commit.view().clone(),
            clock: Arc::clone(&context.clock),
            tables: tables.clone(),
        };
        let log = KafkaLog::new(cluster, tables, commit.view().clone());
        let thread = writer::Thread {
            writer: Writer::new(surroundings, log),
            view: commit.view().clone(),
            seal: context.data_dir.join(SEAL),
            commands,
            ownership,
            rejoin,
            status,
            stop,
            fenced: None,
        };
        let (ended, end) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Handle::current();
        let handle = std::thread::Builder::new()
            .name(format!("{}-commit", context.service))
            .spawn(move || {
                thread.run(&runtime);
                drop(ended);
            })
            .map_err(|cause| StartError::Io { path: "a thread".to_owned(), cause })?;
        tasks.spawn(async move {
            // The sender is dropped when the thread has ended, whatever way.
            drop(end.await);
            if let Ok(Err(panic)) = tokio::task::spawn_blocking(move || handle.join()).await {
                std::panic::resume_unwind(panic);
            }
        });
        tasks.spawn(owner.run());
        let watched = commit.status();
        let router = frame(router, watched.clone());
        Ok(Service { name: context.service, router, status: watched, tasks })
    }
}

/// What every route has around it; the description stays.
fn frame(router: OpenApiRouter, status: watch::Receiver<Status>) -> OpenApiRouter {
    let (paths, description) = router.split_for_parts();
    let framed = paths
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(from_fn_with_state(status, gate))
        .layer(from_fn(trace::middleware));
    let mut described = OpenApiRouter::from(framed);
    *described.get_openapi_mut() = description;
    described
}

/// 503 while the view does not stand for the service's state.
async fn gate(
    State(status): State<watch::Receiver<Status>>,
    request: Request,
    next: Next,
) -> Response {
    let answers = status.borrow().answers_reads();
    if answers {
        next.run(request).await
    } else {
        let message =
            format!("this service is not ready ({}); try again in a moment", *status.borrow());
        ApiError::unavailable(message).into_response()
    }
}

fn open_view(directory: &Path, tables: &Tables) -> Result<Db, StartError> {
    let io = |cause| StartError::Io { path: directory.display().to_string(), cause };
    let path = directory.join("view");
    let names = || tables.iter().map(|table| table.name);
    if break_seal(&directory.join(SEAL)).map_err(io)? {
        match Db::open(&path, names()) {
            Ok(db) => return Ok(db),
            Err(error) => {
                let cause = std::error::Error::source(&error);
                tracing::info!(%error, ?cause, "the view is rebuilt");
            }
        }
    }
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
        Ok(()) | Err(_) => {}
    }
    Ok(Db::open(&path, names())?)
}
