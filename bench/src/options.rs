//! The command line.

use std::{env, io, path::PathBuf};

use crate::{
    peer::{Kind, Programs},
    suite::GROUPS,
};

pub(crate) const USAGE: &str = "\
ottla-bench [--quick | --full] [--only GROUP,...] [--peers PEER,...] [--seconds N] [--rounds N]
            [--start-gib N] [--ottla FILE] [--kafka-libs DIR] [--tansu FILE] [--dir DIR]
groups: limit throughput latency producers raw shapes fetch beside transactions start http
peers:  ottla appliance kafka kafka-flush tansu-memory tansu-sqlite
--quick: 5 seconds, 1 round, 1 GiB, without shapes, fetch, beside and transactions; --full: 60 seconds, 3 rounds, 10 GiB";

/// The group that is no peer's.
pub(crate) const LIMIT: &str = "limit";
/// What `--quick` leaves out.
const SLOW: &[&str] = &["shapes", "fetch", "beside", "transactions"];

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Options {
    /// Of each saturating load.
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    /// What a start-up finds.
    pub(crate) start_gib: u64,
    pub(crate) peers: Vec<Kind>,
    pub(crate) programs: Programs,
    pub(crate) directory: PathBuf,
    groups: Vec<String>,
}

impl Options {
    pub(crate) fn from_args(args: impl Iterator<Item = String>) -> io::Result<Self> {
        let default = |fetched: &str, installed: Option<PathBuf>| {
            installed.unwrap_or_else(|| PathBuf::from(fetched))
        };
        let programs = Programs {
            ottla: env::current_exe()?.with_file_name("ottla"),
            kafka_libs: default("target/kafka-libs", env::var_os("KAFKA_LIBS").map(PathBuf::from)),
            tansu: PathBuf::from("target/peers/bin/tansu"),
        };
        let mut options = Self {
            seconds: 10.0,
            rounds: 3,
            start_gib: 10,
            peers: Kind::all().collect(),
            programs,
            directory: PathBuf::from("target/bench"),
            groups: known_groups().map(str::to_owned).collect(),
        };
        options.read(args)?;
        Ok(options)
    }

    fn read(&mut self, mut args: impl Iterator<Item = String>) -> io::Result<()> {
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--quick" => {
                    (self.seconds, self.rounds, self.start_gib) = (5.0, 1, 1);
                    self.groups.retain(|group| !SLOW.contains(&group.as_str()));
                    continue;
                }
                "--full" => {
                    (self.seconds, self.rounds, self.start_gib) = (60.0, 3, 10);
                    continue;
                }
                _ => {}
            }
            let value = args
                .next()
                .ok_or_else(|| refuse(&format!("{flag} is unknown or needs a value")))?;
            match flag.as_str() {
                "--seconds" => self.seconds = value.parse().map_err(io::Error::other)?,
                "--rounds" => self.rounds = value.parse().map_err(io::Error::other)?,
                "--start-gib" => self.start_gib = value.parse().map_err(io::Error::other)?,
                "--ottla" => self.programs.ottla = value.into(),
                "--kafka-libs" => self.programs.kafka_libs = value.into(),
                "--tansu" => self.programs.tansu = value.into(),
                "--dir" => self.directory = value.into(),
                "--only" => self.groups = groups(&value)?,
                "--peers" => self.peers = peers(&value)?,
                _ => return Err(refuse(&format!("{flag} is unknown"))),
            }
        }
        Ok(())
    }

    pub(crate) fn wants(&self, group: &str) -> bool {
        self.groups.iter().any(|wanted| wanted == group)
    }
}

fn known_groups() -> impl Iterator<Item = &'static str> {
    std::iter::once(LIMIT).chain(GROUPS.iter().map(|group| group.name))
}

fn groups(list: &str) -> io::Result<Vec<String>> {
    list.split(',')
        .map(|name| match known_groups().find(|known| *known == name) {
            Some(known) => Ok(known.to_owned()),
            None => Err(refuse(&format!("there is no group {name}"))),
        })
        .collect()
}

fn peers(list: &str) -> io::Result<Vec<Kind>> {
    list.split(',')
        .map(|name| {
            Kind::from_option(name).ok_or_else(|| refuse(&format!("there is no peer {name}")))
        })
        .collect()
}

fn refuse(why: &str) -> io::Error {
    io::Error::other(format!("{why}\n{USAGE}"))
}

#[cfg(test)]
mod tests {
    use super::{Options, USAGE, known_groups};
    use crate::peer::Kind;

    fn options(args: &[&str]) -> std::io::Result<Options> {
        Options::from_args(args.iter().map(|arg| (*arg).to_owned()))
    }

    #[test]
    fn a_quick_run_leaves_out_what_takes_long() {
        let quick = options(&["--quick", "--seconds", "2"]).unwrap();
        assert!(quick.wants("throughput") && quick.wants("limit") && !quick.wants("shapes"));
        assert_eq!((quick.rounds, quick.start_gib), (1, 1));
        assert!((quick.seconds - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn groups_and_peers_are_chosen_by_name() {
        let chosen = options(&["--only", "raw,start", "--peers", "ottla,kafka-flush"]).unwrap();
        assert!(chosen.wants("raw") && chosen.wants("start") && !chosen.wants("limit"));
        assert_eq!(chosen.peers, [Kind::Ottla, Kind::KafkaFlush]);
        for wrong in [["--only", "speed"], ["--peers", "rabbit"], ["--fast", "1"]] {
            assert!(options(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_usage_names_every_group() {
        for group in known_groups() {
            assert!(USAGE.split_whitespace().any(|word| word == group), "{group}");
        }
    }
}
