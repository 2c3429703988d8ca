//! AWS's own host names: which service and Region one means.

use crate::name::is_region;

/// The domains of the partitions that the internet knows; with those of function URLs, and those for IPv6 too.
///
/// Source: botocore, `data/partitions.json`, `dnsSuffix` and `dualStackDnsSuffix` (published).
pub const DOMAINS: [&str; 7] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonaws.eu",
    "api.aws",
    "api.amazonwebservices.com.cn",
    "api.amazonwebservices.eu",
    "on.aws",
];

/// Whether a name lies in one of AWS's domains.
pub fn is_aws(name: &str) -> bool {
    under(name).is_some()
}

/// What stands before the domain.
fn under(name: &str) -> Option<&str> {
    DOMAINS.iter().find_map(|domain| name.strip_suffix(domain)?.strip_suffix('.'))
}

/// What one of AWS's host names means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsName {
    /// `ssm`, `s3`, `execute-api`; empty for a name that is of AWS but of no service.
    pub service: String,
    /// The Region that the name has, if it has one.
    pub region: Option<String>,
}

impl AwsName {
    /// What the name means; `None` when it is not one of AWS's.
    ///
    /// Takes every form that SDKs use: regional and global, dual-stack, FIPS, with a bucket, an account or an API id before
    /// it, and the names of interface endpoints.
    pub fn read(name: &str) -> Option<Self> {
        let rest = under(name)?;
        let mut labels: Vec<&str> = rest.split('.').filter(|label| *label != "dualstack").collect();
        if labels.last() == Some(&"vpce") {
            labels.pop();
        }
        let last = labels.pop().unwrap_or_default();
        let (service, region) = match is_region(last) {
            true => (labels.pop().unwrap_or_default(), Some(last)),
            // `us-east-1.queue.amazonaws.com` and names of databases have the Region before the service.
            false => (last, labels.pop().filter(|label| is_region(label))),
        };
        let (service, region) = match service.strip_prefix("s3-").filter(|region| is_region(region)) {
            Some(old) => ("s3", Some(old)),
            None => (service, region),
        };
        let service = service.strip_suffix("-fips").unwrap_or(service);
        let service = match service {
            "queue" => "sqs",
            "ddb" => "dynamodb",
            other => other,
        };
        Some(Self { service: service.to_owned(), region: region.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_name_says_its_service_and_region() {
        for (name, service, region) in [
            ("ssm.us-east-1.amazonaws.com", "ssm", Some("us-east-1")),
            ("sts.amazonaws.com", "sts", None),
            ("sts-fips.us-gov-west-1.amazonaws.com", "sts", Some("us-gov-west-1")),
            ("carts.s3.eu-west-1.amazonaws.com", "s3", Some("eu-west-1")),
            ("my.bucket.s3.amazonaws.com", "s3", None),
            ("s3.dualstack.us-east-1.amazonaws.com", "s3", Some("us-east-1")),
            ("carts.s3-eu-west-1.amazonaws.com", "s3", Some("eu-west-1")),
            ("123456789012.ddb.us-east-1.amazonaws.com", "dynamodb", Some("us-east-1")),
            ("us-east-1.queue.amazonaws.com", "sqs", Some("us-east-1")),
            ("vpce-0a-1b.ssm.us-east-1.vpce.amazonaws.com", "ssm", Some("us-east-1")),
            ("abc.execute-api.us-east-1.amazonaws.com", "execute-api", Some("us-east-1")),
            ("abc.lambda-url.us-east-1.on.aws", "lambda-url", Some("us-east-1")),
            ("ssm.us-east-1.api.aws", "ssm", Some("us-east-1")),
            ("db.xyz.us-east-1.rds.amazonaws.com", "rds", Some("us-east-1")),
            ("kinesis.cn-north-1.amazonaws.com.cn", "kinesis", Some("cn-north-1")),
            ("sqs.eusc-de-east-1.amazonaws.eu", "sqs", Some("eusc-de-east-1")),
            ("sqs.eusc-de-east-1.api.amazonwebservices.eu", "sqs", Some("eusc-de-east-1")),
        ] {
            let read = AwsName::read(name).unwrap();
            assert_eq!((read.service.as_str(), read.region.as_deref()), (service, region), "{name}");
        }
        for name in ["amazonaws.com.example.com", "example.com", "notamazonaws.com", "amazonaws.com"] {
            assert_eq!(AwsName::read(name), None, "{name}");
        }
        assert!(AwsName::read("us-east-1.amazonaws.com").unwrap().service.is_empty());
    }
}
