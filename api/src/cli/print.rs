//! Prints messages: values, JSON objects or rows, one message a line.

use std::io::{BufWriter, Write};

use super::{CliError, OutputFormat};
use crate::client::{Handed, Message};

/// What is printed of each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// The value's bytes; an empty line for a tombstone.
    Values,
    /// The message object as the server sent it.
    Json,
    /// Partition, offset, key and value in columns.
    Table,
    /// The same, and of each message how often it was delivered and its receipt.
    Receipts,
}

impl Style {
    /// Values, unless another output was asked for and `--values` was not.
    pub(super) fn choose(values: bool, output: Option<OutputFormat>) -> Self {
        match output {
            _ if values => Self::Values,
            None => Self::Values,
            Some(OutputFormat::Json) => Self::Json,
            Some(OutputFormat::Table) => Self::Table,
        }
    }
}

/// Prints messages to a buffered writer.
pub(super) struct Printer<W: Write> {
    out: BufWriter<W>,
    style: Style,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, style: Style) -> Result<Self, CliError> {
        let mut out = BufWriter::with_capacity(256 * 1024, out);
        match style {
            Style::Table => writeln!(out, "{:>9}  {:>12}  {:<24}  VALUE", "PARTITION", "OFFSET", "KEY")?,
            Style::Receipts => {
                let (partition, offset, delivery, receipt) = ("PARTITION", "OFFSET", "DELIVERY", "RECEIPT");
                writeln!(out, "{partition:>9}  {offset:>12}  {delivery:>8}  {receipt:<82}  {:<24}  VALUE", "KEY")?;
            }
            Style::Values | Style::Json => {}
        }
        Ok(Self { out, style })
    }

    /// Prints one message object.
    pub(super) fn message(&mut self, json: &[u8]) -> Result<(), CliError> {
        if self.style == Style::Json {
            self.out.write_all(json)?;
            self.out.write_all(b"\n")?;
            return Ok(());
        }
        let broken = |why: String| CliError::Failed(format!("a message of the answer was not understood: {why}"));
        let message = Message::parse(json).map_err(|e| broken(e.to_string()))?;
        let value = message.value().map_err(|e| broken(e.to_string()))?;
        if self.style == Style::Values {
            self.out.write_all(value.as_deref().unwrap_or_default())?;
            self.out.write_all(b"\n")?;
            return Ok(());
        }
        let key = message.key().map_err(|e| broken(e.to_string()))?;
        let key = key.map_or_else(|| "-".to_owned(), |key| printable(&key));
        let value = value.map_or_else(|| "(tombstone)".to_owned(), |value| printable(&value));
        write!(self.out, "{:>9}  {:>12}  ", message.partition, message.offset)?;
        if self.style == Style::Receipts {
            let handed = Handed::parse(json).map_err(|e| broken(e.to_string()))?;
            write!(self.out, "{:>8}  {:<82}  ", handed.delivery_count, handed.receipt)?;
        }
        writeln!(self.out, "{key:<24}  {value}")?;
        Ok(())
    }

    /// Hands everything printed so far to the reader.
    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        Ok(self.out.flush()?)
    }
}

/// Text that keeps to its line and does nothing to a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.chars().any(char::is_control) { text.escape_debug().to_string() } else { text.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::{Printer, Style};

    fn printed(style: Style, messages: &[&str]) -> String {
        let mut out = Vec::new();
        let mut printer = Printer::new(&mut out, style).unwrap();
        for message in messages {
            printer.message(message.as_bytes()).unwrap();
        }
        printer.flush().unwrap();
        drop(printer);
        String::from_utf8(out).unwrap()
    }

    const ONE: &str = r#"{"partition":0,"offset":7,"key":"k","value":"a\tb","headers":{},"timestamp":1}"#;
    const GONE: &str = r#"{"partition":0,"offset":8,"key":"k","value":null,"headers":{},"timestamp":1}"#;

    #[test]
    fn every_style_prints_one_line_a_message() {
        assert_eq!(printed(Style::Values, &[ONE, GONE]), "a\tb\n\n");
        assert_eq!(printed(Style::Json, &[ONE]), format!("{ONE}\n"));
        let table = printed(Style::Table, &[ONE, GONE]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].ends_with(r"a\tb"), "{table}");
        assert!(lines[2].ends_with("(tombstone)"), "{table}");
        let delivered = ONE.replace(r#""timestamp":1"#, r#""timestamp":1,"receipt":"abc","delivery_count":2"#);
        let table = printed(Style::Receipts, &[&delivered]);
        assert!(table.lines().nth(1).is_some_and(|line| line.contains(" 2  abc ")), "{table}");
    }
}
