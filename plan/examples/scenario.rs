//! Prints a built-in scenario's report: `cargo run -p plan --example scenario -- burst-2022 [--json]`.

use plan::{Scenario, render};

fn main() {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    let Some(scenario) = Scenario::named(&name) else {
        println!("there are {}", Scenario::names().collect::<Vec<_>>().join(", "));
        return;
    };
    match scenario.run() {
        Ok(report) if words.any(|word| word == "--json") => {
            println!("{}", serde_json::to_string(&report).expect("a report is plain data"));
        }
        Ok(report) => println!("{}\n\n{}", scenario.title, render(&report, 100, false)),
        Err(error) => println!("{error}"),
    }
}
