//! The regions: which there are, which vote, how far each has come; and what a change of them may ask for.

use std::{sync::Arc, time::Duration};

use axum::response::Response;
use brigade_index::{
    names::RegionName,
    shard::{RegionStatus, ShardStatus},
    store::StoreOptions,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::{sync::oneshot, time::timeout};
use utoipa::ToSchema;

use super::{
    answer, body,
    call::Call,
    error::{ApiError, kinds},
    shards::Progress,
};
use crate::{
    serve::{Leading, Node},
    settings::{RegionSettings, RegionsProblem, absolute_url, check_regions, redact_url},
};

/// The regions of the cluster.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RegionList {
    regions: Vec<RegionDetail>,
    /// Names of the regions that vote.
    voters: Vec<String>,
    /// How many of them must have an entry before it is committed.
    quorum: usize,
    /// The change of the regions that is under way, in words; `null` when there is none.
    change: Option<String>,
}

/// A region.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RegionDetail {
    /// Given when it joined and never again.
    number: u16,
    name: String,
    /// URL of its store, without secrets.
    url: String,
    /// Whether it counts towards the quorum.
    votes: bool,
    /// The state of the shard that is worst off here: `in_sync`, `behind`, `catching_up`, `joining`, `unreachable`,
    /// `refused` or `deposed`.
    state: &'static str,
    shards: Vec<ShardInRegion>,
    /// What is wrong with it.
    problem: Option<String>,
    /// What to do about that.
    hint: Option<String>,
}

/// How far a shard has come in the region.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShardInRegion {
    shard: u32,
    #[serde(flatten)]
    progress: Progress,
}

impl RegionDetail {
    /// Of a cluster with one shard. `configured` are this node's settings, which know the URL of a region that the cluster
    /// has no record of.
    fn of(shard: u32, region: &RegionStatus, configured: &[RegionSettings]) -> Self {
        let settings = || configured.iter().find(|settings| settings.name == region.name.as_str());
        let url = match region.url.as_str() {
            "" => settings().map(|settings| settings.url.as_str()).unwrap_or_default(),
            url => url,
        };
        Self {
            number: region.number.0,
            name: region.name.to_string(),
            url: redact_url(url),
            votes: region.votes,
            state: region.state,
            shards: vec![ShardInRegion { shard, progress: region.into() }],
            problem: region.problem.clone(),
            hint: region.hint.clone(),
        }
    }
}

impl RegionList {
    fn of(status: &ShardStatus, configured: &[RegionSettings]) -> Self {
        let regions: Vec<_> =
            status.regions.iter().map(|region| RegionDetail::of(status.shard.0, region, configured)).collect();
        let voters = status.voters.iter().map(|number| {
            let known = status.regions.iter().find(|region| region.number == *number);
            known.map_or_else(|| format!("#{number}"), |region| region.name.to_string())
        });
        Self { voters: voters.collect(), regions, quorum: status.quorum(), change: status.change.clone() }
    }
}

/// `GET /v1/regions`
pub(super) async fn list(node: Arc<Node>, call: Call) -> Result<Response, ApiError> {
    call.query()?.finish()?;
    answer::value(StatusCode::OK, &RegionList::of(&node.seat.known().status, &node.settings.regions()))
}

/// How a change of the regions goes.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangeView {
    /// The change that is under way, in words; `null` when the regions are as they are to be.
    change: Option<String>,
}

/// How long a request waits for a change that is quickly done or quickly refused.
const PATIENCE: Duration = Duration::from_secs(1);

/// `PUT /v1/regions`
pub(super) async fn change(leading: Arc<Leading>, call: Call) -> Result<Response, ApiError> {
    call.query()?.finish()?;
    let configured = leading.settings.regions();
    let time = Duration::from_millis(leading.settings.http.body_timeout_ms);
    let body: RegionsBody = body::document(call.body, &call.parts.headers, time).await?;
    let wanted = body.wanted(&configured)?;
    let shard = leading.shard.clone();
    if shard.has_regions(&wanted) {
        return answer::value(StatusCode::OK, &ChangeView { change: None });
    }
    let (answer, answered) = oneshot::channel();
    leading.tasks.spawn(async move {
        let changed = shard.change_regions(&wanted).await;
        if let Err(error) = &changed {
            tracing::warn!(%error, "the regions were not changed");
        }
        // Whoever asked may have gone, or been told that it goes on.
        let _ = answer.send(changed);
    });
    match timeout(PATIENCE, answered).await {
        Ok(Ok(changed)) => {
            changed?;
            answer::value(StatusCode::OK, &ChangeView { change: None })
        }
        _ => answer::value(StatusCode::ACCEPTED, &ChangeView { change: leading.shard.status().change }),
    }
}

