//! `onrush generate-event`: documents as AWS's services send them, with the names that matter as parameters.

mod catalog;
mod md5;

use crate::Stop;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use catalog::{ALL, Event};
use clap::{Arg, Command};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;

/// Runs with the words after `generate-event`.
pub fn run(words: &[String]) -> Result<ExitCode, Stop> {
    let given = command().try_get_matches_from(std::iter::once(&"generate-event".to_owned()).chain(words));
    let matches = match given {
        Ok(matches) => matches,
        Err(error) => {
            let _ = error.print();
            return Ok(ExitCode::from(if error.use_stderr() { crate::USAGE } else { 0 }));
        }
    };
    let Some((service, matches)) = matches.subcommand() else { return Ok(ExitCode::SUCCESS) };
    let Some((name, matches)) = matches.subcommand() else { return Ok(ExitCode::SUCCESS) };
    let Some(event) = ALL.iter().find(|event| event.service == service && event.name == name) else {
        return Ok(ExitCode::SUCCESS);
    };
    let values = event
        .parameters
        .iter()
        .filter_map(|(flag, ..)| Some((*flag, matches.get_one::<String>(flag)?.as_str())));
    super::print(&fill(event, &values.collect()).map_err(Stop::Usage)?)?;
    Ok(ExitCode::SUCCESS)
}

/// The command line, made of the catalog.
fn command() -> Command {
    let mut all = Command::new("generate-event")
        .bin_name("onrush generate-event")
        .about("Print an event as a service of AWS's sends it, for `onrush invoke -e -`.")
        .after_help("Examples:\n  onrush generate-event s3 put --bucket photos --key cat.jpg | onrush invoke ResizeFunction -e -\n  onrush generate-event sqs receive-message --body '{\"order\": 7}' > event.json")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(110);
    let mut services: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in ALL {
        services.entry(event.service).or_default().push(event);
    }
    for (service, events) in services {
        let names: Vec<_> = events.iter().map(|event| event.name).collect();
        let mut command = Command::new(service)
            .about(names.join(", "))
            .subcommand_required(true)
            .arg_required_else_help(true);
        for event in events {
            let flags = event.parameters.iter().map(|(flag, default, help)| {
                Arg::new(*flag).long(*flag).default_value(*default).help(*help).allow_hyphen_values(true)
            });
            command = command.subcommand(Command::new(event.name).about(event.about).args(flags));
        }
        all = all.subcommand(command);
    }
    all
}

/// The document with values in place, as JSON and a newline.
///
/// # Errors
/// A value that must be JSON is not.
fn fill(event: &Event, values: &BTreeMap<&str, &str>) -> Result<String, String> {
    let mut document: serde_json::Value = serde_json::from_str(event.text)
        .map_err(|error| format!("{} {}: {error}", event.service, event.name))?;
    put(&mut document, values)?;
    Ok(format!("{}\n", serde_json::to_string_pretty(&document).unwrap_or_default()))
}

