#![expect(clippy::doc_markdown, reason = "these are texts of --help, which is not Markdown")]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use config::Listeners;

/// A Kafka broker and the services of a team's tasks, in one process.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the broker and the services (the same as no command)
    Serve(Serve),
    /// Run one service alone against a Kafka cluster
    Worker(Worker),
    /// Print the records of a topic: key, tab, value
    Consume(Consume),
    /// List the consumer groups, or one group's members and its lag (records left to read) per partition
    Groups(Groups),
    /// Check the configuration or show what holds
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Measure what this machine promises, and read the stored data through; changes nothing without --repair
    Doctor(Doctor),
    /// Show what lies in the files of the storage
    Dump {
        #[command(subcommand)]
        command: DumpCommand,
    },
    /// Ask a running appliance whether every service is ready; ends with 0 or 1
    Healthcheck(Healthcheck),
    /// Print the version
    Version,
}

#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Serve {
    /// Where everything is stored [default: ./ottla-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where Kafka clients connect, one address or a list as in Kafka [default: 127.0.0.1:9092]
    #[arg(long, value_name = "ADDR")]
    pub kafka: Option<Listeners>,
    /// Where HTTP is served [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// A configuration file; without it none is read
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Whose files are looked at.
#[derive(Clone, Debug, Args)]
pub(crate) struct Data {
    /// Where everything is stored [default: ./ottla-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// A configuration file; without it none is read
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Keep what is whole of damaged data, set aside what is not, and say what is lost
    #[arg(long)]
    pub repair: bool,
    #[command(flatten)]
    pub data: Data,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DumpCommand {
    /// The commit cycles in the journal
    Journal(Data),
    /// The two checkpoints
    Checkpoint(Data),
    /// The record batches of a partition
    Partition(DumpPartition),
}

#[derive(Debug, Args)]
pub(crate) struct DumpPartition {
    /// The topic, by name or id
    pub topic: String,
    /// The partition's number
    pub partition: i32,
    /// Begin with the batch that holds this offset
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub from_offset: i64,
    /// End after this many batches
    #[arg(long, value_name = "N")]
    pub max_batches: Option<u64>,
    /// Show every record: offset, timestamp, key, value
    #[arg(long)]
    pub records: bool,
    #[command(flatten)]
    pub data: Data,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServiceName {
    Auth,
    Task,
    Notification,
}

impl ServiceName {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Task => "task",
            Self::Notification => "notification",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Worker {
    /// The service to run
    pub service: ServiceName,
    /// The Kafka cluster: host:port, several separated by commas [default: KAFKA_BROKERS]
    #[arg(long, value_name = "HOST:PORT")]
    pub brokers: Option<String>,
    /// Where the auth service answers [default: http://127.0.0.1:8080/api]
    #[arg(long, value_name = "URL")]
    pub auth_url: Option<String>,
    /// Where the service's HTTP is served [default: 127.0.0.1 and the service's port]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<SocketAddr>,
    /// Where the service keeps what it can rebuild [default: ./ottla-worker]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The key by which services know each other [default: service.key in the data directory]
    #[arg(long, value_name = "FILE")]
    pub service_key: Option<PathBuf>,
    /// Log in at the brokers as a service; for brokers that are an Ottla
    #[arg(long)]
    pub sasl: bool,
    /// A configuration file; without it none is read
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Brokers {
    /// The Kafka cluster: host:port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    pub brokers: String,
}

#[derive(Debug, Args)]
pub(crate) struct Consume {
    /// The topic to read
    pub topic: String,
    /// Begin with the first record there is, and end with the last (see --follow)
    #[arg(long)]
    pub from_beginning: bool,
    /// Wait for more records; without --from-beginning this is always so
    #[arg(long)]
    pub follow: bool,
    /// Read as a member of this consumer group and commit what was printed
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// End after this many records
    #[arg(long, value_name = "N")]
    pub max_messages: Option<u64>,
    #[command(flatten)]
    pub cluster: Brokers,
}

#[derive(Debug, Args)]
pub(crate) struct Groups {
    /// One group, with its members and its lag per partition
    pub group: Option<String>,
    #[command(flatten)]
    pub cluster: Brokers,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether the configuration is right
    Check(Serve),
    /// Print every key with the value that holds; secrets are not printed
    Show(Serve),
}

#[derive(Debug, Args)]
pub(crate) struct Healthcheck {
    /// Where HTTP is served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
}
