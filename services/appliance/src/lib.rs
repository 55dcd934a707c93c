//! The appliance: the one program of Ottla, which starts the broker and the services and is its command line.
//!
//! Invariants: the order of a start is storage, broker, services, and HTTP listens before all of them, so that
//! `/readyz` can tell what is still missing; the order of a stop is HTTP, services, broker, storage, within a second;
//! a service that fails is started again after a pause that doubles, and the broker does not notice; a configuration
//! or an environment that is refused ends with exit code 64, anything else that fails with 1.
//!
//! Absent on purpose: rules of any kind. What a request means is decided in the services and in the broker.

mod board;
mod cli;
mod client;
mod doctor;
mod dump;
mod host;
mod http;
mod key;
mod log;
mod metrics;
mod node;
mod notify;
mod serve;
mod services;
mod supervise;
mod table;
mod watchdog;
mod worker;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use config::{ConfigError, Flags, Settings, Sources};

use cli::{Cli, Command, ConfigCommand, Data, DumpCommand, Serve};

/// Why a command ended without success; the text is one sentence for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was asked for cannot be done on this machine as it is configured: exit code 64, not worth another try.
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Failed(String),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// The exit code for a configuration that is refused: `EX_USAGE`.
const USAGE: u8 = 64;

/// Runs the program with the arguments and the environment of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            return error.print().map_or(ExitCode::FAILURE, |()| code);
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure);
            match failure {
                Failure::Refused(_) => ExitCode::from(USAGE),
                Failure::Failed(_) => ExitCode::FAILURE,
            }
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(command) => serve::serve(&settings(&command)?, None),
        Command::Worker(command) => worker::worker(&command),
        Command::Consume(command) => client::consume(&command),
        Command::Groups(command) => client::groups(&command),
        Command::Config { command: ConfigCommand::Check(command) } => {
            settings(&command)?;
            client::print("The configuration is right.\n").map(drop)
        }
        Command::Config { command: ConfigCommand::Show(command) } => {
            client::print(&config::show(&settings(&command)?)).map(drop)
        }
        Command::Doctor(command) => doctor::doctor(&of_data(&command.data)?, command.repair),
        Command::Dump { command } => match command {
            DumpCommand::Journal(data) => dump::journal(&of_data(&data)?),
            DumpCommand::Checkpoint(data) => dump::checkpoint(&of_data(&data)?),
            DumpCommand::Partition(command) => dump::partition(&of_data(&command.data)?, &command),
        },
        Command::Healthcheck(command) => {
            host::runtime()?.block_on(client::healthcheck(command.http))
        }
        Command::Version => {
            client::print(concat!("ottla ", env!("CARGO_PKG_VERSION"), "\n")).map(drop)
        }
    }
}

/// The configuration of a command that only looks at files.
fn of_data(data: &Data) -> Result<Settings, Failure> {
    let flags = Flags { data_dir: data.data_dir.clone(), ..Flags::default() };
    load(data.config.clone(), flags)
}

fn settings(command: &Serve) -> Result<Settings, Failure> {
    let flags = Flags {
        data_dir: command.data_dir.clone(),
        kafka: command.kafka.clone(),
        http: command.http,
        ..Flags::default()
    };
    load(command.config.clone(), flags)
}

fn load(file: Option<PathBuf>, flags: Flags) -> Result<Settings, Failure> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    let environment = std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    Ok(config::load(&Sources { file, environment, flags })?)
}

/// The last words of a command that failed; if nobody reads standard error, the exit code has to do.
fn complain(failure: &Failure) {
    writeln!(std::io::stderr(), "ottla: {failure}").unwrap_or_default();
}
