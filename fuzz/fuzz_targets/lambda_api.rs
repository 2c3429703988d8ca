//! Any requests to Lambda's control plane, one after another on the same functions: answered or refused with an error of
//! Lambda's, never a panic, never a fault of ours. The input: requests behind bytes of 0, each `METHOD PATH`, a line's end and a body.
#![no_main]

use bytes::Bytes;
use control::Control;
use doors::lambda_rest::control_plane::{Standing, handle};
use http::{Method, Request};
use invoke::{Preparation, ProvisionedCounts};
use std::sync::LazyLock;

const REQUESTS_MAX: usize = 12;

struct Nothing;

impl Standing for Nothing {
    fn provisioned(&self, _: &str) -> Option<ProvisionedCounts> {
        None
    }

    fn preparation(&self, _: &str) -> Preparation {
        Preparation::Done
    }
}

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    // Each change is synced: memory is faster.
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
});
static CONTROL: LazyLock<Control> = LazyLock::new(|| {
    let options = control::Options {
        data_dir: FOLDER.path().to_owned(),
        account_id: "000000000000".to_owned(),
        region: "us-east-1".to_owned(),
        account_concurrency: 1000,
        unreserved_minimum: 100,
        experimental_snap_start: false,
        passable: false,
    };
    Control::open(options, Box::new(|_| {})).unwrap()
});

fn ask(method: &str, path: &str, body: &[u8]) {
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let Ok(request) = Request::builder().method(method).uri(path).header("host", "localhost:4566").body(()) else {
        return;
    };
    let head = request.into_parts().0;
    let Some(answer) = handle(&CONTROL, &Nothing, &head, &Bytes::copy_from_slice(body)) else { return };
    let refused = answer.headers().contains_key("x-amzn-errortype");
    assert_eq!(refused, answer.status().as_u16() >= 400);
    // 501 names what is not run.
    assert!(answer.status().as_u16() < 500 || answer.status().as_u16() == 501, "{head:?} {answer:?}");
    if !answer.body().is_empty() {
        serde_json::from_slice::<serde_json::Value>(answer.body()).unwrap();
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for request in bytes.split(|byte| *byte == 0).take(REQUESTS_MAX) {
        let end = request.iter().position(|byte| *byte == b'\n').unwrap_or(request.len());
        let (line, body) = request.split_at(end);
        let Some((method, path)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(' ')) else { continue };
        ask(method, path, body.get(1..).unwrap_or_default());
    }
    // The next input finds nothing.
    for function in CONTROL.functions() {
        ask("DELETE", &format!("/2015-03-31/functions/{}", function.name), b"");
    }
});
