//! What the endpoints answer to bytes that any function sends, without a connection: for fuzzing.

use crate::Vault;
use crate::server::of_operation;
use crate::sts::{self, Caller};
use bytes::Bytes;
use http::Response;

/// Answers an operation of `ssm` or `secretsmanager` in JSON, or of `sts`, whose `body` is a form in place of one.
pub fn answer(vault: &Vault, service: &str, operation: &str, body: &[u8]) -> Response<Bytes> {
    let (region, account_id) = ("us-east-1", "000000000000");
    if service == "sts" {
        let caller = Caller { account_id, partition: "aws", role_arn: None, function: None };
        return sts::answer(&caller, std::str::from_utf8(body).unwrap_or_default());
    }
    of_operation(vault, (region, account_id), service, operation, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_answers_in_its_own_language() {
        let vault = Vault::open(None, None).unwrap();
        let put = br#"{"Name":"/a","Value":"b","Type":"String"}"#;
        assert_eq!(answer(&vault, "ssm", "PutParameter", put).status(), 200);
        let got = answer(&vault, "ssm", "GetParameter", br#"{"Name":"/a"}"#);
        assert!(String::from_utf8_lossy(got.body()).contains("\"Value\":\"b\""));
        assert_eq!(answer(&vault, "secretsmanager", "GetSecretValue", b"[]").status(), 400);
        let identity = answer(&vault, "sts", "", b"Action=GetCallerIdentity&Version=2011-06-15");
        assert!(identity.body().starts_with(b"<"));
    }
}
