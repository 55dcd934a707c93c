//! The brokers under test: how each is started, found ready and stopped.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{page_cache, raw::topic, time::Stopwatch};

/// How long a peer may take until it accepts its first record, also with much to recover.
const START_DEADLINE: Duration = Duration::from_mins(3);
/// How long a clean stop may take.
const STOP_DEADLINE: Duration = Duration::from_mins(1);

/// Which broker is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This project's broker alone.
    Ottla,
    /// The same program with all its services.
    Appliance,
    /// Apache Kafka as shipped: one node, 1 GB heap, never synced.
    Kafka,
    /// The same, with every record synced before it is acknowledged.
    KafkaFlush,
    TansuMemory,
    TansuSqlite,
}

/// All of them: the name on the command line, and that in the table.
const KINDS: &[(Kind, &str, &str)] = &[
    (Kind::Ottla, "ottla", OTTLA),
    (Kind::Appliance, "appliance", APPLIANCE),
    (Kind::Kafka, "kafka", KAFKA),
    (Kind::KafkaFlush, "kafka-flush", KAFKA_FLUSH),
    (Kind::TansuMemory, "tansu-memory", "Tansu, memory"),
    (Kind::TansuSqlite, "tansu-sqlite", "Tansu, SQLite"),
];
pub(crate) const OTTLA: &str = "Ottla";
pub(crate) const APPLIANCE: &str = "Ottla, all services";
pub(crate) const KAFKA: &str = "Kafka";
pub(crate) const KAFKA_FLUSH: &str = "Kafka, flush 1";

impl Kind {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(kind, _, _)| *kind)
    }

    pub(crate) fn from_option(name: &str) -> Option<Self> {
        KINDS.iter().find(|(_, option, _)| *option == name).map(|(kind, _, _)| *kind)
    }

    pub(crate) fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, _, _)| *kind == self).map_or("", |(_, _, name)| name)
    }

    /// Whether its code is compiled while it runs, so that its first seconds say little.
    pub(crate) fn is_java(self) -> bool {
        matches!(self, Self::Kafka | Self::KafkaFlush)
    }

    /// Whether a restart finds what was written.
    pub(crate) fn keeps_records(self) -> bool {
        self != Self::TansuMemory
    }
}

/// Where the peers' programs are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) ottla: PathBuf,
    pub(crate) kafka_libs: PathBuf,
    pub(crate) tansu: PathBuf,
}

impl Programs {
    /// What to do to have the peer, if it is not there.
    pub(crate) fn missing(&self, kind: Kind) -> Option<&'static str> {
        let (path, advice) = match kind {
            Kind::Ottla | Kind::Appliance => {
                (&self.ottla, "build it first: cargo build --release --workspace")
            }
            Kind::Kafka | Kind::KafkaFlush => (&self.kafka_libs, "bench/fetch-kafka fetches it"),
            Kind::TansuMemory | Kind::TansuSqlite => {
                (&self.tansu, "bench/fetch-tansu builds it, in ten minutes or more")
            }
        };
        (!path.exists()).then_some(advice)
    }
}

/// How a peer is ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Clean,
    Kill,
}

/// A started broker; stopped and its directory removed when dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    command: Command,
    directory: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) brokers: String,
    /// Where its HTTP API listens, for the one that has one.
    pub(crate) http: Option<String>,
    /// From exec to the first accepted record.
    pub(crate) ready_after: Duration,
}

