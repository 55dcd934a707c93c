//! Starts storage and broker alone, to try clients by hand:
//! `cargo run -p server --example broker -- 127.0.0.1:19092 /tmp/data`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;

use server::{Broker, Config, SeedTopic};
use storage::{Host, Storage};

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let mut arguments = std::env::args().skip(1);
    let kafka = arguments.next().unwrap_or_else(|| "127.0.0.1:9092".to_owned()).parse()?;
    let data_dir = arguments.next().map_or_else(|| PathBuf::from("broker-data"), PathBuf::from);
    let (storage, report) = Storage::open(storage::Config::new(data_dir), Host::real())?;
    tracing::info!(?report, "storage opened");
    let config = Config {
        kafka,
        num_partitions: 4,
        service_key: Some(b"service-key".to_vec()),
        closed_prefixes: vec!["__auth.".to_owned(), "__task.".to_owned()],
        seed_topics: vec![SeedTopic {
            name: "task.created".to_owned(),
            partitions: 3,
            configs: BTreeMap::from([("retention.ms".to_owned(), "604800000".to_owned())]),
        }],
        ..Config::default()
    };
    let broker = Broker::start(config, storage.clone()).await?;
    tracing::info!(address = %broker.local_addr(), "listening");
    tokio::signal::ctrl_c().await?;
    broker.shutdown().await;
    storage.shutdown();
    Ok(())
}
