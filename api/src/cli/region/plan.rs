//! From the regions there are and what is to become of them to the regions that are to be. Pure.

use crate::{
    cli::{CliError, serve::RegionArg},
    client::{RegionList, WantedRegion},
    settings::{check_region_count, check_region_names},
};

/// What is to become of the regions.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    /// These are added.
    Add(Vec<RegionArg>),
    /// Those of these names are removed.
    Remove(Vec<String>),
    /// One is removed and another added.
    Replace {
        /// Name of the one to be removed.
        old: String,
        /// The one to be added.
        new: RegionArg,
    },
    /// These are all.
    Set(Vec<RegionArg>),
}

impl From<RegionArg> for WantedRegion {
    fn from(RegionArg { name, url }: RegionArg) -> Self {
        Self { name, url }
    }
}

/// The regions that are to be. Regions that do not vote are no part of the cluster yet: they are left where they are not
/// named.
///
/// # Errors
/// When a name is there already or not at all, or the outcome can be no set of regions.
pub(super) fn wanted(present: &RegionList, edit: Edit) -> Result<Vec<WantedRegion>, CliError> {
    let voters = present.regions.iter().filter(|region| region.votes);
    let mut regions: Vec<_> =
        voters.map(|region| WantedRegion { name: region.name.clone(), url: region.url.clone() }).collect();
    match edit {
        Edit::Set(all) => regions = all.into_iter().map(WantedRegion::from).collect(),
        Edit::Add(new) => new.into_iter().try_for_each(|new| add(&mut regions, new))?,
        Edit::Remove(names) => names.iter().try_for_each(|name| remove(&mut regions, name).map(drop))?,
        Edit::Replace { old, new } => {
            let place = remove(&mut regions, &old)?;
            add(&mut regions, new)?;
            // The order has no meaning, but people compare lists.
            regions[place..].rotate_right(1);
        }
    }
    check(regions)
}

fn refused(message: String, hint: &str) -> CliError {
    CliError::Input { message, hint: hint.to_owned() }
}

fn add(regions: &mut Vec<WantedRegion>, new: RegionArg) -> Result<(), CliError> {
    if regions.iter().any(|region| region.name == new.name) {
        let hint = "give the new one another name, or move a region with `brigade region replace`";
        return Err(refused(format!("region {} is there already", new.name), hint));
    }
    regions.push(new.into());
    Ok(())
}

/// Removes a region and says where it was.
fn remove(regions: &mut Vec<WantedRegion>, name: &str) -> Result<usize, CliError> {
    let Some(place) = regions.iter().position(|region| region.name == name) else {
        let names: Vec<_> = regions.iter().map(|region| region.name.as_str()).collect();
        let message = format!("there is no region {name} that votes; there are {}", names.join(", "));
        return Err(refused(message, "`brigade region list` shows them"));
    };
    regions.remove(place);
    Ok(place)
}

fn check(regions: Vec<WantedRegion>) -> Result<Vec<WantedRegion>, CliError> {
    if let Some(region) = regions.iter().find(|region| region.url.contains("***")) {
        let message = format!("the URL of region {} is not shown whole: {}", region.name, region.url);
        return Err(refused(message, "name all regions with their whole URLs: `brigade region set NAME=URL …`"));
    }
    let hint = "add or remove as many regions at once as lead to 1, 3 or 5";
    // The server, which knows their endpoints, finds regions that share a store.
    check_region_names(regions.iter().map(|region| region.name.as_str()))
        .and_then(|()| check_region_count(regions.len()))
        .map_err(|problem| refused(problem.to_string(), hint))?;
    Ok(regions)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn present(voters: &[&str]) -> RegionList {
        let region = |name: &&str| json!({"number": 0, "name": name, "url": format!("s3://{name}"), "votes": true, "state": "in_sync"});
        let mut regions: Vec<_> = voters.iter().map(region).collect();
        regions.push(json!({"number": 9, "name": "joins", "url": "s3://joins", "votes": false, "state": "joining"}));
        from_value(json!({ "regions": regions })).unwrap()
    }

    fn arguments(names: &[&str]) -> Vec<RegionArg> {
        names.iter().map(|name| format!("{name}=s3://{name}").parse().unwrap()).collect()
    }

    fn names(voters: &[&str], edit: Edit) -> Result<String, String> {
        let wanted = wanted(&present(voters), edit).map_err(|error| format!("{error}: {}", error.hint()))?;
        assert!(wanted.iter().all(|region| region.url == format!("s3://{}", region.name)));
        Ok(wanted.into_iter().map(|region| region.name).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn edits_lead_to_one_three_or_five_regions() {
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&["a"], Edit::Add(arguments(&["b", "c"]))).unwrap(), "a b c");
        assert_eq!(names(&["a", "b", "c"], Edit::Add(arguments(&["joins", "e"]))).unwrap(), "a b c joins e");
        assert_eq!(names(&["a", "b", "c"], Edit::Remove(strings(&["a", "c"]))).unwrap(), "b");
        assert_eq!(names(&["a", "b", "c"], Edit::Set(arguments(&["x"]))).unwrap(), "x");
        for (old, expected) in [("a", "n b c"), ("b", "a n c"), ("c", "a b n")] {
            let edit = Edit::Replace { old: old.to_owned(), new: arguments(&["n"]).remove(0) };
            assert_eq!(names(&["a", "b", "c"], edit).unwrap(), expected);
        }
        assert!(names(&["a"], Edit::Add(arguments(&["b"]))).unwrap_err().contains("1, 3 or 5"));
        assert!(names(&["a"], Edit::Remove(strings(&["a"]))).unwrap_err().contains("1, 3 or 5"));
        assert!(names(&["a", "b", "c"], Edit::Add(arguments(&["a", "d"]))).unwrap_err().contains("there already"));
        let unknown = names(&["a", "b", "c"], Edit::Remove(strings(&["joins", "a"]))).unwrap_err();
        assert!(unknown.contains("no region joins that votes; there are a, b, c"), "{unknown}");
        assert!(names(&["a", "b", "c"], Edit::Remove(strings(&["a", "a"]))).is_err());
    }

    #[test]
    fn a_region_may_be_replaced_by_one_of_its_own_name_elsewhere() {
        let edit = Edit::Replace { old: "b".to_owned(), new: "b=s3://elsewhere".parse().unwrap() };
        let wanted = wanted(&present(&["a", "b", "c"]), edit).unwrap();
        assert_eq!(wanted[1], WantedRegion { name: "b".to_owned(), url: "s3://elsewhere".to_owned() });
    }

    #[test]
    fn a_url_that_is_not_shown_whole_is_not_sent_back() {
        let mut present = present(&["a"]);
        present.regions[0].url = "s3://***@a".to_owned();
        let error = wanted(&present, Edit::Add(arguments(&["b", "c"]))).unwrap_err();
        assert!(error.to_string().contains("region a") && error.hint().contains("region set"), "{error}");
    }
}
