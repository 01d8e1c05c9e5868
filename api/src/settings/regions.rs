//! Which sets of regions can be: the same rules for settings, for the command line and for changes over HTTP.

use std::collections::BTreeSet;

use brigade_index::names::{NameError, RegionName};

use super::{RegionSettings, redact_url};

/// Sizes of a set of regions. An even one survives no more losses than the odd one below it and costs one more write for
/// every entry; more than five cost more than they protect.
const COUNTS: [usize; 3] = [1, 3, 5];

/// Schemes of stores, as [`brigade_index::store::open`] knows them.
const SCHEMES: [&str; 5] = ["file", "memory", "s3", "gs", "az"];

/// Why a set of regions cannot be. Nothing in it shows a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RegionsProblem {
    /// Not 1, 3 or 5.
    #[error("{0} regions are given; give 1, 3 or 5: an even number survives no more losses than the odd one below it")]
    Count(usize),
    /// A bad name.
    #[error("{0}")]
    Name(#[from] NameError),
    /// The same name twice.
    #[error("region {0} is given twice; give each region a name of its own")]
    SameName(String),
    /// No URL of a store.
    #[error("the URL {url:?} of region {name} is no store; begin it with file://, memory://, s3://, gs:// or az://")]
    Url {
        /// Name of the region.
        name: String,
        /// What was given, without secrets.
        url: String,
    },
    /// Two regions in one store, which would be lost together.
    #[error("regions {first} and {second} share the store {url}; give each region a bucket or directory of its own")]
    SameStore {
        /// Name of one.
        first: String,
        /// Name of the other.
        second: String,
        /// URL of the store, or of the outer one of the two.
        url: String,
    },
}

/// Checks how many regions there are.
pub(crate) fn check_region_count(count: usize) -> Result<(), RegionsProblem> {
    if COUNTS.contains(&count) { Ok(()) } else { Err(RegionsProblem::Count(count)) }
}

/// Checks that names can be names, and that each is there once.
pub(crate) fn check_region_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), RegionsProblem> {
    let mut seen = BTreeSet::new();
    for name in names {
        RegionName::new(name)?;
        if !seen.insert(name) {
            return Err(RegionsProblem::SameName(name.to_owned()));
        }
    }
    Ok(())
}

/// Checks that a URL names a kind of store that there is. What lies behind it shows when it is opened.
pub(crate) fn check_region_url(name: &str, url: &str) -> Result<(), RegionsProblem> {
    let known = url.split_once("://").is_some_and(|(scheme, _)| SCHEMES.contains(&scheme));
    if known { Ok(()) } else { Err(RegionsProblem::Url { name: name.to_owned(), url: redact_url(url) }) }
}

/// Checks a whole set.
pub(crate) fn check_regions(regions: &[RegionSettings]) -> Result<(), RegionsProblem> {
    check_region_names(regions.iter().map(|region| region.name.as_str()))?;
    regions.iter().try_for_each(|region| check_region_url(&region.name, &region.url))?;
    check_region_count(regions.len())?;
    for (at, first) in regions.iter().enumerate() {
        for second in &regions[at + 1..] {
            check_apart(first, second)?;
        }
    }
    Ok(())
}

/// Checks that two regions do not share a store, and that neither lies inside the other.
fn check_apart(first: &RegionSettings, second: &RegionSettings) -> Result<(), RegionsProblem> {
    if !overlap(first, second) {
        return Ok(());
    }
    let outer =
        if first.url.trim_end_matches('/').len() <= second.url.trim_end_matches('/').len() { first } else { second };
    let (first, second) = (first.name.clone(), second.name.clone());
    Err(RegionsProblem::SameStore { first, second, url: redact_url(&outer.url) })
}

/// Whether two regions share a store, or one lies inside the other.
pub(crate) fn overlap(first: &RegionSettings, second: &RegionSettings) -> bool {
    // Behind another endpoint, or in another storage account, the same name is another bucket.
    let account = |region: &RegionSettings| {
        let account = region.url.starts_with("az://").then(|| region.store.access_key_id.clone());
        (region.store.endpoint.clone(), account)
    };
    if first.url == "memory://" || account(first) != account(second) {
        return false;
    }
    let place = |region: &RegionSettings| format!("{}/", region.url.trim_end_matches('/'));
    let (a, b) = (place(first), place(second));
    a.starts_with(&b) || b.starts_with(&a)
}

#[cfg(test)]
mod tests {
    use brigade_index::store::StoreOptions;

    use super::*;

    fn region(name: &str, url: &str) -> RegionSettings {
        RegionSettings { name: name.to_owned(), url: url.to_owned(), store: StoreOptions::default() }
    }

    fn check(regions: &[(&str, &str)]) -> Result<(), String> {
        let regions: Vec<_> = regions.iter().map(|(name, url)| region(name, url)).collect();
        check_regions(&regions).map_err(|problem| problem.to_string())
    }

    #[test]
    fn one_three_and_five_regions_can_be() {
        for count in 0..8 {
            let regions: Vec<_> = (0..count).map(|n| region(&format!("r{n}"), &format!("s3://bucket-{n}"))).collect();
            assert_eq!(check_regions(&regions).is_ok(), COUNTS.contains(&count), "{count}");
        }
        assert!(check(&[("a", "s3://x"), ("b", "s3://y")]).unwrap_err().contains("give 1, 3 or 5"));
        assert_eq!(check(&[("a", "memory://"), ("b", "memory://"), ("c", "memory://")]), Ok(()));
    }

    #[test]
    fn names_and_stores_are_there_once() {
        let refused = |b: (&str, &str)| check(&[("a", "s3://x/p"), b, ("c", "s3://z")]).unwrap_err();
        assert!(refused(("a", "s3://y")).contains("region a is given twice"));
        for same in ["s3://x/p", "s3://x/p/", "s3://x/p/inside", "s3://x"] {
            assert!(refused(("b", same)).contains("regions a and b share"), "{same}");
        }
        assert_eq!(check(&[("a", "s3://x/p"), ("b", "s3://x/p2"), ("c", "s3://x/q")]), Ok(()));
        assert!(refused(("../b", "s3://y")).contains("../b"));
        assert!(refused(("b", "y")).contains("begin it with"));
        assert!(!refused(("b", "ftp://u:hunter2@y")).contains("hunter2"));
    }

    #[test]
    fn the_same_bucket_behind_another_endpoint_is_another_one() {
        let mut regions: Vec<_> = ["a", "b", "c"].map(|name| region(name, "s3://bucket")).into();
        for (port, region) in (1..).zip(&mut regions) {
            region.store.endpoint = Some(format!("http://[::1]:{port}"));
        }
        assert_eq!(check_regions(&regions), Ok(()));
        regions[1].store.endpoint = regions[2].store.endpoint.clone();
        assert!(matches!(check_regions(&regions), Err(RegionsProblem::SameStore { .. })));
    }
}
