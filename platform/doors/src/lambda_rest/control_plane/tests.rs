//! Requests and answers as clients write and read them.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};

struct Nothing;

impl Standing for Nothing {
    fn provisioned(&self, _: &str) -> Option<ProvisionedCounts> {
        None
    }

    fn preparation(&self, _: &str) -> Preparation {
        Preparation::Done
    }
}

struct Bench {
    control: Control,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = control::Options {
            data_dir: folder.path().to_owned(),
            account_id: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            account_concurrency: 1000,
            unreserved_minimum: 100,
            experimental_snap_start: false,
            passable: false,
        };
        Self { control: Control::open(options, Box::new(|_| {})).unwrap(), _folder: folder }
    }

    fn ask(&self, method: Method, path: &str, body: impl Into<Bytes>) -> (u16, Value, Response<()>) {
        let request =
            Request::builder().method(method).uri(path).header("host", "localhost:4999").body(()).unwrap();
        let response = handle(&self.control, &Nothing, &request.into_parts().0, &body.into()).unwrap();
        let (head, body) = response.into_parts();
        let value = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        (head.status.as_u16(), value, Response::from_parts(head, ()))
    }

    fn json(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let (status, value, _) = self.ask(method, path, body.to_string());
        (status, value)
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let (status, value, _) = self.ask(Method::GET, path, "");
        (status, value)
    }

    fn create(&self, name: &str) -> (u16, Value) {
        self.json(Method::POST, "/2015-03-31/functions", &new_function(name))
    }
}

fn new_function(name: &str) -> Value {
    // The smallest archive there is: one stored, empty entry named `index.py`, written by hand.
    let mut local = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0\0\0index.py".to_vec();
    let directory_at = local.len() as u32;
    let mut central = b"PK\x01\x02\x14\x03\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x08\0".to_vec();
    central.resize(46, 0);
    central.extend_from_slice(b"index.py");
    let size = central.len() as u32;
    local.append(&mut central);
    local.extend_from_slice(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    local.extend_from_slice(&size.to_le_bytes());
    local.extend_from_slice(&directory_at.to_le_bytes());
    local.extend_from_slice(&[0, 0]);
    json!({
        "FunctionName": name,
        "Runtime": "python3.13",
        "Role": "arn:aws:iam::000000000000:role/lambda",
        "Handler": "index.handler",
        "Code": {"ZipFile": STANDARD.encode(local)},
    })
}

#[test]
fn a_new_function_has_the_shape_of_the_api() {
    let bench = Bench::new();
    let (status, value) = bench.create("cart");
    assert_eq!(status, 201, "{value}");
    assert_eq!(value["FunctionArn"], "arn:aws:lambda:us-east-1:000000000000:function:cart");
    assert_eq!((&value["State"], &value["StateReasonCode"]), (&json!("Pending"), &json!("Creating")));
    assert_eq!(value["Timeout"], 3);
    assert_eq!(value["MemorySize"], 128);
    assert_eq!(value["Version"], "$LATEST");
    assert_eq!(value["PackageType"], "Zip");
    assert_eq!(value["EphemeralStorage"], json!({"Size": 512}));
    assert_eq!(value["SnapStart"], json!({"ApplyOn": "None", "OptimizationStatus": "Off"}));
    assert_eq!(value["LoggingConfig"], json!({"LogFormat": "Text", "LogGroup": "/aws/lambda/cart"}));
    assert!(value.get("VpcConfig").is_none() && value.get("Environment").is_none());
    let runtime = value["RuntimeVersionConfig"]["RuntimeVersionArn"].as_str().unwrap();
    let hex = runtime.strip_prefix("arn:aws:lambda:us-east-1::runtime:").unwrap();
    assert!(hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()), "{runtime}");

    let (status, got) = bench.get("/2015-03-31/functions/cart");
    let mut active = value.clone();
    let members = active.as_object_mut().unwrap();
    members.retain(|member, _| !member.starts_with("StateReason"));
    // With what was under way its revision has passed.
    let revision = got["Configuration"]["RevisionId"].clone();
    assert_ne!(Some(&revision), members.get("RevisionId"));
    members.extend([
        ("State".to_owned(), json!("Active")),
        ("LastUpdateStatus".to_owned(), json!("Successful")),
        ("RevisionId".to_owned(), revision),
    ]);
    assert_eq!((status, &got["Configuration"]), (200, &active));
    let (_, qualified) = bench.get("/2015-03-31/functions/cart/configuration?Qualifier=%24LATEST");
    assert_eq!(qualified["FunctionArn"], "arn:aws:lambda:us-east-1:000000000000:function:cart:$LATEST");
}

