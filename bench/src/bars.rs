//! What the figures are held against: each bar of the project, met or missed and by how much.

use std::io::{self, Write};

use crate::{
    peer::{APPLIANCE, KAFKA, KAFKA_FLUSH, OTTLA},
    report::{Report, figure},
    row,
};

pub(crate) const LIMIT: &str = "physical limit";

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
enum Bar {
    /// At least so many times what the column shows in the same row.
    TimesOf(f64, &'static str),
    /// At most so many times what this column shows in another row.
    TimesRow(f64, &'static str),
    /// At most this.
    AtMost(f64),
    /// At most so many syncs of this machine's disk, and so many milliseconds more.
    Syncs(f64, f64),
}

const BARS: &[(&str, &str, Bar)] = &[
    (row::PRODUCE, OTTLA, Bar::TimesOf(1.0, KAFKA)),
    (row::PRODUCE_CPU, OTTLA, Bar::AtMost(1.2)),
    (row::CONSUME, OTTLA, Bar::TimesOf(1.0, KAFKA)),
    (row::CONSUME_CPU, OTTLA, Bar::AtMost(0.35)),
    (row::ONE_P50, OTTLA, Bar::Syncs(1.0, 0.15)),
    (row::ONE_P99, OTTLA, Bar::Syncs(3.0, 0.3)),
    (row::END_TO_END_P50, OTTLA, Bar::Syncs(1.0, 0.25)),
    (row::END_TO_END_P99, OTTLA, Bar::Syncs(3.0, 0.4)),
    (row::PRODUCERS_64, OTTLA, Bar::TimesOf(1.3, KAFKA)),
    (row::PRODUCERS_64, OTTLA, Bar::TimesOf(12.0, KAFKA_FLUSH)),
    (row::PRODUCERS_512, OTTLA, Bar::TimesOf(1.3, KAFKA)),
    (row::PRODUCERS_512, OTTLA, Bar::TimesOf(12.0, KAFKA_FLUSH)),
    (row::RAW, OTTLA, Bar::TimesOf(0.6, LIMIT)),
    (row::BESIDE_READER_P99, OTTLA, Bar::TimesRow(1.5, row::ALONE_P99)),
    (row::BESIDE_MANY_P99, OTTLA, Bar::TimesRow(1.1, row::BESIDE_FEW_P99)),
    (row::PEAK, OTTLA, Bar::AtMost(128.0)),
    (row::PEAK, APPLIANCE, Bar::AtMost(128.0)),
    (row::IDLE, OTTLA, Bar::AtMost(24.0)),
    (row::IDLE, APPLIANCE, Bar::AtMost(48.0)),
    (row::CLEAN_START, OTTLA, Bar::AtMost(100.0)),
    (row::KILLED_START, OTTLA, Bar::AtMost(1000.0)),
];

/// Prints a Markdown table of the bars for which there are figures.
pub(crate) fn print(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "| | figure | bar | |\n|---|---|---|---|")?;
    for (row, column, bar) in BARS {
        let measured = report.cell(row, column);
        let (Some(value), Some((bar, text))) = (measured, bar.limit(report, row, column)) else {
            continue;
        };
        let name =
            if *column == APPLIANCE { format!("{row}, all services") } else { (*row).to_owned() };
        let verdict = verdict(value, bar);
        writeln!(out, "| {name} | {} | {text} | {verdict} |", figure(value))?;
    }
    Ok(())
}

/// The least or the most that is right.
#[derive(Clone, Copy, Debug)]
enum Limit {
    Least(f64),
    Most(f64),
}

impl Bar {
    fn limit(self, report: &Report, row: &str, own: &'static str) -> Option<(Limit, String)> {
        match self {
            Self::TimesOf(times, column) => {
                let least = times * report.cell(row, column)?;
                Some((Limit::Least(least), format!("≥ {} ({times} x {column})", figure(least))))
            }
            Self::TimesRow(times, other) => {
                let most = times * report.cell(other, own)?;
                Some((Limit::Most(most), format!("≤ {} ({times} x {other})", figure(most))))
            }
            Self::AtMost(most) => Some((Limit::Most(most), format!("≤ {}", figure(most)))),
            Self::Syncs(syncs, more) => {
                let most = syncs * report.cell(row::ONE_P50, LIMIT)? + more;
                let text = format!("≤ {} ({syncs} syncs + {more})", figure(most));
                Some((Limit::Most(most), text))
            }
        }
    }
}

fn verdict(value: f64, limit: Limit) -> String {
    let share = match limit {
        Limit::Least(least) => value / least,
        Limit::Most(most) => most / value,
    };
    if share >= 1.0 {
        return "met".to_owned();
    }
    match limit {
        Limit::Least(_) => format!("**missed**: {:.0} % of it", share * 100.0),
        Limit::Most(_) => format!("**missed**: {:.1} times it", 1.0 / share),
    }
}

#[cfg(test)]
mod tests {
    use super::{LIMIT, print};
    use crate::{
        peer::{KAFKA, OTTLA},
        report::{Figures, Report},
        row,
    };

    fn figures(rows: &[(&str, f64)]) -> Figures {
        let mut figures = Figures::default();
        for (row, value) in rows {
            figures.set(row, *value);
        }
        figures
    }

    #[test]
    fn a_bar_is_met_or_missed_by_how_much() {
        let mut report = Report::default();
        report.add(LIMIT, figures(&[(row::ONE_P50, 0.25)]));
        report.add(KAFKA, figures(&[(row::PRODUCE, 400.0)]));
        let own = [(row::PRODUCE, 300.0), (row::PRODUCE_CPU, 1.0), (row::ONE_P50, 0.5)];
        report.add(OTTLA, figures(&own));
        let mut text = Vec::new();
        print(&report, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| produce acks=all, MB/s | 300 | ≥ 400 (1 x Kafka) | **missed**: 75 % of it |",
                "| broker CPU, produce acks=all, s/GB | 1.00 | ≤ 1.20 | met |",
                "| one in flight acks=all p50, ms | 0.50 | ≤ 0.40 (1 syncs + 0.15) | **missed**: 1.2 times it |",
            ]
        );
    }
}
