//! Which endpoints a node may post to: whoever may create a subscription must not reach through the node what only the
//! node can reach.
//!
//! A URL is checked when it is given and again before each post; the addresses that a host name stands for are checked at
//! each connection (`endpoint.rs`), so that a name that changes its mind leads nowhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::cidr::{Cidr, CidrError};

/// Longest URL of an endpoint, in bytes: what common servers accept, query included.
const MAX_URL_BYTES: usize = 2_048;

/// Forbidden by default: nothing there is meant for anybody but the machine itself, and much of it gives away credentials.
const NEVER: &[&str] = &[
    "0.0.0.0/8",       // This host: many systems connect to themselves.
    "169.254.0.0/16",  // Link-local, with the metadata of most clouds at .169.254.
    "224.0.0.0/4",     // Multicast.
    "255.255.255.255", // Broadcast.
    "100.100.100.200", // Metadata of Alibaba Cloud.
    "168.63.129.16",   // The host agent of Azure.
    "192.0.0.192",     // Metadata of Oracle Cloud, the older.
    "::",
    "fe80::/10",
    "ff00::/8",
    "fd00:ec2::/32", // Metadata, credentials and time of AWS.
    "fd20:ce::254",  // Metadata of Google Cloud.
    "fd00:42::42",   // Metadata of Scaleway.
    "fd00:c1::/32",  // Metadata of Oracle Cloud.
];

/// This machine.
const LOOPBACK: &[&str] = &["127.0.0.0/8", "::1"];

/// Networks that are not of the public internet: private, shared and unique local addresses, the site-local ones of old.
const PRIVATE: &[&str] = &["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10"];

/// Names of metadata services. Their addresses are forbidden too; the names make a refusal early and clear.
const METADATA_NAMES: &[&str] =
    &["metadata.google.internal", "metadata.goog", "metadata.tencentyun.com", "metadata", "instance-data"];

/// Why an endpoint is not posted to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The URL is none that can be posted to.
    #[error("the URL cannot be posted to: {0}")]
    Invalid(String),
    /// It leads to where this node must not post.
    #[error("{0} is an address that this node does not post to")]
    Forbidden(String),
}

/// Which addresses a node posts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPolicy {
    forbid: Vec<Cidr>,
    allow: Vec<Cidr>,
}

impl Default for AddressPolicy {
    fn default() -> Self {
        Self { forbid: blocks(NEVER).collect(), allow: Vec::new() }
    }
}

fn blocks(texts: &'static [&str]) -> impl Iterator<Item = Cidr> {
    texts.iter().map(|text| text.parse().expect("the lists in this file are of blocks, as a test shows"))
}

impl AddressPolicy {
    /// What is forbidden by default and what `forbid` names (`loopback`, `private` or blocks of addresses), without the
    /// blocks that `allow` names.
    ///
    /// # Errors
    /// The first item that is neither.
    pub fn new(forbid: &[String], allow: &[String]) -> Result<Self, CidrError> {
        let mut policy = Self::default();
        for item in forbid {
            match item.as_str() {
                "loopback" => policy.forbid.extend(blocks(LOOPBACK)),
                "private" => policy.forbid.extend(blocks(PRIVATE)),
                block => policy.forbid.push(block.parse()?),
            }
        }
        policy.allow = allow.iter().map(|block| block.parse()).collect::<Result<_, _>>()?;
        Ok(policy)
    }

    /// Whether a connection to the address is forbidden, or to an IPv4 address that a gateway would make of it.
    pub fn forbids(&self, address: IpAddr) -> bool {
        let within = |blocks: &[Cidr], address| blocks.iter().any(|block| block.contains(address));
        let address = address.to_canonical();
        if within(&self.allow, address) {
            return false;
        }
        let forbids = |address| within(&self.forbid, address) && !within(&self.allow, address);
        match address {
            IpAddr::V4(_) => forbids(address),
            IpAddr::V6(v6) => forbids(address) || embedded(v6).any(|v4| forbids(IpAddr::V4(v4))),
        }
    }

    /// The URL of an endpoint, if it can and may be posted to as far as the URL says.
    ///
    /// # Errors
    /// When it is too long, no `http` or `https` URL, has credentials or names a forbidden address in whatever spelling.
    pub fn check_url(&self, text: &str) -> Result<Url, AddressError> {
        let invalid = |problem: &str| AddressError::Invalid(problem.to_owned());
        if text.len() > MAX_URL_BYTES {
            return Err(invalid("it is longer than 2048 bytes"));
        }
        let url = Url::parse(text).map_err(|error| AddressError::Invalid(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("it is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it has a user or a password"));
        }
        if url.port() == Some(0) {
            return Err(invalid("it has port 0"));
        }
        let forbidden = match url.host() {
            None => return Err(invalid("it has no host")),
            Some(Host::Ipv4(v4)) => self.forbids(IpAddr::V4(v4)),
            Some(Host::Ipv6(v6)) => self.forbids(IpAddr::V6(v6)),
            Some(Host::Domain(name)) => self.forbids_name(name),
        };
        if forbidden {
            return Err(AddressError::Forbidden(url.host_str().unwrap_or_default().to_owned()));
        }
        Ok(url)
    }

    /// Whether it takes no resolver to know that a host name leads to where it must not. `name` is in lower case.
    fn forbids_name(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        let is_local = name == "localhost" || name.ends_with(".localhost");
        let is_metadata = METADATA_NAMES.contains(&name) && self.forbids(Ipv4Addr::new(169, 254, 169, 254).into());
        is_metadata
            || (is_local && self.forbids(Ipv4Addr::LOCALHOST.into()) && self.forbids(Ipv6Addr::LOCALHOST.into()))
    }
}

/// IPv4 addresses that an IPv6 address may stand for on its way through translators and tunnels. (IPv4-mapped ones are
/// IPv4 addresses and come as such.)
fn embedded(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bits = u128::from(address);
    let at = |shift: u32| Ipv4Addr::from((bits >> shift) as u32);
    let [s0, s1, s2, s3, s4, s5, _, _] = address.segments();
    let found = match [s0, s1, s2, s3, s4, s5] {
        // Compatible with IPv4, of old, but for `::` and `::1`, which are themselves.
        [0, 0, 0, 0, 0, 0] if bits > 1 => [Some(at(0)), None],
        // Translated (RFC 2765).
        [0, 0, 0, 0, 0xffff, 0] => [Some(at(0)), None],
        // NAT64 with the common prefix.
        [0x64, 0xff9b, 0, 0, 0, 0] => [Some(at(0)), None],
        // NAT64 with a local prefix, of 96 or of 48 bits; in the latter case bits 64 to 71 are left out (RFC 6052).
        [0x64, 0xff9b, 1, ..] => {
            [Some(at(0)), Some(Ipv4Addr::from(((bits >> 64) as u32 & 0xffff) << 16 | (bits >> 40) as u32 & 0xffff))]
        }
        // 6to4.
        [0x2002, ..] => [Some(at(80)), None],
        // Teredo: the server, and the client with its bits turned over.
        [0x2001, 0, ..] => [Some(at(64)), Some(Ipv4Addr::from(!(bits as u32)))],
        // ISATAP, under any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe] => [Some(at(0)), None],
        _ => [None, None],
    };
    found.into_iter().flatten()
}

#[cfg(test)]
mod tests;
