use super::*;
use http::Request;

/// The key of AWS's published test suite.
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const ID: &str = "AKIDEXAMPLE";
const TIME: &str = "20150830T123600Z";
const NOW_S: u64 = 1_440_938_160;

fn keys() -> Keys {
    let mut keys = Keys::default();
    keys.put(Key {
        id: ID.to_owned(),
        secret: SECRET.to_owned(),
        session_token: None,
        expires_s: None,
        account_id: None,
    });
    keys
}

fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn verify(keys: &Keys, head: &Parts, body: &str, now_s: u64) -> Result<(Signer, Bytes), ApiError> {
    let scope = Scope { region: Some("us-east-1"), service: None, now_s };
    begin(keys, head, scope)?.finish(head, Bytes::copy_from_slice(body.as_bytes()))
}

fn authorization(names: &str, signature: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential={ID}/20150830/us-east-1/service/aws4_request, SignedHeaders={names}, Signature={signature}"
    )
}

#[test]
fn a_headers_name_may_look_like_an_escape() {
    let headers = [("host", "a"), ("x-%2f", "b"), ("x-amz-date", TIME)];
    let mut head = head("GET", "/", &headers);
    let signed = sign(&head, b"", ID, SECRET, "us-east-1", "service").unwrap();
    head.headers.insert("authorization", signed.authorization.parse().unwrap());
    assert!(verify(&keys(), &head, "", NOW_S).is_ok());
}

/// Published vectors: `aws-sig-v4-test-suite`, by the names of its folders.
#[test]
fn published_vectors_are_verified_and_nothing_else_is() {
    let vanilla = [("host", "example.amazonaws.com"), ("x-amz-date", TIME)];
    let form = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("host", "example.amazonaws.com"),
        ("x-amz-date", TIME),
    ];
    let trim = [
        ("host", "example.amazonaws.com"),
        ("my-header1", " value1"),
        ("my-header2", " \"a   b   c\" "),
        ("x-amz-date", TIME),
    ];
    let (short, with_type) = ("host;x-amz-date", "content-type;host;x-amz-date");
    type Row<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, &'a str, &'a str);
    let rows: [Row<'_>; 7] = [
        (
            "get-vanilla",
            "GET",
            "/",
            &vanilla,
            short,
            "",
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            "get-vanilla-query-order-key-case",
            "GET",
            "/?Param2=value2&Param1=value1",
            &vanilla,
            short,
            "",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "get-vanilla-query-unreserved",
            "GET",
            "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            &vanilla,
            short,
            "",
            "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        ),
        (
            "get-header-value-trim",
            "GET",
            "/",
            &trim,
            "host;my-header1;my-header2;x-amz-date",
            "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        (
            "get-unreserved",
            "GET",
            "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            &vanilla,
            short,
            "",
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        (
            "post-vanilla",
            "POST",
            "/",
            &vanilla,
            short,
            "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            "post-x-www-form-urlencoded",
            "POST",
            "/",
            &form,
            with_type,
            "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ];
    for (name, method, target, headers, signed, body, signature) in rows {
        let mut headers = headers.to_vec();
        let authorization = authorization(signed, signature);
        headers.push(("authorization", &authorization));
        let request = head(method, target, &headers);
        let (signer, _) =
            verify(&keys(), &request, body, NOW_S).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(signer.access_key_id, ID);
        // Anything else under the same signature is refused.
        let other = head("PUT", target, &headers);
        for (request, body) in [(&request, "changed"), (&other, body)] {
            assert_eq!(
                verify(&keys(), request, body, NOW_S).unwrap_err().code,
                ErrorCode::InvalidSignature,
                "{name}"
            );
        }
    }
}

/// A request that was signed for one thing is good for nothing else: one changed byte of the target, of a signed header, of
/// the signature and what it says of itself, or of the body.
#[test]
fn no_byte_of_what_is_signed_can_be_changed() {
    let signed = "content-type;host;x-amz-date";
    let signature = "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a";
    let authorization = authorization(signed, signature);
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("host", "example.amazonaws.com"),
        ("x-amz-date", TIME),
        ("authorization", &authorization),
    ];
    let changed = |text: &str, at: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] ^= 1;
        String::from_utf8(bytes).unwrap()
    };
    let post = |target: &str, headers: &[(&str, &str)], body: &str| {
        verify(&keys(), &head("POST", target, headers), body, NOW_S).map(|(signer, _)| signer.access_key_id)
    };
    assert_eq!(post("/", &headers, "Param1=value1").unwrap(), ID);
    for (index, (name, value)) in headers.iter().enumerate() {
        for at in 0..value.len() {
            let value = changed(value, at);
            let mut headers = headers;
            headers[index].1 = &value;
            assert!(post("/", &headers, "Param1=value1").is_err(), "{name}: {value}");
        }
    }
    for at in 0.."Param1=value1".len() {
        let body = changed("Param1=value1", at);
        assert_eq!(post("/", &headers, &body).unwrap_err().code, ErrorCode::InvalidSignature, "{body}");
    }
    for target in ["/2015-03-31/functions", "/a", "/?a", "/%2F"] {
        assert!(post(target, &headers, "Param1=value1").is_err(), "{target}");
    }
}

