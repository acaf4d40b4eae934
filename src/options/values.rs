//! Values of options that parse at the edge.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::duration::PromDuration;

/// Why a value is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// A namespace.
    #[error("'{0}' is not a namespace: lower-case letters, digits and '-', at most 63")]
    Namespace(String),
    /// A label key.
    #[error("'{0}' is not the key of a pod label, like app or example.org/team")]
    LabelKey(String),
    /// A label name.
    #[error("'{0}' is not a label name: letters, digits and '_', no digit first, no '__' first")]
    LabelName(String),
    /// A label name that is taken.
    #[error("the label name '{0}' is taken; choose another with KEY=NAME")]
    Taken(String),
    /// Two labels of one name.
    #[error("invalid value '{0}' for '--copy-label <KEY[=NAME]>': the label name '{1}' is given twice")]
    Twice(String, String),
    /// An address.
    #[error("not an address like :10137, 127.0.0.1:10137, [::]:10137 or localhost:10137")]
    Address,
    /// A base of links.
    #[error("not a base of links: an http or https URL, or a path that begins with /")]
    Url,
    /// A duration.
    #[error(transparent)]
    Duration(#[from] crate::duration::NotADuration),
    /// A directory.
    #[error("not a directory")]
    Directory,
    /// A switch in the environment.
    #[error("neither true nor false")]
    Flag,
    /// An exit code.
    #[error("not an exit code: a whole number like 137")]
    ExitCode,
    /// A cause.
    #[error("not a cause")]
    Cause,
    /// A number of series.
    #[error("not a whole number from 1 to {MOST_SERIES}")]
    MaxSeries,
    /// A duration out of bounds.
    #[error("allowed is from {0} to {1}")]
    OutOfBounds(PromDuration, PromDuration),
}

/// Namespaces, separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(pub Vec<String>);

impl FromStr for Namespaces {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let check = |name: &str| {
            let valid = is_dns_label(name);
            if valid { Ok(name.to_owned()) } else { Err(InvalidValue::Namespace(name.to_owned())) }
        };
        names.map(check).collect::<Result<_, _>>().map(Self)
    }
}

impl Namespaces {
    /// All names, sorted, each once.
    #[must_use]
    pub fn distinct(lists: &[Self]) -> Vec<String> {
        let mut names: Vec<String> = lists.iter().flat_map(|list| list.0.iter().cloned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// RFC 1123: what Kubernetes takes for the name of a namespace.
fn is_dns_label(name: &str) -> bool {
    let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.bytes().all(|c| alphanumeric(c) || c == b'-')
        && name.bytes().next().is_some_and(alphanumeric)
        && name.bytes().last().is_some_and(alphanumeric)
}

/// A pod label and the name under which it is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyLabel {
    /// Key in the pod's labels.
    pub key: String,
    /// Label name on the counters.
    pub name: String,
}

/// Label names of the exporter's own, and those that targets and Prometheus own.
pub(super) const TAKEN: [&str; 18] = [
    "namespace",
    "workload_type",
    "workload",
    "container",
    "container_type",
    "exit_code",
    "reason",
    "cause",
    "node",
    "pod",
    "job",
    "instance",
    "service",
    "endpoint",
    "owner",
    "type",
    "cluster",
    "le",
];

impl FromStr for CopyLabel {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (key, name) = match text.split_once('=') {
            Some((key, name)) => (key, name.to_owned()),
            None => (text, sanitised(text)),
        };
        if !is_label_key(key) {
            return Err(InvalidValue::LabelKey(key.to_owned()));
        }
        if !is_label_name(&name) {
            return Err(InvalidValue::LabelName(name));
        }
        if TAKEN.contains(&name.as_str()) {
            return Err(InvalidValue::Taken(name));
        }
        Ok(Self { key: key.to_owned(), name })
    }
}

/// The key with all that a label name can't hold made `_`.
fn sanitised(key: &str) -> String {
    let name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// An optional DNS name and a slash, then a name of at most 63.
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let edge = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    name.len() <= 63
        && name.bytes().all(inner)
        && edge(name.bytes().next())
        && edge(name.bytes().last())
        && prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_dns_label))
}

