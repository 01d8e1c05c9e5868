//! URLs as they are stored and shown.

/// A store's URL without user, password, query and fragment, any of which may hold secrets. Paths of `file://` are kept
/// as they are.
pub fn shown_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    if scheme == "file" {
        return url.to_owned();
    }
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out() {
        for (url, shown) in [
            ("s3://bucket/prefix", "s3://bucket/prefix"),
            ("s3://id:secret@bucket/a@b", "s3://bucket/a@b"),
            ("az://container/x?sig=secret", "az://container/x"),
            ("https://user@host#secret", "https://host"),
            ("file:///data/what?/a#1@x", "file:///data/what?/a#1@x"),
            ("memory://", "memory://"),
            ("no url", "no url"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }
}
