//! The brokers under test: how each is started, found ready and stopped.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{load, time::Stopwatch};

/// How long a peer may take until it accepts its first record.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// Which broker is measured.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// This project's program with all its services.
    Ottla { program: PathBuf },
    /// Apache Kafka as shipped: one node, 1 GB heap, never synced.
    Kafka { libs: PathBuf },
}

impl Kind {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ottla { .. } => "Ottla",
            Self::Kafka { .. } => "Apache Kafka 4.3.1",
        }
    }
}

/// A started broker; stopped and its directory removed when dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    directory: PathBuf,
    pub(crate) brokers: String,
    /// Where its HTTP API listens, for the one that has one.
    pub(crate) http: Option<String>,
    /// From exec to the first accepted record.
    pub(crate) ready_after: Duration,
}

impl Peer {
    pub(crate) fn start(kind: &Kind, directory: &Path) -> io::Result<Self> {
        if directory.exists() {
            fs::remove_dir_all(directory)?;
        }
        fs::create_dir_all(directory)?;
        let (kafka, other) = (free_port()?, free_port()?);
        let brokers = format!("127.0.0.1:{kafka}");
        let mut command = match kind {
            Kind::Ottla { program } => ottla(program, directory, kafka, other),
            Kind::Kafka { libs } => apache_kafka(libs, directory, kafka, other)?,
        };
        let log = fs::File::create(directory.join("peer.log"))?;
        let started = Stopwatch::start();
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{command:?}: {error}")))?;
        let http = matches!(kind, Kind::Ottla { .. }).then(|| format!("http://127.0.0.1:{other}"));
        let mut peer = Self {
            child,
            directory: directory.to_owned(),
            brokers,
            http,
            ready_after: Duration::ZERO,
        };
        load::first_record(&peer.brokers, START_DEADLINE)?;
        peer.ready_after = started.elapsed();
        Ok(peer)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
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

fn ottla(program: &Path, directory: &Path, kafka: u16, http: u16) -> Command {
    let mut command = Command::new(program);
    command
        .arg("serve")
        .arg("--data-dir")
        .arg(directory.join("data"))
        .args(["--kafka", &format!("127.0.0.1:{kafka}")])
        .args(["--http", &format!("127.0.0.1:{http}")]);
    command
}

fn apache_kafka(libs: &Path, directory: &Path, kafka: u16, controller: u16) -> io::Result<Command> {
    let properties = directory.join("server.properties");
    fs::write(
        &properties,
        format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{kafka},CONTROLLER://127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n",
            directory.join("data").display()
        ),
    )?;
    let class_path = format!("{}/*", libs.display());
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

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
