//! The program that is killed: a process of its own that is started on the same directory again and again.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::time::{DEADLINE, Stopwatch, eventually, pause};
use crate::verdict::Failure;

/// What a start is about.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) program: PathBuf,
    pub(crate) data_dir: PathBuf,
    /// Beside the data, on a disk that forgets nothing.
    pub(crate) log: PathBuf,
    pub(crate) environment: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Subject {
    setup: Setup,
    port: u16,
    child: Option<Child>,
    /// How much of the log has been looked at.
    log_read: u64,
}

impl Subject {
    pub(crate) fn new(setup: Setup) -> Self {
        Self { setup, port: free_port(), child: None, log_read: 0 }
    }

    pub(crate) fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.setup.data_dir
    }

    /// Starts the process without waiting for it.
    pub(crate) fn launch(&mut self) {
        let log = OpenOptions::new().create(true).append(true).open(&self.setup.log).unwrap();
        let mut command = Command::new(&self.setup.program);
        for (name, _) in std::env::vars() {
            if name.starts_with("OTTLA") || name == "KAFKA_BROKERS" || name == "NOTIFY_SOCKET" {
                command.env_remove(name);
            }
        }
        for service in ["AUTH", "TASK", "NOTIFICATION"] {
            command.env(format!("OTTLA__SERVICES__{service}__ENABLED"), "false");
        }
        command
            .env("OTTLA__LOG__FORMAT", "json")
            .env("OTTLA__LOG__LEVEL", "info,server::handlers::end_txn=debug")
            .envs(self.setup.environment.iter().map(|(name, value)| (name, value)))
            .arg("serve")
            .arg("--data-dir")
            .arg(&self.setup.data_dir)
            .args(["--kafka", &self.brokers()])
            .args(["--http", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.child = Some(
            command
                .spawn()
                .unwrap_or_else(|error| panic!("{}: {error}", self.setup.program.display())),
        );
    }

    /// Whether it took connections in time, and before it ended by itself.
    pub(crate) fn wait_ready_or_ended(&mut self) -> bool {
        let waiting = Stopwatch::start();
        loop {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            if self.has_ended() || waiting.elapsed() > DEADLINE {
                return false;
            }
            pause(Duration::from_millis(1));
        }
    }

    /// Whether it ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// SIGKILL: nothing of the process gets a last word. Fails if something else ended it.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        let had_ended = self.has_ended();
        let status = self.end();
        if had_ended || status.and_then(|status| status.signal()) != Some(Signal::KILL.as_raw()) {
            return Err(Failure::EndedByItself(self.obituary(status)));
        }
        Ok(())
    }

    /// The process is no more; how it ended, if there was one.
    pub(crate) fn end(&mut self) -> Option<ExitStatus> {
        let mut child = self.child.take()?;
        child.kill().unwrap();
        Some(child.wait().unwrap())
    }

    /// How it ended and what it said.
    pub(crate) fn obituary(&self, status: Option<ExitStatus>) -> String {
        let how = status.map_or_else(|| "no process".to_owned(), |status| status.to_string());
        let words = self.last_words().unwrap_or_default();
        format!("{how}: {words}\n{}", self.tail())
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::TERM).unwrap();
        eventually("the process to stop", || child.try_wait().unwrap())
    }

    /// The lines that were logged since the last call.
    pub(crate) fn new_lines(&mut self) -> Vec<String> {
        let mut file = File::open(&self.setup.log).unwrap();
        file.seek(SeekFrom::Start(self.log_read)).unwrap();
        let mut text = Vec::new();
        file.read_to_end(&mut text).unwrap();
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        text.truncate(whole);
        self.log_read += u64::try_from(whole).unwrap();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// The last that it logged as an error or said when it ended, of what nobody has looked at yet.
    pub(crate) fn last_words(&self) -> Option<String> {
        let is_word =
            |line: &&str| line.starts_with("ottla: ") || line.contains("\"level\":\"ERROR\"");
        self.unread().lines().rfind(is_word).map(str::to_owned)
    }

    /// Whether it is in the midst of a start: it has opened its journal, and is not ready yet.
    pub(crate) fn is_starting(&self) -> bool {
        let Some(child) = &self.child else { return false };
        let journal = self.setup.data_dir.join("journal");
        let open = std::fs::read_dir(format!("/proc/{}/fd", child.id())).into_iter().flatten();
        let mut open = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        open.any(|file| file.starts_with(&journal)) && !self.is_ready()
    }

    /// It said in this life that it is.
    pub(crate) fn is_ready(&self) -> bool {
        self.unread().contains("Ready after ")
    }

    /// What it logged since anybody looked, which is this life's.
    fn unread(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(&self.setup.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.log_read))?;
            file.read_to_end(&mut text)
        });
        if read.is_err() {
            text.clear();
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    pub(crate) fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.setup.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.end();
    }
}

/// A free port below those that the system gives to outgoing connections, so that it is free after a restart.
fn free_port() -> u16 {
    let start = 16_000 + u16::try_from(std::process::id() % 4_000).unwrap();
    let mut ports = (start..start + 12_000).step_by(7);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
