//! The loop of the writer. It has a thread of its own, because librdkafka's transaction calls block.

use std::collections::HashSet;

use super::{Batch, Broken, Log, NotOpen, Patience, Submitted, Surroundings, batch::Failure};
use crate::{
    failpoint,
    tx::{Changes, Tx},
    view::read,
};

/// Whether the log takes transactions after a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    Yes,
    /// [`Writer::open`] comes before the next round.
    No,
    /// Another writer took over.
    Fenced,
}

/// Plans, commits, applies, answers.
pub(crate) struct Writer<L> {
    surroundings: Surroundings,
    log: L,
}

impl<L: Log> Writer<L> {
    pub(crate) fn new(surroundings: Surroundings, log: L) -> Self {
        Self { surroundings, log }
    }

    /// One round: these commands share a transaction.
    pub(crate) fn step(&mut self, mut commands: Vec<Submitted>) -> Open {
        let (batch, accepted) = self.plan(&mut commands);
        match self.commit(&batch) {
            Ok(()) => {
                answer(commands);
                Open::Yes
            }
            Err(Broken::Aborted) => self.each_alone(commands),
            Err(broken) => self.give_up(commands, &accepted, broken),
        }
    }

    /// Opens the log while nobody waits for an outcome.
    pub(crate) fn open(&mut self) -> Result<(), NotOpen> {
        self.log.open(&HashSet::new(), Patience::Nobody).map(drop)
    }

    pub(crate) fn close(&mut self) {
        self.log.close();
    }

    /// After an abort: once more, one by one, so that a bad neighbour harms nobody.
    fn each_alone(&mut self, commands: Vec<Submitted>) -> Open {
        let mut open = Open::Yes;
        // What was consumed after something that failed must not be committed before it.
        let mut consumption_failed = false;
        for command in commands {
            let consumes = command.consumed.is_some();
            if open != Open::Yes || consumes && consumption_failed {
                command.refuse();
                continue;
            }
            let mut alone = vec![command];
            let (batch, accepted) = self.plan(&mut alone);
            match self.commit(&batch) {
                Ok(()) => answer(alone),
                Err(Broken::Aborted) => {
                    consumption_failed |= consumes;
                    refuse(alone, &accepted, Failure::NotCommitted);
                }
                Err(broken) => open = self.give_up(alone, &accepted, broken),
            }
        }
        open
    }

    /// The log is closed: whoever can be answered is.
    fn give_up(
        &mut self,
        commands: Vec<Submitted>,
        accepted: &HashSet<String>,
        broken: Broken,
    ) -> Open {
        match broken {
            Broken::Unknown => self.settle(commands, accepted),
            Broken::Closed | Broken::Aborted => {
                refuse(commands, accepted, Failure::NotCommitted);
                Open::No
            }
            Broken::Fenced => {
                self.log.close();
                refuse(commands, accepted, Failure::Unknown);
                Open::Fenced
            }
        }
    }

    /// Reads the log to its end and answers by the command ids found there; if there are none, all are planned again.
    fn settle(&mut self, commands: Vec<Submitted>, accepted: &HashSet<String>) -> Open {
        match self.log.open(accepted, Patience::Callers) {
            Err(_) => {
                refuse(commands, accepted, Failure::Unknown);
                Open::No
            }
            Ok(found) if found.is_empty() => self.each_alone(commands),
            Ok(_) => {
                answer(commands);
                Open::Yes
            }
        }
    }

    /// Plans all commands one after the other. Gives the transaction and the ids of those that are part of it.
    fn plan(&self, commands: &mut [Submitted]) -> (Batch, HashSet<String>) {
        let Surroundings { view, clock, .. } = &self.surroundings;
        let (mut batch, mut neighbours) = (Batch::default(), Changes::default());
        let mut accepted = HashSet::new();
        for command in commands {
            let mut tx = Tx::new(view, &neighbours, clock.now(), command.cause.clone());
            let is_accepted = command.plan(&mut tx);
            let own = if is_accepted { tx.own } else { Changes::default() };
            // What a plan consumed that has failed is to be read again.
            let consumed = command.consumed.clone().filter(|_| is_accepted);
            if !own.is_empty() || consumed.is_some() {
                accepted.insert(command.id.clone());
            }
            batch.consumed.extend(consumed);
            neighbours.absorb(Changes { rows: own.rows.clone(), records: Vec::new() });
            batch.planned.push((command.id.clone(), own));
        }
        (batch, accepted)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), Broken> {
        if batch.is_empty() {
            return Ok(());
        }
        let positions = self.log.commit(batch)?;
        failpoint::hit("view");
        let rows = batch.planned.iter().flat_map(|(_, changes)| &changes.rows);
        let changes = rows.map(|((table, key), change)| (*table, key.clone(), change.clone()));
        let Surroundings { view, tables, .. } = &self.surroundings;
        read(view.0.apply(changes, positions, |table, value| indexes_of(tables, table, value)));
        failpoint::hit("answer");
        Ok(())
    }
}

/// The index keys of a row that is in the view.
pub(crate) fn indexes_of(
    tables: &crate::Tables,
    table: &str,
    value: &[u8],
) -> Vec<(&'static str, String)> {
    tables
        .find(table)
        .and_then(|table| (table.restore)(value).ok())
        .map(|stored| stored.indexes)
        .unwrap_or_default()
}

fn answer(commands: Vec<Submitted>) {
    for command in commands {
        command.answer(Ok(()));
    }
}

/// Those that were part of the transaction failed with it. The others' answers may rest on it, and so they failed too;
/// but of them it is certain that they changed nothing.
fn refuse(commands: Vec<Submitted>, accepted: &HashSet<String>, failure: Failure) {
    for command in commands {
        let own = if accepted.contains(&command.id) { failure } else { Failure::NotCommitted };
        command.answer(Err(own));
    }
}