impl Peer {
    /// Starts it on an empty directory.
    pub(crate) fn start(kind: Kind, programs: &Programs, directory: &Path) -> io::Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
        let (kafka, other) = (free_port()?, free_port()?);
        let ports = Ports { kafka, other };
        let mut command = match kind {
            Kind::Ottla | Kind::Appliance => ottla(kind, programs, directory, ports),
            Kind::Kafka | Kind::KafkaFlush => apache_kafka(kind, programs, directory, ports)?,
            Kind::TansuMemory | Kind::TansuSqlite => tansu(kind, programs, directory, ports),
        };
        let log = File::create(directory.join("peer.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = Stopwatch::start();
        let child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{command:?}: {error}")))?;
        let mut peer = Self {
            child,
            command,
            directory: directory.to_owned(),
            kind,
            brokers: format!("127.0.0.1:{kafka}"),
            http: (kind == Kind::Appliance).then(|| format!("http://127.0.0.1:{other}")),
            ready_after: Duration::ZERO,
        };
        peer.wait_ready(started)?;
        Ok(peer)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Takes its files out of the page cache.
    pub(crate) fn evict(&self) -> io::Result<()> {
        page_cache::evict(&self.directory)
    }

    /// What the file system of its directory has left.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.directory)?;
        Ok(found.f_bavail * found.f_frsize)
    }

    /// Ends it and starts it on what it left; `ready_after` is that of the new start.
    pub(crate) fn restart(&mut self, ending: Ending) -> io::Result<()> {
        let signal = match ending {
            Ending::Clean => Signal::TERM,
            Ending::Kill => Signal::KILL,
        };
        kill_process(Pid::from_child(&self.child), signal)?;
        let stopping = Stopwatch::start();
        while self.child.try_wait()?.is_none() {
            if stopping.elapsed() > STOP_DEADLINE {
                self.child.kill()?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let started = Stopwatch::start();
        self.child = self.command.spawn()?;
        self.wait_ready(started)
    }

    fn wait_ready(&mut self, started: Stopwatch) -> io::Result<()> {
        topic::first_record(&self.brokers, START_DEADLINE)?;
        self.ready_after = started.elapsed();
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A peer that is already gone cannot be killed or waited for; the run's figures are printed all the same.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
        fs::remove_dir_all(&self.directory).unwrap_or_default();
    }
}

/// Its own, and one more: for HTTP, or for Kafka's controller.
#[derive(Clone, Copy, Debug)]
struct Ports {
    kafka: u16,
    other: u16,
}

fn ottla(kind: Kind, programs: &Programs, directory: &Path, ports: Ports) -> Command {
    let mut command = Command::new(&programs.ottla);
    command
        .arg("serve")
        .arg("--data-dir")
        .arg(directory.join("data"))
        .args(["--kafka", &format!("127.0.0.1:{}", ports.kafka)])
        .args(["--http", &format!("127.0.0.1:{}", ports.other)])
        // As its systemd unit does.
        .env("MALLOC_ARENA_MAX", "2");
    for service in ["AUTH", "TASK", "NOTIFICATION"] {
        if kind == Kind::Ottla {
            command.env(format!("OTTLA__SERVICES__{service}__ENABLED"), "false");
        } else {
            // Without ports of their own, for another appliance may have those.
            command.env(format!("OTTLA__SERVICES__{service}__PORT"), "0");
        }
    }
    command
}

fn apache_kafka(
    kind: Kind,
    programs: &Programs,
    directory: &Path,
    ports: Ports,
) -> io::Result<Command> {
    let properties = directory.join("server.properties");
    let (kafka, controller) = (ports.kafka, ports.other);
    let flush = if kind == Kind::KafkaFlush { "log.flush.interval.messages=1\n" } else { "" };
    fs::write(
        &properties,
        format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n\
             log.segment.delete.delay.ms=1000\n{flush}",
            directory.join("data").display()
        ),
    )?;
    let class_path = format!("{}/*", programs.kafka_libs.display());
    let formatted = Command::new("java")
        .args(["-cp", &class_path, "kafka.tools.StorageTool", "format", "--standalone"])
        .args(["-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"])
        .arg(&properties)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !formatted.success() {
        return Err(io::Error::other("kafka.tools.StorageTool could not format the directory"));
    }
    let mut command = Command::new("java");
    command
        .args(["-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"])
        .args(["-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"])
        .args(["-cp", &class_path, "kafka.Kafka"])
        .arg(&properties);
    Ok(command)
}

fn tansu(kind: Kind, programs: &Programs, directory: &Path, ports: Ports) -> Command {
    let address = format!("tcp://127.0.0.1:{}", ports.kafka);
    let storage = match kind {
        Kind::TansuSqlite => format!("sqlite://{}", directory.join("tansu.db").display()),
        _ => "memory://tansu/".to_owned(),
    };
    let mut command = Command::new(&programs.tansu);
    command
        .arg("broker")
        .args(["--listener-url", &address, "--advertised-listener-url", &address])
        .args(["--storage-engine", &storage])
        .env("RUST_LOG", "warn");
    command
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
