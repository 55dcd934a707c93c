//! Where log lines go: to standard error, for people on a terminal, as JSON otherwise.

use std::io::{IsTerminal, Write, stderr};

use config::{Log, LogFormat};
use tracing_subscriber::EnvFilter;

use crate::Failure;

/// How the program talks while it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Voice {
    human: bool,
}

impl Voice {
    /// A sentence for whoever started the program: as it is on a terminal, as a log line otherwise.
    pub(crate) fn say(self, sentence: &str) {
        if self.human {
            // Without a reader of standard error there is nobody left to tell.
            writeln!(stderr(), "{sentence}").unwrap_or_default();
        } else {
            tracing::info!("{sentence}");
        }
    }
}

pub(crate) fn start(log: &Log) -> Result<Voice, Failure> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| {
        let level = &log.level;
        Failure::Refused(format!(
            "`log.level` is \"{level}\", which is no level ({error}); write for example info or \"info,storage=debug\""
        ))
    })?;
    let human = match log.format {
        LogFormat::Auto => stderr().is_terminal(),
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    if human {
        builder.compact().with_ansi(stderr().is_terminal()).init();
    } else {
        builder.json().flatten_event(true).init();
    }
    Ok(Voice { human })
}