#[test]
fn errors_wear_their_headers_and_casing() {
    let bench = Bench::new();
    let (status, value, head) = bench.ask(Method::GET, "/2015-03-31/functions/none", "");
    assert_eq!(status, 404);
    assert_eq!(
        value,
        json!({"Type": "User", "Message": "Function not found: arn:aws:lambda:us-east-1:000000000000:function:none"})
    );
    assert_eq!(head.headers()["x-amzn-errortype"], "ResourceNotFoundException");
    assert_eq!(head.headers()["x-amzn-requestid"].len(), 36);
    bench.create("cart");
    let (status, value) = bench.create("cart");
    assert_eq!((status, value), (409, json!({"Type": "User", "message": "Function already exist: cart"})));
}

#[test]
fn broken_bodies_name_what_is_wrong() {
    let bench = Bench::new();
    let cases = [
        ("{", 400, "Could not parse request body into json: "),
        ("[]", 400, "Could not read the request body: "),
        (r#"{"FunctionName":"a","Timeout":"long"}"#, 400, "Could not read the member Timeout: "),
        (r#"{"Code":{"ZipFile":"%%%"}}"#, 400, "Could not read the member Code: not base64"),
        (r#"{"Environment":{"Variables":{"AB":1}}}"#, 400, "Could not read the member Environment: "),
        ("{}", 400, "3 validation errors detected: Value null at 'code' failed"),
    ];
    for (body, wanted, text) in cases {
        let (status, value, _) = bench.ask(Method::POST, "/2015-03-31/functions", body);
        let message = value["message"].as_str().or(value["Message"].as_str()).unwrap();
        assert_eq!(status, wanted, "{body}");
        assert!(message.starts_with(text), "{body}: {message}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(bench.ask(Method::POST, "/2015-03-31/functions", deep).0, 400);
}

#[test]
fn lists_come_in_pages() {
    let bench = Bench::new();
    for index in 0..7 {
        bench.create(&format!("f{index}"));
    }
    let mut names = Vec::new();
    let mut path = "/2015-03-31/functions?MaxItems=3".to_owned();
    loop {
        let (_, page) = bench.get(&path);
        let page_names: Vec<_> =
            page["Functions"].as_array().unwrap().iter().map(|f| f["FunctionName"].clone()).collect();
        assert!(page_names.len() <= 3);
        names.extend(page_names);
        let Some(next) = page["NextMarker"].as_str() else { break };
        path = format!("/2015-03-31/functions?MaxItems=3&Marker={next}");
    }
    assert_eq!(names, ["f0", "f1", "f2", "f3", "f4", "f5", "f6"]);
    assert_eq!(bench.get("/2015-03-31/functions?MaxItems=0").0, 400);
    assert_eq!(bench.get("/2015-03-31/functions?MaxItems=x").0, 400);
    assert_eq!(bench.get("/2015-03-31/functions?Marker=%21%21").0, 400);
}

#[test]
fn concurrency_keeps_the_floor() {
    let bench = Bench::new();
    bench.create("cart");
    let path = "/2017-10-31/functions/cart/concurrency";
    let (status, value) = bench.json(Method::PUT, path, &json!({"ReservedConcurrentExecutions": 901}));
    assert_eq!(status, 400);
    assert_eq!(
        value["message"],
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [100]."
    );
    assert_eq!(bench.json(Method::PUT, path, &json!({"ReservedConcurrentExecutions": 900})).0, 200);
    let (_, settings) = bench.get("/2016-08-19/account-settings");
    assert_eq!(settings["AccountLimit"]["UnreservedConcurrentExecutions"], 100);
    assert_eq!(bench.get("/2015-03-31/functions/cart").1["Concurrency"]["ReservedConcurrentExecutions"], 900);
    assert_eq!(bench.json(Method::PUT, path, &json!({})).0, 400);
    assert_eq!(bench.json(Method::DELETE, path, &json!({})).0, 204);
    assert_eq!(bench.get("/2019-09-30/functions/cart/concurrency").1, json!({}));
}

#[test]
fn urls_tags_and_policies_are_kept() {
    let bench = Bench::new();
    bench.create("cart");
    let url = "/2021-10-31/functions/cart/url";
    assert_eq!(bench.get(url).0, 404);
    let asked = json!({"AuthType": "NONE", "Cors": {"AllowOrigins": ["*"], "MaxAge": 60}});
    let (status, made) = bench.json(Method::POST, url, &asked);
    assert_eq!(status, 201, "{made}");
    let address = made["FunctionUrl"].as_str().unwrap();
    assert!(
        address.starts_with("http://") && address.ends_with(".lambda-url.us-east-1.localhost:4999/"),
        "{address}"
    );
    assert_eq!(bench.json(Method::POST, url, &asked).0, 409);
    let (_, updated) = bench.json(Method::PUT, url, &json!({"InvokeMode": "RESPONSE_STREAM"}));
    assert_eq!((&updated["AuthType"], &updated["InvokeMode"]), (&json!("NONE"), &json!("RESPONSE_STREAM")));
    assert_eq!(updated["Cors"], json!({"AllowOrigins": ["*"], "MaxAge": 60}));
    assert_eq!(bench.json(Method::PUT, url, &json!({"Cors": {"MaxAge": 86401}})).0, 400);
    assert_eq!(bench.json(Method::DELETE, url, &json!({})).0, 204);

    let tags = "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Acart";
    assert_eq!(bench.json(Method::POST, tags, &json!({"Tags": {"a": "1", "b": "2"}})).0, 204);
    assert_eq!(bench.ask(Method::DELETE, &format!("{tags}?tagKeys=a&tagKeys=x"), "").0, 204);
    assert_eq!(bench.get(tags).1, json!({"Tags": {"b": "2"}}));

    let policy = "/2015-03-31/functions/cart/policy";
    assert_eq!(bench.get(policy).0, 404);
    let asked = json!({"StatementId": "s1", "Action": "lambda:InvokeFunction", "Principal": "apigateway.amazonaws.com", "SourceArn": "arn:aws:execute-api:us-east-1:000000000000:x/*"});
    assert_eq!(bench.json(Method::POST, policy, &asked).0, 201);
    assert_eq!(bench.json(Method::POST, policy, &asked).0, 409);
    let kept: Value = serde_json::from_str(bench.get(policy).1["Policy"].as_str().unwrap()).unwrap();
    assert_eq!(kept["Statement"][0]["Principal"], json!({"Service": "apigateway.amazonaws.com"}));
    assert_eq!(bench.ask(Method::DELETE, &format!("{policy}/s1"), "").0, 204);
    assert_eq!(bench.ask(Method::DELETE, &format!("{policy}/s1"), "").0, 404);
}

#[test]
fn what_is_not_run_is_refused_by_its_name() {
    let bench = Bench::new();
    bench.create("cart");
    let (status, value, head) = bench.ask(Method::GET, "/2025-11-30/capacity-providers", "");
    assert_eq!((status, &value["message"]), (501, &json!("ListCapacityProviders is not run by Onrush yet.")));
    assert_eq!(head.headers()["x-amzn-errortype"], "NotImplementedException");
}

#[test]
fn other_paths_are_left_to_others() {
    let bench = Bench::new();
    let request = Request::builder().uri("/_onrush/health").body(()).unwrap();
    assert!(handle(&bench.control, &Nothing, &request.into_parts().0, &Bytes::new()).is_none());
}

#[test]
fn versions_and_aliases_have_the_shapes_of_the_api() {
    let bench = Bench::new();
    bench.create("cart");
    let (status, version) =
        bench.json(Method::POST, "/2015-03-31/functions/cart/versions", &json!({"Description": "first"}));
    assert_eq!((status, &version["Version"], &version["State"]), (201, &json!("1"), &json!("Pending")));
    assert_eq!(version["FunctionArn"], "arn:aws:lambda:us-east-1:000000000000:function:cart:1");
    let aliases = "/2015-03-31/functions/cart/aliases";
    let (status, alias) = bench.json(Method::POST, aliases, &json!({"Name": "live", "FunctionVersion": "1"}));
    assert_eq!(status, 201, "{alias}");
    assert_eq!(alias["AliasArn"], "arn:aws:lambda:us-east-1:000000000000:function:cart:live");
    assert_eq!(bench.get(&format!("{aliases}/live")).1, alias);
    let (_, shown) = bench.get("/2015-03-31/functions/cart/configuration?Qualifier=live");
    assert_eq!(
        (&shown["FunctionArn"], &shown["Version"], &shown["State"]),
        (&alias["AliasArn"], &json!("1"), &json!("Active"))
    );
    let (_, all) = bench.get("/2015-03-31/functions?FunctionVersion=ALL");
    let versions: Vec<&Value> =
        all["Functions"].as_array().unwrap().iter().map(|found| &found["Version"]).collect();
    assert_eq!(versions, [&json!("$LATEST"), &json!("1")]);
    let (_, page) = bench.get("/2015-03-31/functions/cart/versions?MaxItems=1");
    let marker = page["NextMarker"].as_str().unwrap();
    let (_, rest) = bench.get(&format!("/2015-03-31/functions/cart/versions?Marker={marker}"));
    assert_eq!((&rest["Versions"][0]["Version"], &rest["NextMarker"]), (&json!("1"), &Value::Null));
    assert_eq!(bench.get(&format!("{aliases}?FunctionVersion=2")).1, json!({"Aliases": []}));
    assert_eq!(bench.json(Method::PUT, &format!("{aliases}/gone"), &json!({})).0, 404);
    assert_eq!(bench.ask(Method::DELETE, &format!("{aliases}/live"), "").0, 204);
}

#[test]
fn a_marker_is_good_for_its_own_list_alone() {
    let bench = Bench::new();
    for name in ["a", "a-b", "b"] {
        assert_eq!(bench.create(name).0, 201);
    }
    let first = bench.get("/2015-03-31/functions?MaxItems=1").1;
    let marker = first["NextMarker"].as_str().unwrap();
    assert_eq!(bench.get(&format!("/2015-03-31/functions?Marker={marker}")).0, 200);
    // Neither for another list, nor with one letter changed.
    assert_eq!(bench.get(&format!("/2015-03-31/functions/a/versions?Marker={marker}")).0, 400);
    for at in 0..marker.len() {
        let other = if &marker[at..=at] == "A" { "B" } else { "A" };
        let forged = format!("{}{other}{}", &marker[..at], &marker[at + 1..]);
        let (status, _) = bench.get(&format!("/2015-03-31/functions?Marker={forged}"));
        // The last letter of base64 has bits that say nothing.
        assert!(status == 400 || at + 1 == marker.len(), "{forged}");
    }
}

#[test]
fn functions_and_their_versions_come_in_pages_each_once() {
    let bench = Bench::new();
    let mut expected = Vec::new();
    for name in ["a", "a-b", "a_b", "b", "b1"] {
        assert_eq!(bench.create(name).0, 201);
        expected.push(format!("{name}:$LATEST"));
        for number in 1..=12 {
            if name != "a-b" {
                continue;
            }
            let description = json!({"Description": number.to_string()});
            let path = format!("/2015-03-31/functions/{name}/configuration");
            assert_eq!(bench.json(Method::PUT, &path, &description).0, 200);
            assert_eq!(
                bench.json(Method::POST, &format!("/2015-03-31/functions/{name}/versions"), &json!({})).0,
                201
            );
            expected.push(format!("{name}:{number}"));
        }
    }
    for size in [1, 2, 5, 16, 17, 50] {
        let (mut found, mut marker) = (Vec::new(), String::new());
        loop {
            let path = format!("/2015-03-31/functions?FunctionVersion=ALL&MaxItems={size}&Marker={marker}");
            let (status, page) = bench.get(&path);
            assert_eq!(status, 200, "{page}");
            let functions = page["Functions"].as_array().unwrap();
            assert!(functions.len() <= size);
            found.extend(functions.iter().map(|function| {
                let text = |member: &str| function[member].as_str().unwrap().to_owned();
                format!("{}:{}", text("FunctionName"), text("Version"))
            }));
            let Some(next) = page["NextMarker"].as_str() else { break };
            assert_eq!(functions.len(), size);
            marker = next.to_owned();
        }
        assert_eq!(found, expected, "{size}");
    }
}
