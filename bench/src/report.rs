//! The table: medians of all rounds, Ottla beside its peers and beside the physical limit.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use crate::{peer::OTTLA, time::median};

/// The figures of one turn, in the order they were taken.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<(String, f64)>);

impl Figures {
    pub(crate) fn set(&mut self, name: &str, value: f64) {
        self.0.push((name.to_owned(), value));
    }
}

/// The figures of all turns.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Row names in the order they first appeared.
    rows: Vec<String>,
    columns: Vec<&'static str>,
    cells: BTreeMap<(String, &'static str), Vec<f64>>,
    notes: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, column: &'static str, figures: Figures) {
        if !self.columns.contains(&column) {
            self.columns.push(column);
        }
        for (row, value) in figures.0 {
            if !self.rows.contains(&row) {
                self.rows.push(row.clone());
            }
            self.cells.entry((row, column)).or_default().push(value);
        }
    }

    /// A sentence below the table: what could not be measured, and why.
    pub(crate) fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Prints a Markdown table; behind each peer's figure its ratio to Ottla's: Ottla / peer.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "| | {} |", self.columns.join(" | "))?;
        writeln!(out, "|---|{}", "---|".repeat(self.columns.len()))?;
        for row in &self.rows {
            let ottla = self.cell(row, OTTLA);
            let cells: Vec<String> = self
                .columns
                .iter()
                .map(|column| match (self.cell(row, column), ottla) {
                    (Some(value), Some(ottla)) if *column != OTTLA => {
                        format!("{} ({:.2})", figure(value), ottla / value)
                    }
                    (Some(value), _) => figure(value),
                    (None, _) => "-".to_owned(),
                })
                .collect();
            writeln!(out, "| {row} | {} |", cells.join(" | "))?;
        }
        writeln!(out, "\nIn parentheses: Ottla's figure divided by that column's.")?;
        if !self.notes.is_empty() {
            writeln!(out)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(out, "- {note}"))
    }

    /// The median; none if it was not measured.
    pub(crate) fn cell(&self, row: &str, column: &'static str) -> Option<f64> {
        self.cells.get(&(row.to_owned(), column)).map(|values| median(values.clone()))
    }
}

/// With as many digits as a reader compares.
pub(crate) fn figure(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a figure for a table")]
pub(crate) fn number(value: u64) -> f64 {
    value as f64
}

pub(crate) fn megabytes(bytes: u64) -> f64 {
    number(bytes) / 1e6
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a size that follows from the command line; `as` saturates"
)]
pub(crate) fn whole(value: f64) -> u32 {
    value as u32
}