/// The regions that are to be: all of them, those that are there already too.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegionsBody {
    /// 1, 3 or 5 regions.
    regions: Vec<RegionBody>,
}

/// A region that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegionBody {
    /// Name of the region. One that has this name already stays, if its URL does.
    name: String,
    /// URL of its store, without secrets: every node reaches it with credentials of its own.
    url: String,
}

impl RegionsBody {
    /// The regions, checked in themselves. Whether the cluster can get there is for its leader to say. `configured` are
    /// this node's settings: two regions with one URL are two if they have endpoints of their own there.
    ///
    /// # Errors
    /// Code `invalid_regions` for another number than 1, 3 or 5, bad names, names or stores that are there twice, URLs
    /// that name no store and URLs with secrets in them.
    pub(super) fn wanted(self, configured: &[RegionSettings]) -> Result<Vec<(RegionName, String)>, ApiError> {
        let named = |RegionBody { name, url }| {
            let settings = configured.iter().find(|region| region.name == name);
            let store = settings.map_or_else(StoreOptions::default, |region| region.store.clone());
            RegionSettings { name, url, store }
        };
        let regions: Vec<_> = self.regions.into_iter().map(named).collect();
        check_regions(&regions)?;
        regions.into_iter().map(|region| Ok((RegionName::new(&region.name)?, without_secrets(region)?))).collect()
    }
}

/// The URL is written into every region, where it can be read for ever.
fn without_secrets(region: RegionSettings) -> Result<String, ApiError> {
    // A URL as it is shown may have had some: what replaces them is no URL to write down either.
    if redact_url(&region.url) == region.url && !region.url.contains("***") {
        return Ok(absolute_url(&region.url));
    }
    let problem = format!("the URL of region {} has a user, a password or a query in it", region.name);
    let hint = "leave them out; every node takes credentials from its own settings and environment";
    Err(ApiError { hint: hint.into(), ..ApiError::new(kinds::INVALID_REGIONS, problem) })
}

impl From<RegionsProblem> for ApiError {
    fn from(problem: RegionsProblem) -> Self {
        Self::new(kinds::INVALID_REGIONS, problem.to_string())
    }
}

#[cfg(test)]
mod tests {
    use brigade_index::{
        ids::{Ballot, RegionNo, Sequence, ShardId},
        shard::ChangeError,
    };
    use serde_json::{Value, json};

    use super::*;

    fn region(number: u16, name: &str, state: &'static str) -> RegionStatus {
        RegionStatus {
            number: RegionNo(number),
            name: RegionName::new(name).unwrap(),
            url: format!("s3://key:hunter2@{name}/p?sig=hunter3"),
            votes: state != "joining",
            state,
            accepted: Sequence(7),
            behind_entries: 2,
            behind_bytes: 300,
            behind_ms: 40,
            copies_missing: 5,
            files_missing: 2,
            problem: (state == "unreachable").then(|| "no answer".to_owned()),
            hint: (state == "unreachable").then(|| "wait".to_owned()),
        }
    }

    fn status() -> ShardStatus {
        ShardStatus {
            state: "leading",
            ballot: Ballot { round: 3, nonce: 1 },
            committed: Sequence(9),
            sealed: Sequence(10),
            in_flight: 1,
            snapshot: Sequence(4),
            leader_since_ms: Some(1_000),
            takeover_ms: Some(70),
            voters: [0, 1, 2].map(RegionNo).into(),
            regions: vec![region(0, "a", "in_sync"), region(1, "b", "unreachable"), region(3, "d", "joining")],
            change: Some("adding d".to_owned()),
            ..ShardStatus::unknown(ShardId(0))
        }
    }

