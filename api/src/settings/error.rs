//! Why settings were refused.

use std::path::PathBuf;

/// Why settings were refused. Each names where the setting came from.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML, or has an unknown key or a value of another type. The text names the line.
    #[error("the settings file {} is wrong: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        problem: String,
    },
    /// A variable of the environment has a value of another type.
    #[error("the environment variable {name} is wrong: {problem}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Flags, variables and file together have a value of another type.
    #[error("the settings are wrong: {0}")]
    Merged(String),
    /// A value out of its range, or two that contradict each other.
    #[error("the setting {key} is wrong: {problem}")]
    Invalid {
        /// Its place in the tree.
        key: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}
