//! Formats of files that topics are exported to and imported from.

use std::path::Path;

use clap::ValueEnum;

use super::CliError;

/// Format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// Parquet with the columns of the archive.
    Parquet,
    /// One message object a line.
    Ndjson,
    /// Comma-separated values under a line of names.
    Csv,
}

impl FileFormat {
    /// The format that was asked for, or that the file's name ends in.
    ///
    /// # Errors
    /// When neither says which.
    pub(super) fn choose(asked: Option<Self>, file: &Path) -> Result<Self, CliError> {
        let of = |extension: &str| match extension.to_ascii_lowercase().as_str() {
            "parquet" => Some(Self::Parquet),
            "ndjson" | "jsonl" | "json" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            _ => None,
        };
        let named = file.extension().and_then(|extension| extension.to_str()).and_then(of);
        asked.or(named).ok_or_else(|| CliError::Input {
            message: format!("the name of {} does not tell its format", file.display()),
            hint: "say it with --format parquet, ndjson or csv".to_owned(),
        })
    }
}

/// Columns of a CSV file, in the order in which they are written.
pub(super) const CSV_COLUMNS: [&str; 12] = [
    "partition",
    "offset",
    "timestamp",
    "key",
    "key_encoding",
    "value",
    "kind",
    "headers",
    "group",
    "priority",
    "deliver_at",
    "expires_at",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_format_unless_one_is_asked_for() {
        let choose = |asked, name: &str| FileFormat::choose(asked, Path::new(name)).ok();
        assert_eq!(choose(None, "a/b.Parquet"), Some(FileFormat::Parquet));
        assert_eq!(choose(None, "b.jsonl"), Some(FileFormat::Ndjson));
        assert_eq!(choose(Some(FileFormat::Csv), "b.jsonl"), Some(FileFormat::Csv));
        assert_eq!(choose(None, "-"), None);
    }
}
