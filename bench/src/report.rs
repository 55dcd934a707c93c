//! The table: medians of all rounds, Ottla beside its peer and beside the physical limit.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use crate::time::median;

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

    /// Prints a Markdown table; behind each peer's figure its ratio to Ottla's: Ottla / peer.
    pub(crate) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "| | {} |", self.columns.join(" | "))?;
        writeln!(out, "|---|{}", "---|".repeat(self.columns.len()))?;
        for row in &self.rows {
            let ottla = self.cell(row, "Ottla");
            let cells: Vec<String> = self
                .columns
                .iter()
                .map(|column| match (self.cell(row, column), ottla) {
                    (Some(value), Some(ottla)) if *column != "Ottla" => {
                        format!("{value:.2} ({:.2})", ottla / value)
                    }
                    (Some(value), _) => format!("{value:.2}"),
                    (None, _) => "-".to_owned(),
                })
                .collect();
            writeln!(out, "| {row} | {} |", cells.join(" | "))?;
        }
        writeln!(out, "\nIn parentheses: Ottla's figure divided by that column's.")
    }

    fn cell(&self, row: &str, column: &'static str) -> Option<f64> {
        self.cells.get(&(row.to_owned(), column)).map(|values| median(values.clone()))
    }
}
