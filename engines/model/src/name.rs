//! Names: functions in every form that the API takes, their ARNs, accounts and Regions.

use std::fmt;

/// The longest bare function name.
pub const FUNCTION_NAME_MAX: usize = 64;
/// The longest name of an alias.
pub const ALIAS_NAME_MAX: usize = 128;
/// The longest function parameter in any form.
pub const FUNCTION_REFERENCE_MAX: usize = 140;
/// The account that a local AWS has when nobody says otherwise.
pub const DEFAULT_ACCOUNT: &str = "000000000000";
/// The qualifier of the version that can still change.
pub const LATEST: &str = "$LATEST";

/// What a function parameter must look like, as AWS's validation errors print it.
///
/// Source: recorded on AWS and the Lambda service model, shape `FunctionName`, published.
pub const FUNCTION_NAME_PATTERN: &str = r"(arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?";

/// A function as a caller refers to it: `cart`, `cart:live`, `123456789012:function:cart`, or an ARN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FunctionReference {
    /// The partition, `aws` or a sibling; only in a full ARN.
    pub partition: Option<String>,
    /// The Region, if the form has one.
    pub region: Option<String>,
    /// The account, if the form has one.
    pub account: Option<String>,
    /// The bare name; 1 to 140 characters of `[a-zA-Z0-9-_]`.
    pub name: String,
    /// Version, alias or `$LATEST`, if the form has one.
    pub qualifier: Option<String>,
}

/// The text does not fit [`FUNCTION_NAME_PATTERN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFunctionName;

impl fmt::Display for BadFunctionName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Member must satisfy regular expression pattern: {FUNCTION_NAME_PATTERN}")
    }
}

impl std::error::Error for BadFunctionName {}

impl FunctionReference {
    /// Reads a function parameter in any of its forms.
    ///
    /// As in the recorded pattern every part but the name is optional by itself. Two readings are possible for
    /// `a:b`; the pattern takes a leading Region, account or the word `function` first, and only then a qualifier.
    ///
    /// # Errors
    /// [`BadFunctionName`] when it fits no form. Length is the caller's to check: it is another AWS error.
    pub fn parse(text: &str) -> Result<Self, BadFunctionName> {
        let mut parts: Vec<&str> = text.split(':').collect();
        // arn : partition : lambda : region : account : function : name : qualifier
        if parts.len() > 8 {
            return Err(BadFunctionName);
        }
        let mut partition = None;
        if parts.len() > 3 && parts[0] == "arn" {
            let aws = parts[1].is_empty() || is_partition(parts[1]);
            if !aws || parts[2] != "lambda" {
                return Err(BadFunctionName);
            }
            partition = Some(parts[1].to_owned());
            parts.drain(..3);
        }
        let mut take = |fits: fn(&str) -> bool| -> Option<String> {
            // The name itself must remain, so the last part is never taken as a prefix.
            (parts.len() > 1 && fits(parts[0])).then(|| parts.remove(0).to_owned())
        };
        let region = take(is_region);
        let account = take(is_account);
        take(|part| part == "function");
        match *parts.as_slice() {
            [name] if is_name(name) => {
                Ok(Self { partition, region, account, name: name.to_owned(), qualifier: None })
            }
            [name, qualifier] if is_name(name) && is_qualifier(qualifier) => Ok(Self {
                partition,
                region,
                account,
                name: name.to_owned(),
                qualifier: Some(qualifier.to_owned()),
            }),
            _ => Err(BadFunctionName),
        }
    }

    /// A bare name, not yet checked against any length.
    pub fn bare(name: &str) -> Self {
        Self { partition: None, region: None, account: None, name: name.to_owned(), qualifier: None }
    }
}

/// Whether the text is a name that a function may be created with: 1 to 64 of `[a-zA-Z0-9-_]`.
pub fn is_function_name(text: &str) -> bool {
    text.len() <= FUNCTION_NAME_MAX && is_name(text)
}

