//! Tables for people, JSON for programs.

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;

use super::CliError;

/// Format of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For programs: one JSON document, or one object a line where there may be many.
    Json,
}

/// A table without borders; the columns named in `numbers` are aligned to the right.
pub(crate) fn table(header: &[&str], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().enumerate().map(|(i, title)| {
        let cell = Cell::new(title.to_uppercase());
        if numbers.contains(&i) { cell.set_alignment(CellAlignment::Right) } else { cell }
    }));
    for &number in numbers {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Prints a table.
pub(crate) fn print_table(table: &Table) -> Result<(), CliError> {
    Ok(writeln!(io::stdout(), "{}", table.trim_fmt())?)
}

/// Prints a line.
pub(crate) fn print_line(line: impl std::fmt::Display) -> Result<(), CliError> {
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// Prints a JSON document.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| CliError::Failed(e.to_string()))?;
    print_line(text)
}

/// A whole number with separators: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

/// A number of bytes in binary units: `1.50 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    indicatif::BinaryBytes(number).to_string()
}
