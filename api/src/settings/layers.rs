//! Putting settings together from their sources.

use std::path::Path;

use toml::{Table, Value};

use super::{Settings, SettingsError, flags, variables};
use crate::cli::serve::ServeArgs;

/// Loads settings from the file that `args` name, the environment as `read` gives it, and `args`, each over what comes
/// before it, and checks them.
///
/// # Errors
/// When the file cannot be read or has an unknown key, or a value is wrong. The error says where it came from.
pub fn load(args: &ServeArgs, read: impl Fn(&str) -> Option<String>) -> Result<Settings, SettingsError> {
    let mut table = args.config.as_deref().map_or_else(|| Ok(Table::new()), read_file)?;
    variables::lay_over(&mut table, read)?;
    flags::lay_over(&mut table, args);
    let settings: Settings = table.try_into().map_err(|error: toml::de::Error| merged(&error))?;
    settings.check()?;
    Ok(settings)
}

fn merged(error: &toml::de::Error) -> SettingsError {
    SettingsError::Merged(error.message().to_owned())
}

/// Reads a file, and makes sure that it is right in itself while lines can still be named.
fn read_file(path: &Path) -> Result<Table, SettingsError> {
    let unreadable = |source| SettingsError::Unreadable { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text).map_err(|problem| SettingsError::File { path: path.to_owned(), problem })
}

fn parse(text: &str) -> Result<Table, String> {
    // The error's own text quotes the line, which may hold a secret.
    let explain = |error: toml::de::Error| match error.span() {
        Some(span) => {
            let line = text.as_bytes()[..span.start.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
            format!("line {line}: {}", error.message())
        }
        None => error.message().to_owned(),
    };
    toml::from_str::<Settings>(text).map_err(explain)?;
    toml::from_str(text).map_err(explain)
}

/// Puts a value at its place in the tree, making tables on the way.
pub(super) fn put(table: &mut Table, place: &[&str], value: Value) {
    match place {
        [] => {}
        [key] => {
            table.insert((*key).to_owned(), value);
        }
        [key, rest @ ..] => {
            let child = table.entry(*key).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(child) = child {
                put(child, rest, value);
            }
        }
    }
}

/// Replaces the regions. One that keeps its name keeps what the file says of its store, apart from the URL.
pub(super) fn put_regions(table: &mut Table, regions: &[(String, String)]) {
    let before = match table.get("regions") {
        Some(Value::Array(before)) => before.clone(),
        _ => Vec::new(),
    };
    let with_url = |(name, url): &(String, String)| {
        let named = |region: &&Value| region.get("name").and_then(Value::as_str) == Some(name);
        let mut region = before.iter().find(named).and_then(Value::as_table).cloned().unwrap_or_default();
        region.insert("name".to_owned(), Value::String(name.clone()));
        region.insert("url".to_owned(), Value::String(url.clone()));
        Value::Table(region)
    };
    table.insert("regions".to_owned(), Value::Array(regions.iter().map(with_url).collect()));
}
