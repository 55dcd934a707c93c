//! The HTTP port: health, metrics, the description of the API, and every service under `/api`.

mod guests;
mod proxy;
mod routes;
mod server;

pub(crate) use proxy::Proxy;
pub(crate) use routes::{Front, Serving, Slot, front, own_port};
pub(crate) use server::Server;
