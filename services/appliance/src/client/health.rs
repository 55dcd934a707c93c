use std::net::SocketAddr;
use std::time::Duration;

use super::print;
use crate::Failure;

/// How long the appliance may take to say how it is.
const ANSWER: Duration = Duration::from_secs(5);

/// Prints what `/readyz` says; anything but ready is a failure.
pub(crate) async fn healthcheck(http: SocketAddr) -> Result<(), Failure> {
    let unreachable = |error: reqwest::Error| {
        Failure::Failed(format!("no answer from http://{http}/readyz ({error}); is Ottla running?"))
    };
    let client = reqwest::Client::builder().timeout(ANSWER).build().map_err(unreachable)?;
    let url = format!("http://{http}/readyz?verbose");
    let response = client.get(url).send().await.map_err(unreachable)?;
    let ready = response.status().is_success();
    let text = response.text().await.map_err(unreachable)?;
    print(&format!("{}\n", text.trim_end()))?;
    if ready { Ok(()) } else { Err(Failure::Failed("not every service is ready".to_owned())) }
}
