//! Private DNS zones.

use super::{Link, Place};
use serde::Serialize;

/// A hosted zone of Route 53. Only private ones are answered here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostedZone {
    /// Logical id.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// `Z…`.
    pub hosted_zone_id: String,
    /// The domain, lower case, without a dot at its end.
    pub name: String,
    /// The VPCs that see it; none for a public zone.
    pub vpcs: Vec<Link>,
    /// Its records.
    pub records: Vec<RecordSet>,
}

/// The records of one name and type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RecordSet {
    /// Logical id; that of its group where it stands in one.
    pub id: String,
    /// Where it is defined.
    pub place: Place,
    /// Lower case, without a dot at its end; `*` may be its first label.
    pub name: String,
    /// `A`, `AAAA`, `CNAME`, `TXT` and the like.
    pub record_type: String,
    /// Time to live, seconds.
    pub ttl_s: u32,
    /// Its values, as written.
    pub values: Vec<String>,
    /// The name that an alias stands for, lower case, without a dot at its end.
    pub alias: Option<String>,
}