/// The chunks of S3's documentation, 65,536 and 1,024 times `a`; the Region is the same, the key another.
#[test]
fn chunks_are_verified_one_by_one() {
    let signing =
        canonical::signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1", "s3");
    let seed = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    let chunk = |size: usize, signature: &str| {
        format!("{size:x};chunk-signature={signature}\r\n{}\r\n", "a".repeat(size))
    };
    let whole = [
        chunk(65_536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        chunk(1_024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        chunk(0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ]
    .concat();
    let decode = |body: &str| {
        let scope = "20130524/us-east-1/s3/aws4_request";
        chunks::decode(&signing, "20130524T000000Z", scope, seed, &Bytes::copy_from_slice(body.as_bytes()))
    };
    assert_eq!(decode(&whole).unwrap().len(), 66_560);
    assert_eq!(decode(&whole.replacen('a', "b", 10)), None);
    for cut in [0, 1, 90, 66_000, whole.len() - 1] {
        assert_eq!(decode(&whole[..cut]), None, "cut at {cut}");
    }
    assert_eq!(decode("ffffffffffffffff;chunk-signature=0\r\n"), None);
}

#[test]
fn what_is_wrong_is_said_as_aws_does() {
    let right = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    let whole = authorization("host;x-amz-date", right);
    let request = |authorization: &str| {
        head(
            "GET",
            "/",
            &[("host", "example.amazonaws.com"), ("x-amz-date", TIME), ("authorization", authorization)],
        )
    };
    let said = |request: &Parts, now_s: u64| {
        let error = verify(&keys(), request, "", now_s).unwrap_err();
        (error.code.as_str(), error.message)
    };
    let unsigned = head("GET", "/", &[("host", "example.amazonaws.com")]);
    assert_eq!(said(&unsigned, NOW_S).0, "MissingAuthenticationTokenException");
    let (code, message) = said(&request("AWS4-HMAC-SHA256 Credential=x"), NOW_S);
    assert_eq!(code, "IncompleteSignatureException");
    assert_eq!(
        message,
        "Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. "
    );
    assert_eq!(said(&request(&whole.replace(ID, "AKIAOTHER")), NOW_S).0, "UnrecognizedClientException");
    let (code, message) = said(&request(&whole), NOW_S + 301);
    assert_eq!(code, "InvalidSignatureException");
    assert_eq!(
        message,
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T124101Z - 5 min.)"
    );
    let (_, message) = said(&request(&whole), NOW_S - 301);
    assert_eq!(
        message,
        "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T123059Z + 5 min.)"
    );
    assert!(verify(&keys(), &request(&whole), "", NOW_S + 300).is_ok());
    assert!(said(&request(&whole.replace("us-east-1", "eu-west-1")), NOW_S).1.contains("valid region"));
    assert!(
        said(&request(&whole.replace("/20150830/", "/20150831/")), NOW_S)
            .1
            .contains("'20150831' != '20150830'")
    );
    assert!(
        said(&request(&whole.replace("aws4_request", "aws3_request")), NOW_S).1.contains("valid terminator")
    );
    assert!(said(&request(&whole.replace("host;", "")), NOW_S).1.contains("must be a 'SignedHeader'"));
    assert_eq!(said(&request(&whole.replace("/service/", "/")), NOW_S).0, "IncompleteSignatureException");
    let scope = Scope { region: Some("us-east-1"), service: Some("lambda"), now_s: NOW_S };
    let other = begin(&keys(), &request(&whole), scope).err().unwrap();
    assert_eq!(other.message, "Credential should be scoped to correct service: 'lambda'. ");
}

#[test]
fn temporary_credentials_need_their_token_and_their_time() {
    let mut keys = keys();
    let token = Some(SessionToken::Is("token".to_owned()));
    keys.put(Key {
        id: ID.to_owned(),
        secret: SECRET.to_owned(),
        session_token: token,
        expires_s: Some(NOW_S),
        account_id: None,
    });
    let mut request =
        head("GET", "/", &[("host", "h"), ("x-amz-date", TIME), ("x-amz-security-token", "token")]);
    let signed = sign(&request, b"", ID, SECRET, "us-east-1", "lambda").unwrap();
    request.headers.insert("authorization", signed.authorization.parse().unwrap());
    assert!(verify(&keys, &request, "", NOW_S - 1).is_ok());
    assert_eq!(verify(&keys, &request, "", NOW_S).unwrap_err().code, ErrorCode::ExpiredToken);
    request.headers.remove("x-amz-security-token");
    assert_eq!(verify(&keys, &request, "", NOW_S - 1).unwrap_err().code, ErrorCode::UnrecognizedClient);
}

#[test]
fn strange_heads_are_refused_without_harm() {
    let strange = [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 ",
        "Basic eA==",
        "AWS4-HMAC-SHA256 Credential=/////////,Signature=,SignedHeaders=",
        "AWS4-HMAC-SHA256 Credential=é/é/é/é/é,Signature=é,SignedHeaders=é",
        "AWS4-HMAC-SHA256 Credential=%2F%2F%2F%2F,Signature=x,SignedHeaders=host",
    ];
    for authorization in strange {
        let request = head("GET", "/%zz?a=%&&=&X-Amz-Expires=-1", &[("host", "h"), ("x-amz-date", TIME)]);
        let mut request = request;
        request
            .headers
            .insert("authorization", http::HeaderValue::from_bytes(authorization.as_bytes()).unwrap());
        assert!(verify(&keys(), &request, "", NOW_S).is_err(), "{authorization}");
    }
    for query in [
        "X-Amz-Signature=",
        "X-Amz-Algorithm=x",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=%E9&X-Amz-Signature=0&X-Amz-SignedHeaders=host&X-Amz-Date=x&X-Amz-Expires=99999999999999999999",
    ] {
        let request = head("GET", &format!("/?{query}"), &[("host", "h")]);
        assert_eq!(
            verify(&keys(), &request, "", NOW_S).unwrap_err().code,
            ErrorCode::IncompleteSignature,
            "{query}"
        );
    }
}
