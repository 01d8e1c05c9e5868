//! Printing settings without their secrets.

use super::Settings;

impl Settings {
    /// The settings as TOML, for people: secrets show as `***`.
    pub fn printed(&self) -> String {
        let mut shown = self.clone();
        shown.regions = self.regions();
        // Everything they say is in the regions; what is printed is to be taken as settings again.
        (shown.data, shown.dev_regions) = (None, None);
        for region in &mut shown.regions {
            region.url = redact_url(&region.url);
            region.store.endpoint = region.store.endpoint.as_deref().map(redact_url);
            region.store.access_key_id = region.store.access_key_id.as_deref().map(redact_key);
        }
        // Strings, numbers and tables always serialise.
        toml::to_string(&shown).unwrap_or_default()
    }
}

/// Enough of a key to tell which one it is.
fn redact_key(key: &str) -> String {
    format!("{}***", key.chars().take(if key.len() > 8 { 4 } else { 0 }).collect::<String>())
}

/// A URL without its user, password and query, which may hold signatures.
pub(crate) fn redact_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    if scheme == "file" {
        return url.to_owned();
    }
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?***"));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or_else(|| authority.to_owned(), |(_, host)| format!("***@{host}"));
    format!("{scheme}://{host}{path}{query}")
}

/// The URL of a local directory with its whole path; any other URL as it is. What is written into a cluster must mean the
/// same whatever directory a node is started in.
pub(crate) fn absolute_url(url: &str) -> String {
    let whole = |path: &str| std::path::absolute(path).ok().map(|path| format!("file://{}", path.display()));
    url.strip_prefix("file://").and_then(whole).unwrap_or_else(|| url.to_owned())
}
