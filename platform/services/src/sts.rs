//! STS: who a function is.
//!
//! Source: AWS STS API Reference, "GetCallerIdentity"; the query protocol, answers in XML.

use http::StatusCode;
use model::error::{ApiError, ErrorCode};

use crate::answer::{Answer, request_id, with};

/// Before the function's name in the session token of its environment; the token proves nothing, it only says who asks.
pub const SESSION_TOKEN_PREFIX: &str = "onrush-local-session.";

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Who asks, as the credentials say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller<'a> {
    pub account_id: &'a str,
    pub partition: &'a str,
    /// The function's role, if a function asks.
    pub role_arn: Option<&'a str>,
    /// The function's name: the session's name on AWS, too.
    pub function: Option<&'a str>,
}

pub(crate) fn answer(caller: &Caller<'_>, form: &str) -> Answer {
    let field = |name: &str| {
        form.split('&')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    };
    match field("Action") {
        Some("GetCallerIdentity") => identity(caller),
        action => {
            let action: String =
                action.unwrap_or("none").chars().filter(char::is_ascii_alphanumeric).take(100).collect();
            let message = format!(
                "Could not find operation {action} for version 2011-06-15; Onrush's sts has GetCallerIdentity"
            );
            refused(StatusCode::BAD_REQUEST, "InvalidAction", &message)
        }
    }
}

/// A request that does not get so far, in the query protocol's words for it.
///
/// Source: AWS STS API Reference, "Common Errors"; `ExpiredToken` and `SignatureDoesNotMatch` as SDKs report them.
pub(crate) fn refuse(error: &ApiError) -> Answer {
    let code = match error.code {
        ErrorCode::InvalidSignature => "SignatureDoesNotMatch",
        ErrorCode::UnrecognizedClient => "InvalidClientTokenId",
        other => other.as_str().trim_end_matches("Exception"),
    };
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    refused(status, code, &error.message)
}

fn refused(status: StatusCode, code: &str, message: &str) -> Answer {
    let text = format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{}</Message></Error>\
         <RequestId>{}</RequestId></ErrorResponse>",
        escaped(message),
        request_id()
    );
    with(status, "text/xml", text)
}

fn identity(caller: &Caller<'_>) -> Answer {
    let (account, partition) = (caller.account_id, caller.partition);
    let (arn, user) = match (caller.role_arn, caller.function) {
        (role, Some(function)) => {
            let role = role.and_then(|arn| arn.rsplit_once('/')).map_or("onrush", |(_, name)| name);
            let arn = format!("arn:{partition}:sts::{account}:assumed-role/{role}/{function}");
            (arn, format!("AROAONRUSHLOCAL00000:{function}"))
        }
        _ => (format!("arn:{partition}:iam::{account}:root"), account.to_owned()),
    };
    let text = format!(
        "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\"><GetCallerIdentityResult><Arn>{}</Arn><UserId>{}</UserId>\
         <Account>{}</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata>\
         </GetCallerIdentityResponse>",
        escaped(&arn),
        escaped(&user),
        escaped(account),
        request_id()
    );
    with(StatusCode::OK, "text/xml", text)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_its_role_in_a_session_of_its_name() {
        let role_arn = Some("arn:aws:iam::000000000000:role/service/shop-role");
        let caller =
            Caller { account_id: "000000000000", partition: "aws", role_arn, function: Some("cart") };
        let answer = answer(&caller, "Version=2011-06-15&Action=GetCallerIdentity");
        let text = String::from_utf8(answer.into_body().to_vec()).unwrap();
        assert!(text.contains("<Arn>arn:aws:sts::000000000000:assumed-role/shop-role/cart</Arn>"), "{text}");
    }

    #[test]
    fn other_actions_are_refused_without_repeating_markup() {
        let caller = Caller { account_id: "000000000000", partition: "aws", role_arn: None, function: None };
        let answer = answer(&caller, "Action=<script>");
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert!(!String::from_utf8(answer.into_body().to_vec()).unwrap().contains("<script>"));
    }
}