fn is_label_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && !name.starts_with("__")
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// No two copied labels share a name.
pub(super) fn check_distinct(labels: &[CopyLabel]) -> Result<(), InvalidValue> {
    for (i, label) in labels.iter().enumerate() {
        if labels.iter().take(i).any(|other| other.name == label.name) {
            return Err(InvalidValue::Twice(label.key.clone(), label.name.clone()));
        }
    }
    Ok(())
}

/// A directory, or a path at which one can be made.
pub(super) fn directory(text: &str) -> Result<PathBuf, InvalidValue> {
    let path = PathBuf::from(text);
    let is_other = path.exists() && !path.is_dir();
    if text.is_empty() || is_other { Err(InvalidValue::Directory) } else { Ok(path) }
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// The host.
    pub host: ListenHost,
    /// The port; 0 lets the system choose.
    pub port: u16,
}

/// The host part of an address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenHost {
    /// All addresses: IPv6 and IPv4 in one socket, IPv4 alone where IPv6 is off.
    Any,
    /// One address.
    Ip(IpAddr),
    /// All addresses of a name.
    Name(String),
}

impl FromStr for ListenAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            let any = IpAddr::from(std::net::Ipv6Addr::UNSPECIFIED);
            let host = if address.ip() == any { ListenHost::Any } else { ListenHost::Ip(address.ip()) };
            return Ok(Self { host, port: address.port() });
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidValue::Address)?;
        let digits = !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or(InvalidValue::Address)?;
        match host {
            "" => Ok(Self { host: ListenHost::Any, port }),
            name if is_host_name(name) => Ok(Self { host: ListenHost::Name(name.to_owned()), port }),
            _ => Err(InvalidValue::Address),
        }
    }
}

/// Labels of letters, digits and '-'; not all digits, which would be a mistyped IPv4 address.
fn is_host_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| is_dns_label(&label.to_ascii_lowercase()))
        && name.bytes().any(|c| c.is_ascii_alphabetic())
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            ListenHost::Any => write!(f, "[::]:{}", self.port),
            ListenHost::Ip(ip) => write!(f, "{}", SocketAddr::new(*ip, self.port)),
            ListenHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// The base of links to runbooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunbookUrl(pub String);

impl FromStr for RunbookUrl {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let absolute = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let begins = match absolute {
            Some(rest) => !rest.is_empty() && !rest.starts_with('/'),
            None => text.starts_with('/') && !text.starts_with("//"),
        };
        // Parameters are added to the links, so the base can have neither query nor fragment.
        let plain =
            |c: u8| c.is_ascii_graphic() && !matches!(c, b'"' | b'<' | b'>' | b'\\' | b'?' | b'#' | b'`');
        if begins && text.bytes().all(plain) { Ok(Self(text.to_owned())) } else { Err(InvalidValue::Url) }
    }
}

/// What `--max-series` may be: ten million take about 5 GB.
const MOST_SERIES: u32 = 10_000_000;

/// How many series there may be.
pub(super) fn max_series(text: &str) -> Result<u32, InvalidValue> {
    let digits = text.bytes().all(|c| c.is_ascii_digit());
    let number = text.parse().ok().filter(|n| digits && (1..=MOST_SERIES).contains(n));
    number.ok_or(InvalidValue::MaxSeries)
}

/// A switch as its variable sets it.
pub(super) fn flag(text: &str) -> Result<bool, InvalidValue> {
    text.parse().map_err(|_| InvalidValue::Flag)
}

/// How long series may stay.
pub(super) fn series_ttl(text: &str) -> Result<PromDuration, InvalidValue> {
    bounded(text, Duration::from_secs(1), Duration::from_secs(365 * 86_400))
}

/// How long a series may read 0.
pub(super) fn zero_for(text: &str) -> Result<PromDuration, InvalidValue> {
    bounded(text, Duration::ZERO, crate::server::MAX_ZERO_FOR)
}

fn bounded(text: &str, least: Duration, most: Duration) -> Result<PromDuration, InvalidValue> {
    let duration: PromDuration = text.parse()?;
    if (least..=most).contains(&duration.0) {
        Ok(duration)
    } else {
        Err(InvalidValue::OutOfBounds(PromDuration(least), PromDuration(most)))
    }
}