/// Whether the text is a name that an alias may have: 1 to 128 of `[a-zA-Z0-9-_]`, and no number, which a version has.
pub fn is_alias_name(text: &str) -> bool {
    text.len() <= ALIAS_NAME_MAX && is_name(text) && !text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the text is a 12-digit account number.
pub fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the text has the form of a Region: `us-east-1`, `us-gov-west-1`, `eusc-de-east-1`.
///
/// By the recorded pattern: `(eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d`.
pub fn is_region(text: &str) -> bool {
    let mut parts: Vec<&str> = text.split('-').collect();
    if parts.first() == Some(&"eusc") {
        parts.remove(0);
    }
    if parts.len() == 4 {
        let middle = parts.remove(1);
        let letter = middle.strip_prefix("iso").is_some_and(|rest| rest.len() <= 1 && is_lower(rest));
        if middle != "gov" && !letter {
            return false;
        }
    }
    match parts.as_slice() {
        [country, place, number] => {
            country.len() == 2
                && is_lower(country)
                && !place.is_empty()
                && is_lower(place)
                && number.len() == 1
                && number.bytes().all(|byte| byte.is_ascii_digit())
        }
        _ => false,
    }
}

/// The unqualified ARN of a function.
pub fn function_arn(region: &str, account: &str, name: &str) -> String {
    format!("arn:{}:lambda:{region}:{account}:function:{name}", partition_of(region))
}

/// The ARN with its qualifier behind.
pub fn qualified_arn(arn: &str, qualifier: &str) -> String {
    format!("{arn}:{qualifier}")
}

/// AWS's partitions but `aws`: how the names of their Regions begin, and how host names in them end.
///
/// Source: botocore, `data/partitions.json` (published).
const PARTITIONS: [(&str, &str, &str); 7] = [
    ("aws-cn", "cn-", "amazonaws.com.cn"),
    ("aws-us-gov", "us-gov-", "amazonaws.com"),
    ("aws-eusc", "eusc-", "amazonaws.eu"),
    ("aws-iso", "us-iso-", "c2s.ic.gov"),
    ("aws-iso-b", "us-isob-", "sc2s.sgov.gov"),
    ("aws-iso-e", "eu-isoe-", "cloud.adc-e.uk"),
    ("aws-iso-f", "us-isof-", "csp.hci.ic.gov"),
];

fn partition_and_suffix(region: &str) -> (&'static str, &'static str) {
    let found = PARTITIONS.iter().find(|(_, start, _)| region.starts_with(start));
    found.map_or(("aws", "amazonaws.com"), |(id, _, suffix)| (*id, *suffix))
}

/// The partition that a Region lies in.
pub fn partition_of(region: &str) -> &'static str {
    partition_and_suffix(region).0
}

/// The end of AWS's host names in a Region, `AWS::URLSuffix`.
pub fn dns_suffix_of(region: &str) -> &'static str {
    partition_and_suffix(region).1
}

/// The id of a zone: `use1-az1` of `us-east-1a`; `None` where the zone is no letter behind a Region.
///
/// Source: AWS RAM User Guide, "Availability Zone IDs" (published). Which letter is which number differs between accounts at
/// AWS; here `a` is the first (assumed).
pub fn zone_id(zone: &str) -> Option<String> {
    let letter = zone.chars().next_back().filter(char::is_ascii_lowercase)?;
    let region = &zone[..zone.len() - 1];
    if !is_region(region) {
        return None;
    }
    let (area, number) = region.rsplit_once('-')?;
    let (country, direction) = area.rsplit_once('-')?;
    let short = match direction {
        "northeast" => "ne",
        "northwest" => "nw",
        "southeast" => "se",
        "southwest" => "sw",
        other => other.get(..1)?,
    };
    let country = country.replace("-iso", "i").replace("-gov", "g").replace("eusc-", "eusc");
    Some(format!("{country}{short}{number}-az{}", u32::from(letter) - u32::from('a') + 1))
}

/// The name under which a function writes its logs unless told otherwise.
pub fn default_log_group(name: &str) -> String {
    format!("/aws/lambda/{name}")
}

fn is_partition(text: &str) -> bool {
    text.strip_prefix("aws")
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-'))
}

