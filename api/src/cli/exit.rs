//! How a command ends: errors for people and programs, and exit codes.

use std::{io, process::ExitCode};

use serde_json::json;

use super::OutputFormat;
use crate::client::{ClientError, ErrorKind};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The server refused, or was not there.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server refused in the middle of longer work; says what was done before.
    #[error("{source}; {done}")]
    Partly {
        /// Why it stopped.
        source: ClientError,
        /// What was done before.
        done: String,
    },
    /// The input is wrong.
    #[error("{message}")]
    Input {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// Work on buckets was refused or failed, with a code of its own.
    #[error("{message}")]
    Refused {
        /// The stable code.
        code: &'static str,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The arguments do not go together.
    #[error("{0}")]
    Usage(String),
    /// Reading or writing a local file or stream failed.
    #[error("{what}: {source}")]
    Io {
        /// What was read or written.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Anything else.
    #[error("{0}")]
    Failed(String),
    /// A signal ended it; says how far it came.
    #[error("interrupted: {message}")]
    Interrupted {
        /// The exit code.
        code: u8,
        /// How far it came.
        message: String,
        /// How to go on.
        hint: String,
    },
    /// Whoever read the output has left (`| head`): a quiet success.
    #[error("the reader of the output has left")]
    ReaderGone,
}

impl From<io::Error> for CliError {
    fn from(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Io { what: "standard output".to_owned(), source },
        }
    }
}

impl CliError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Client(error) | Self::Partly { source: error, .. } => match error.kind() {
                ErrorKind::NotFound => 3,
                ErrorKind::Input => 4,
                ErrorKind::Unavailable => 5,
                ErrorKind::Failed => 1,
            },
            Self::Input { .. } | Self::Refused { .. } => 4,
            Self::Usage(_) => 2,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => 3,
            Self::Io { .. } | Self::Failed(_) => 1,
            Self::Interrupted { code, .. } => *code,
            Self::ReaderGone => 0,
        }
    }

    /// The stable code.
    pub fn code(&self) -> &str {
        match self {
            Self::Client(error) | Self::Partly { source: error, .. } => error.code(),
            Self::Input { .. } => "invalid_input",
            Self::Refused { code, .. } => code,
            Self::Usage(_) => "usage",
            Self::Io { .. } => "input_output",
            Self::Failed(_) => "failed",
            Self::Interrupted { .. } => "interrupted",
            Self::ReaderGone => "reader_gone",
        }
    }

    /// What to do; may be empty.
    pub fn hint(&self) -> &str {
        match self {
            Self::Client(error) | Self::Partly { source: error, .. } => {
                command_for(error.code()).unwrap_or(error.hint())
            }
            Self::Input { hint, .. } | Self::Refused { hint, .. } | Self::Interrupted { hint, .. } => hint,
            Self::Usage(_) => "see --help.",
            _ => "",
        }
    }
}

/// What to do about an error for which the server's hint names a request where there is a command.
fn command_for(code: &str) -> Option<&'static str> {
    Some(match code {
        "topic_not_found" => "create it with brigade topic create, or check its name",
        "topic_exists" => "change its settings with brigade topic alter, or choose another name",
        "subscription_not_found" => "create it with brigade subscription create, or check its name",
        "subscription_exists" => "change it with brigade subscription update or seek, or choose another name",
        _ => return None,
    })
}

/// Writes an error to standard error and returns its exit code.
pub(super) fn report(error: &CliError, output: Option<OutputFormat>) -> ExitCode {
    if output == Some(OutputFormat::Json) {
        let (code, hint) = (error.code(), error.hint());
        eprintln!("{}", json!({"error": {"code": code, "message": error.to_string(), "hint": hint}}));
    } else {
        eprintln!("error: {error} ({})", error.code());
        if !error.hint().is_empty() {
            eprintln!("hint: {}", error.hint());
        }
    }
    ExitCode::from(error.exit_code())
}
