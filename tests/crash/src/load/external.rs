//! Producers in other languages: processes that say on their standard output what they sent and what was answered.
//! What they read and print is described in `tests/crash/clients/CrashProducers.java`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::{Producer, Recorder};
use crate::history::{Id, Outcome, PRODUCER_SHIFT, Send, Slot};
use crate::time::pause;

/// How a process is started, and the producers in it.
#[derive(Clone, Debug)]
pub(crate) struct External {
    /// The program and its arguments in front of the broker's address.
    pub(crate) command: Vec<String>,
    pub(crate) directory: PathBuf,
    /// What it says of itself.
    pub(crate) log: PathBuf,
    pub(crate) producers: Vec<Producer>,
}

/// Runs the process until told to stop, and writes down what it says.
pub(crate) fn run_external(brokers: &str, external: &External, recorder: &Recorder) {
    let mut child = start(brokers, external, recorder);
    let said = child.stdout.take().unwrap();
    let mut budget = child.stdin.take().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| listen(said, external, recorder));
        while !recorder.producers_stop() {
            assert!(child.try_wait().unwrap().is_none(), "{:?} ended", external.command);
            writeln!(budget, "{}", recorder.budget()).unwrap();
            pause(Duration::from_millis(2));
        }
        drop(budget);
    });
    child.wait().unwrap();
}

fn start(brokers: &str, external: &External, recorder: &Recorder) -> Child {
    let (program, arguments) = external.command.split_first().unwrap();
    let mut command = Command::new(program);
    command.args(arguments).arg(brokers).current_dir(&external.directory);
    for producer in &external.producers {
        let topic = &recorder.history().topics[producer.topic];
        command.arg(producer.number.to_string()).arg(&topic.name).arg(topic.partitions.to_string());
    }
    let log = File::create(&external.log).unwrap();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn listen(said: ChildStdout, external: &External, recorder: &Recorder) {
    for line in BufReader::new(said).lines() {
        let line = line.unwrap();
        understand(&line, external, recorder).unwrap_or_else(|| panic!("not understood: {line}"));
    }
}

fn understand(line: &str, external: &External, recorder: &Recorder) -> Option<()> {
    let mut words = line.split(' ');
    let what = words.next()?;
    let id: Id = words.next()?.parse().ok()?;
    let producer =
        external.producers.iter().find(|producer| producer.number == id >> PRODUCER_SHIFT)?;
    match what {
        "S" => {
            let partition = words.next()?.parse().ok()?;
            let key = words.next()?.parse().ok()?;
            let transaction = words.next()?.parse().ok();
            let slot = Slot { topic: producer.topic, partition };
            let (acks, once) = (producer.acks, producer.idempotent);
            recorder.sent(id, Send { slot, key, acks, once, transaction });
        }
        "A" => recorder.acked(id, words.next()?.parse().ok()?),
        "E" | "F" => recorder.refused(producer.number, words.next()?, what == "F"),
        "T" => recorder.transaction(
            id,
            match words.next()? {
                "C" => Outcome::Committed,
                "A" => Outcome::Aborted,
                _ => Outcome::Unknown,
            },
        ),
        _ => return None,
    }
    Some(())
}