fn put(value: &mut serde_json::Value, values: &BTreeMap<&str, &str>) -> Result<(), String> {
    use serde_json::Value;
    match value {
        Value::Array(all) => all.iter_mut().try_for_each(|value| put(value, values)),
        Value::Object(all) => all.values_mut().try_for_each(|value| put(value, values)),
        Value::String(text) => {
            // A whole value that is JSON, not a text.
            if let Some(flag) = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("|json}}")) {
                let given = values.get(flag).copied().unwrap_or_default();
                *value = serde_json::from_str(given)
                    .map_err(|error| format!("--{flag} {given}: no JSON: {error}"))?;
                return Ok(());
            }
            *text = put_text(text, values);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A text with the values of its `{{flag|encoding}}`.
fn put_text(text: &str, values: &BTreeMap<&str, &str>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (place, behind) = after.split_once("}}").unwrap_or((after, ""));
        let (flag, encoding) = place.split_once('|').unwrap_or((place, ""));
        filled.push_str(before);
        filled.push_str(&encode(values.get(flag).copied().unwrap_or_default(), encoding));
        rest = behind;
    }
    filled + rest
}

fn encode(value: &str, encoding: &str) -> String {
    match encoding {
        "base64" => STANDARD.encode(value),
        "md5" => md5::hex(value.as_bytes()),
        "url" => url_encoded(value),
        "tail" => value.trim_start_matches('/').to_owned(),
        "logs" => logs(value),
        _ => value.to_owned(),
    }
}

/// As S3 writes keys in its notifications: a blank becomes `+`, a slash stays.
fn url_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' | b'/' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// What a subscription to a log group sends. Source: CloudWatch Logs User Guide, "Real-time processing of log data with
/// subscriptions".
fn logs(message: &str) -> String {
    let data = serde_json::json!({
        "messageType": "DATA_MESSAGE",
        "owner": "123456789012",
        "logGroup": "/aws/lambda/function",
        "logStream": "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef",
        "subscriptionFilters": ["filter"],
        "logEvents": [{"id": "01234567890123456789012345678901234567890123456789012345", "timestamp": 1_767_225_600_000_u64, "message": message}],
    });
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let written = gzip.write_all(data.to_string().as_bytes()).and_then(|()| gzip.finish());
    STANDARD.encode(written.expect("writing into memory does not fail"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(event: &Event, own: &[(&'static str, &'static str)]) -> serde_json::Value {
        let mut values: BTreeMap<_, _> =
            event.parameters.iter().map(|(flag, default, _)| (*flag, *default)).collect();
        values.extend(own.iter().copied());
        serde_json::from_str(&fill(event, &values).unwrap()).unwrap()
    }

    fn find(service: &str, name: &str) -> &'static Event {
        ALL.iter().find(|event| event.service == service && event.name == name).unwrap()
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_parameter_of_every_event_stands_in_it() {
        for event in ALL {
            let plain = with(event, &[]);
            assert!(!plain.to_string().contains("{{"), "{} {}", event.service, event.name);
            for (flag, default, _) in event.parameters {
                let other =
                    if serde_json::from_str::<serde_json::Value>(default).is_ok() { "7" } else { "Other" };
                assert_ne!(
                    with(event, &[(flag, other)]),
                    plain,
                    "{} {}: --{flag}",
                    event.service,
                    event.name
                );
            }
        }
    }

    #[test]
    fn values_are_encoded_as_the_services_do() {
        let put = with(find("s3", "put"), &[("key", "a b/ü\"+.txt"), ("size", "3")]);
        let object = &put["Records"][0]["s3"]["object"];
        assert_eq!(
            (object["key"].as_str(), object["size"].as_u64()),
            (Some("a+b/%C3%BC%22%2B.txt"), Some(3))
        );
        let queue = with(find("sqs", "receive-message"), &[("body", "{\"a\": 1}")]);
        assert_eq!(queue["Records"][0]["body"], "{\"a\": 1}");
        assert_eq!(queue["Records"][0]["md5OfBody"], md5::hex(b"{\"a\": 1}"));
        let stream = with(find("kinesis", "get-records"), &[("data", "Hello")]);
        assert_eq!(stream["Records"][0]["kinesis"]["data"], "SGVsbG8=");
        let event = with(find("eventbridge", "event"), &[("detail", "{\"order\": {\"id\": 7}}")]);
        assert_eq!(event["detail"]["order"]["id"], 7);
        let bad = BTreeMap::from([("detail", "{")]);
        assert!(fill(find("eventbridge", "event"), &bad).unwrap_err().starts_with("--detail"));
    }

    #[test]
    fn log_lines_are_gzipped() {
        use std::io::Read as _;
        let data = with(find("cloudwatch", "logs"), &[("message", "two\nlines")]);
        let bytes = STANDARD.decode(data["awslogs"]["data"].as_str().unwrap()).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        let inner: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(inner["logEvents"][0]["message"], "two\nlines");
    }
}
