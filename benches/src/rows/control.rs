//! Operations of the control plane with ten functions deployed and with ten thousand, which share one small package.

use crate::bench::{Bench, Board};
use crate::figure::{Figure, Goal, Samples};
use crate::http::Kept;
use crate::platform::{Platform, Site};
use crate::process::resident_kib;
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::time::{Duration, Instant};

const FEW: usize = 10;
const MANY: usize = 10_000;
/// Source of the goals: the project's list of figures.
const OPERATION_MS: f64 = 2.0;
const OF_FEW: f64 = 2.0;
const FUNCTIONS: &str = "/2015-03-31/functions";
/// A zip, in base64, with one `index.py`: `def handler(event, context):` and `return event`.
const PACKAGE: &str = "\
    UEsDBBQAAAAAAAAAIQC0CHBpLgAAAC4AAAAIAAAAaW5kZXgucHlkZWYgaGFuZGxlcihldmVudCwgY29udGV4dCk6CiAgICByZXR1\
    cm4gZXZlbnQKUEsBAhQDFAAAAAAAAAAhALQIcGkuAAAALgAAAAgAAAAAAAAAAAAAAIABAAAAAGluZGV4LnB5UEsFBgAAAAABAAEA\
    NgAAAFQAAAAAAA==";

/// One kind of request: what it is called, and what is sent for the round's own function.
struct Operation {
    name: &'static str,
    method: &'static str,
    path: fn(&str) -> String,
    body: fn(usize, &str) -> String,
}

const OPERATIONS: &[Operation] = &[
    Operation {
        name: "CreateFunction",
        method: "POST",
        path: |_| FUNCTIONS.to_owned(),
        body: |_, function| function.to_owned(),
    },
    Operation {
        name: "GetFunction",
        method: "GET",
        path: |name| format!("{FUNCTIONS}/{name}"),
        body: |_, _| String::new(),
    },
    Operation {
        name: "UpdateFunctionConfiguration",
        method: "PUT",
        path: |name| format!("{FUNCTIONS}/{name}/configuration"),
        body: |round, _| json!({ "Timeout": 3 + round % 800 }).to_string(),
    },
    Operation {
        name: "PutFunctionConcurrency",
        method: "PUT",
        path: |name| format!("/2017-10-31/functions/{name}/concurrency"),
        body: |_, _| json!({ "ReservedConcurrentExecutions": 1 }).to_string(),
    },
    Operation {
        name: "ListFunctions",
        method: "GET",
        path: |_| format!("{FUNCTIONS}?MaxItems=50"),
        body: |_, _| String::new(),
    },
    Operation {
        name: "DeleteFunction",
        method: "DELETE",
        path: |name| format!("{FUNCTIONS}/{name}"),
        body: |_, _| String::new(),
    },
];

pub fn run(bench: &Bench, board: &mut Board) -> Result<()> {
    let many_functions = bench.pick(MANY / 10, MANY);
    let few = Deployed::new(bench, FEW)?;
    let many = Deployed::new(bench, many_functions)?;
    let mut starts = [const { Samples(Vec::new()) }; 2];
    let mut resident = [const { Samples(Vec::new()) }; 2];
    for _ in 0..bench.rounds() {
        for (number, deployed) in [&few, &many].into_iter().enumerate() {
            let platform = deployed.site.start()?;
            starts[number].push(platform.ready_after.as_secs_f64() * 1e3);
            resident[number]
                .push(platform.running.family().first().map_or(0, |id| resident_kib(*id)) as f64 / 1024.0);
        }
    }
    let [small, large] = [few.site.start()?, many.site.start()?];
    let of_few = figures(bench, &small)?;
    let of_many = figures(bench, &large)?;
    for ((what, few), (_, many)) in of_few.into_iter().zip(of_many) {
        if what != "Invoke" {
            let what = format!("{what}, {FEW} functions, p50");
            board.add(Figure {
                what,
                unit: "ms",
                ours: few.clone(),
                other: None,
                goal: Goal::AtMost(OPERATION_MS),
            });
        }
        let what = format!("{what}, {many_functions} functions, p50");
        let goal = Goal::TimesAtMost(OF_FEW);
        board.add(Figure { what, unit: "ms", ours: many, other: Some(("10 functions", few)), goal });
    }
    let [few, many] = starts;
    let what = format!("ready after the start, {many_functions} functions");
    let goal = Goal::TimesAtMost(OF_FEW);
    board.add(Figure { what, unit: "ms", ours: many, other: Some(("10 functions", few)), goal });
    let [few, many] = resident.map(|samples| samples.median());
    let each = Samples(vec![(many - few) * 1024.0 / many_functions as f64]);
    let what = "memory of a function that is deployed and idle".to_owned();
    board.add(Figure { what, unit: "KiB", ours: each, other: None, goal: Goal::AtMost(20.0) });
    Ok(())
}

/// A data folder with that many functions, made through the API.
struct Deployed {
    site: Site,
}

impl Deployed {
    fn new(bench: &Bench, count: usize) -> Result<Self> {
        let site = Site::new(bench, &[])?;
        let platform = site.start()?;
        let mut connection = Kept::open(platform.address)?;
        for number in 0..count {
            let body = function(&format!("many-{number:05}"));
            let status = connection.ask("POST", FUNCTIONS, &body)?.0;
            ensure!(status == 201, "CreateFunction answered {status}");
        }
        Ok(Self { site })
    }
}

/// The median time of each operation, over functions that are made and deleted again.
fn figures(bench: &Bench, platform: &Platform) -> Result<Vec<(&'static str, Samples)>> {
    let mut connection = Kept::open(platform.address)?;
    let mut all: Vec<_> = OPERATIONS.iter().map(|operation| (operation.name, Samples::default())).collect();
    all.push(("Invoke", Samples::default()));
    let name = |round: usize| format!("own-{round:03}");
    let rounds = bench.pick(20, 100);
    // A few repeats of the whole, whose medians are the samples.
    for _ in 0..bench.rounds() {
        for (at, operation) in OPERATIONS.iter().enumerate() {
            let mut times = Samples::default();
            for round in 0..rounds {
                let body = (operation.body)(round, &function(&name(round)));
                let begun = Instant::now();
                let (status, answer) =
                    connection.ask(operation.method, &(operation.path)(&name(round)), &body)?;
                times.push(milliseconds(begun.elapsed()));
                let text = || String::from_utf8_lossy(&answer).into_owned();
                ensure!((200..300).contains(&status), "{}: {status} {}", operation.name, text());
            }
            all[at].1.push(times.median());
            if operation.name == "CreateFunction" {
                let path = format!("{FUNCTIONS}/{}/invocations", name(0));
                connection.ask("POST", &path, "{}")?;
                let mut times = Samples::default();
                for _ in 0..rounds {
                    let begun = Instant::now();
                    let (status, _) = connection.ask("POST", &path, "{}")?;
                    times.push(milliseconds(begun.elapsed()));
                    ensure!(status == 200, "Invoke answered {status}");
                }
                all.last_mut().context("pushed above")?.1.push(times.median());
            }
        }
    }
    Ok(all)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn function(name: &str) -> String {
    json!({
        "FunctionName": name, "Runtime": "python3.13", "Handler": "index.handler",
        "Role": "arn:aws:iam::000000000000:role/bench", "Code": { "ZipFile": PACKAGE },
    })
    .to_string()
}