fn is_lower(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn is_qualifier(text: &str) -> bool {
    text == LATEST || is_name(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_the_ids_that_aws_gives() {
        for (zone, id) in [
            ("us-east-1a", Some("use1-az1")),
            ("eu-central-1c", Some("euc1-az3")),
            ("ap-southeast-2b", Some("apse2-az2")),
            ("us-gov-west-1a", Some("usgw1-az1")),
            ("cn-northwest-1a", Some("cnnw1-az1")),
            ("us-west-2-lax-1a", None),
            ("us-east-1", None),
            ("", None),
        ] {
            assert_eq!(zone_id(zone).as_deref(), id, "{zone}");
        }
    }

    type Parts = (String, Option<String>, Option<String>, Option<String>);

    fn read(text: &str) -> Option<Parts> {
        FunctionReference::parse(text)
            .ok()
            .map(|found| (found.name, found.qualifier, found.region, found.account))
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn every_form_of_a_name_is_read() {
        let cart = || "cart".to_owned();
        let (east, account) = (some("us-east-1"), some("123456789012"));
        assert_eq!(read("cart"), Some((cart(), None, None, None)));
        assert_eq!(read("cart:live"), Some((cart(), some("live"), None, None)));
        assert_eq!(read("cart:$LATEST"), Some((cart(), some("$LATEST"), None, None)));
        assert_eq!(read("function:cart"), Some((cart(), None, None, None)));
        assert_eq!(read("123456789012:function:cart"), Some((cart(), None, None, account.clone())));
        assert_eq!(read("123456789012:cart"), Some((cart(), None, None, account.clone())));
        assert_eq!(
            read("us-east-1:123456789012:function:cart:7"),
            Some((cart(), some("7"), east.clone(), account.clone()))
        );
        assert_eq!(
            read("arn:aws:lambda:us-east-1:123456789012:function:cart"),
            Some((cart(), None, east.clone(), account.clone()))
        );
        assert_eq!(
            read("arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:cart:live"),
            Some((cart(), some("live"), some("us-gov-west-1"), account))
        );
        assert_eq!(read("function"), Some(("function".to_owned(), None, None, None)));
        assert_eq!(read("123456789012"), Some(("123456789012".to_owned(), None, None, None)));
    }

    #[test]
    fn what_fits_no_form_is_refused() {
        for text in [
            "",
            ":",
            "cart:",
            ":live",
            "cart:a:b",
            "ca rt",
            "../cart",
            "cart\0",
            "arn:aws:s3:us-east-1:123456789012:function:cart",
            "arn:gcp:lambda:us-east-1:123456789012:function:cart",
            "arn:aws:lambda:us-east-1:123456789012:layer:cart:1",
            "arn:aws:lambda:us-east-1:123456789012:function:cart:a:b",
            "12345:function:cart",
            "kärt",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn regions_follow_the_recorded_pattern() {
        for region in [
            "us-east-1",
            "ap-southeast-4",
            "us-gov-west-1",
            "us-iso-east-1",
            "us-isob-east-1",
            "eusc-de-east-1",
        ] {
            assert!(is_region(region), "{region}");
        }
        for region in ["us-east", "us-east-12", "US-east-1", "u-east-1", "us-foo-east-1", "", "us--1"] {
            assert!(!is_region(region), "{region}");
        }
    }

    /// What botocore knows, where the tests' Python is installed.
    #[test]
    fn every_region_of_botocores_has_its_partition_and_suffix() {
        #![allow(clippy::disallowed_methods, reason = "a test reads what it compares with")]
        let lib = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/venv/lib");
        let pythons = std::fs::read_dir(lib).into_iter().flatten().flatten();
        let files = pythons.map(|python| python.path().join("site-packages/botocore/data/partitions.json"));
        for text in files.filter_map(|file| std::fs::read_to_string(file).ok()) {
            let all: serde_json::Value = serde_json::from_str(&text).unwrap();
            for partition in all["partitions"].as_array().unwrap() {
                let regions = partition["regions"].as_object().unwrap().keys();
                for region in regions.filter(|region| !region.ends_with("-global")) {
                    assert!(is_region(region), "{region}");
                    assert_eq!(partition_of(region), partition["id"], "{region}");
                    assert_eq!(dns_suffix_of(region), partition["outputs"]["dnsSuffix"], "{region}");
                }
            }
        }
    }

    #[test]
    fn names_for_creation_are_at_most_64_long() {
        assert!(is_function_name(&"a".repeat(64)));
        assert!(!is_function_name(&"a".repeat(65)));
        assert!(!is_function_name("a:b"));
        assert!(is_alias_name("v1") && !is_alias_name("1") && !is_alias_name(""));
    }
}