    #[test]
    fn regions_show_how_far_they_are_and_no_secrets() {
        let view = serde_json::to_value(RegionList::of(&status(), &[])).unwrap();
        assert_eq!(view["voters"], json!(["a", "b", "#2"]));
        assert_eq!((&view["quorum"], &view["change"]), (&json!(2), &json!("adding d")));
        let expected = json!({
            "number": 1, "name": "b", "url": "s3://***@b/p?***", "votes": true, "state": "unreachable",
            "shards": [{
                "shard": 0, "state": "unreachable", "accepted": 7, "behind_entries": 2, "behind_bytes": 300,
                "behind_ms": 40, "copies_missing": 5, "files_missing": 2,
            }],
            "problem": "no answer", "hint": "wait",
        });
        assert_eq!(view["regions"][1], expected);
        assert_eq!((&view["regions"][2]["votes"], &view["regions"][2]["problem"]), (&json!(false), &Value::Null));
    }

    #[test]
    fn a_region_without_a_record_has_the_url_of_the_settings() {
        let mut status = status();
        status.regions[0].url.clear();
        let settings = RegionSettings { name: "a".into(), url: "s3://k:p@x".into(), store: StoreOptions::default() };
        let view = RegionList::of(&status, &[settings]);
        assert_eq!(view.regions[0].url, "s3://***@x");
        assert_eq!(RegionList::of(&status, &[]).regions[0].url, "");
    }

    fn wanted(body: &Value) -> Result<Vec<(String, String)>, ApiError> {
        let body: RegionsBody = serde_json::from_value(body.clone()).unwrap();
        Ok(body.wanted(&[])?.into_iter().map(|(name, url)| (name.to_string(), url)).collect())
    }

    #[test]
    fn a_change_names_all_regions_that_are_to_be() {
        let one = json!({"regions": [{"name": "a", "url": "file:///a"}]});
        assert_eq!(wanted(&one).unwrap(), [("a".to_owned(), "file:///a".to_owned())]);
        let of = |urls: &[(&str, &str)]| {
            let regions: Vec<_> = urls.iter().map(|(name, url)| json!({"name": name, "url": url})).collect();
            wanted(&json!({ "regions": regions })).map(|regions| regions.len())
        };
        assert_eq!(of(&[("a", "s3://a"), ("b", "s3://b"), ("c", "s3://c")]).unwrap(), 3);
        for (wrong, says) in [
            (&[][..], "1, 3 or 5"),
            (&[("a", "s3://a"), ("b", "s3://b")], "1, 3 or 5"),
            (&[("a", "s3://a"), ("a", "s3://b"), ("c", "s3://c")], "given twice"),
            (&[("a", "s3://a"), ("b", "s3://a/"), ("c", "s3://c")], "share the store"),
            (&[("a/b", "s3://a")], "name"),
            (&[("a", "bucket")], "begin it with"),
            (&[("a", "s3://key:hunter2@a")], "password"),
            (&[("a", "s3://***@a")], "password"),
        ] {
            let error = of(wrong).unwrap_err();
            assert_eq!((error.status.as_u16(), error.code), (400, "invalid_regions"), "{}", error.message);
            assert!(error.message.contains(says) && !error.message.contains("hunter"), "{}", error.message);
        }
        let unknown = json!({"regions": [{"name": "a", "url": "file:///a", "vote": true}]});
        assert!(serde_json::from_value::<RegionsBody>(unknown).unwrap_err().to_string().contains("vote"));
    }

    #[test]
    fn a_refused_change_says_what_to_do() {
        let error = ApiError::from(ChangeError::InProgress("adding d".into()));
        assert_eq!((error.status.as_u16(), error.code), (409, "region_change_in_progress"));
        let region = RegionName::new("d").unwrap();
        let error = ApiError::from(ChangeError::Store { region, problem: "no".into(), hint: "create it".into() });
        assert_eq!((error.status.as_u16(), error.code, &*error.hint), (400, "region_unusable", "create it"));
        assert!(error.message.contains("region d"));
        assert_eq!(ApiError::from(ChangeError::Invalid("x".into())).code, "invalid_regions");
        assert_eq!(ApiError::from(ChangeError::NotLeader { leader: None }).code, "not_leader");
    }
}
