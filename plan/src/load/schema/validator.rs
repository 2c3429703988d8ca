//! Checks a value against a schema, for the tests: the keywords that our schema uses, and a panic at any other.

use regex_lite::Regex;
use serde_json::Value;
use std::collections::BTreeSet;
use template::yaml::{Kind, Node, Style};

/// Which properties of which definitions a document has; the root is `LoadFile`.
pub type Met = BTreeSet<(String, String)>;

const SAYS_NOTHING: &[&str] = &["$schema", "$defs", "title", "description", "format", "default"];

/// Why the value does not fit, or which properties it has met.
pub fn validate(root: &Value, value: &Value) -> Result<Met, String> {
    let mut met = Met::new();
    fits(root, root, "LoadFile", value, "", &mut met)?;
    Ok(met)
}

fn fits(
    root: &Value,
    schema: &Value,
    name: &str,
    value: &Value,
    at: &str,
    met: &mut Met,
) -> Result<(), String> {
    let schema = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Bool(false) => return Err(format!("{at}: nothing may stand here")),
        other => other.as_object().expect("a schema is an object"),
    };
    let wrong = |what: &str| Err(format!("{at}: {value} is not {what}"));
    for (keyword, wanted) in schema {
        match keyword.as_str() {
            "$ref" => {
                let definition =
                    wanted.as_str().and_then(|path| path.strip_prefix("#/$defs/")).expect("our own");
                fits(root, &root["$defs"][definition], definition, value, at, met)?;
            }
            "type" => {
                let types = wanted.as_array().map_or_else(|| vec![wanted], |types| types.iter().collect());
                if !types.iter().any(|wanted| is_type(value, wanted.as_str().unwrap())) {
                    return wrong(&wanted.to_string());
                }
            }
            "const" if value != wanted => return wrong(&wanted.to_string()),
            "enum" if !wanted.as_array().unwrap().contains(value) => return wrong(&wanted.to_string()),
            "const" | "enum" => {}
            "pattern" => {
                let text = value.as_str().unwrap_or_default();
                if value.is_string() && !Regex::new(wanted.as_str().unwrap()).unwrap().is_match(text) {
                    return wrong(&format!("of the form {wanted}"));
                }
            }
            "minimum" | "maximum" => {
                let (bound, low) = (wanted.as_f64().unwrap(), keyword == "minimum");
                let beyond = |number: f64| if low { number < bound } else { number > bound };
                if value.as_f64().is_some_and(beyond) {
                    return wrong(&format!("within the {keyword} {bound}"));
                }
            }
            "minItems" | "maxItems" | "minLength" => {
                let count =
                    value.as_array().map(Vec::len).or(value.as_str().map(str::len)).unwrap_or(0) as u64;
                let bound = wanted.as_u64().unwrap();
                if if keyword == "maxItems" { count > bound } else { count < bound } && !value.is_null() {
                    return wrong(&format!("within {keyword} {bound}"));
                }
            }
            "anyOf" | "oneOf" => {
                let mut errors = Vec::new();
                let mut fitting = 0;
                for choice in wanted.as_array().unwrap() {
                    let mut choice_met = Met::new();
                    match fits(root, choice, name, value, at, &mut choice_met) {
                        Ok(()) => {
                            fitting += 1;
                            met.append(&mut choice_met);
                        }
                        Err(error) => errors.push(error),
                    }
                }
                if fitting == 0 || keyword == "oneOf" && fitting > 1 {
                    return Err(format!("{at}: {fitting} forms fit: {}", errors.join("; ")));
                }
            }
            "required" => {
                let missing = |key: &&Value| value.get(key.as_str().unwrap()).is_none();
                if let Some(key) = wanted.as_array().unwrap().iter().find(missing)
                    && value.is_object()
                {
                    return Err(format!("{at}: {key} is missing"));
                }
            }
            "properties" | "patternProperties" | "additionalProperties" => {}
            "items" | "prefixItems" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    let schema = if keyword == "items" { Some(wanted) } else { wanted.get(index) };
                    if let Some(schema) = schema {
                        fits(root, schema, name, item, &format!("{at}/{index}"), met)?;
                    }
                }
            }
            other if SAYS_NOTHING.contains(&other) => {}
            other => panic!("the validator does not know the keyword {other}"),
        }
    }
    for (key, item) in value.as_object().into_iter().flatten() {
        let own = schema.get("properties").and_then(|properties| properties.get(key));
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        let by_pattern = || {
            let found = patterns?.iter().find(|(pattern, _)| Regex::new(pattern).unwrap().is_match(key))?;
            Some(found.1)
        };
        let place = format!("{at}/{key}");
        match own.or_else(by_pattern).or_else(|| schema.get("additionalProperties")) {
            Some(Value::Bool(false)) => return Err(format!("{place}: no such key")),
            Some(schema) => fits(root, schema, name, item, &place, met)?,
            None => {}
        }
        if own.is_some() {
            met.insert((name.to_owned(), key.clone()));
        }
    }
    Ok(())
}

fn is_type(value: &Value, wanted: &str) -> bool {
    match wanted {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the validator does not know the type {other}"),
    }
}

/// A YAML value as JSON, by YAML's own rules for bare words.
pub fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Sequence(items) => items.iter().map(json).collect(),
        Kind::Mapping(mapping) => {
            mapping.entries().iter().map(|entry| (entry.key.to_string(), json(&entry.value))).collect()
        }
        Kind::Scalar(_) if node.is_null() => Value::Null,
        Kind::Scalar(scalar) if scalar.style == Style::Plain => {
            let bare = serde_json::from_str(&scalar.value).ok();
            bare.filter(|value: &Value| value.is_number() || value.is_boolean())
                .unwrap_or_else(|| Value::String(scalar.value.to_string()))
        }
        Kind::Scalar(scalar) => Value::String(scalar.value.to_string()),
    }
}
