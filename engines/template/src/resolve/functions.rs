//! The functions that compute on values: text, lists, maps, addresses.

use super::Resolver;
use crate::intrinsic::Call;
use crate::problem::{Cause, Problem};
use crate::suggest::did_you_mean;
use crate::yaml::{Kind, Mapping, Node, Scalar, Span, Style};
use base64::Engine as _;
use std::net::IpAddr;

/// Texts that functions make may not be longer: CloudFormation's whole template is 1 MB.
pub(super) const MAX_RESULT_BYTES: usize = 1 << 20;

/// `Fn::Cidr` gives at most this many ranges (CloudFormation reference, "Fn::Cidr").
const MAX_CIDRS: i64 = 256;

impl Resolver<'_> {
    pub(super) fn join(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        let Some([delimiter, list]) = call.items() else {
            return self.misused(call, span, "[delimiter, list]");
        };
        let (delimiter, list) = (self.value(delimiter)?, self.value(list)?);
        let delimiter =
            delimiter.as_str().map(str::to_owned).or_else(|| delimiter.is_null().then(String::new));
        let Some(delimiter) = delimiter else { return self.misused(call, span, "[delimiter, list]") };
        let items = self.texts(&list)?;
        if items.iter().map(|item| item.len() + delimiter.len()).sum::<usize>() > MAX_RESULT_BYTES {
            return self.too_long(span);
        }
        Some(Node::text(items.join(&delimiter), span))
    }

    pub(super) fn split(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        let Some([delimiter, text]) = call.items() else {
            return self.misused(call, span, "[delimiter, text]");
        };
        let (delimiter, text) = (self.value(delimiter)?, self.value(text)?);
        let (delimiter, text) = (delimiter.string(&mut self.problems)?, text.string(&mut self.problems)?);
        if delimiter.is_empty() {
            return self.misused(call, span, "a delimiter");
        }
        if text.len() > MAX_RESULT_BYTES {
            return self.too_long(span);
        }
        Some(Node::list(text.split(delimiter).map(|part| Node::text(part, span)).collect(), span))
    }

    pub(super) fn select(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        let Some([index, list]) = call.items() else { return self.misused(call, span, "[index, list]") };
        let (index, list) = (self.value(index)?, self.value(list)?);
        let number = index.unsigned(&mut self.problems)?;
        let items = list.sequence(&mut self.problems)?;
        let found = usize::try_from(number).ok().and_then(|number| items.get(number));
        if found.is_none() {
            let problem =
                Problem::at(span, format!("the list has {} items, and item {number} is wanted", items.len()));
            self.problems.push(problem.help("the first item is number 0"));
        }
        found.map(|node| Node { span, ..node.clone() })
    }

    pub(super) fn find_in_map(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        let Some([map, top, second, options @ ..]) = call.items() else {
            return self.misused(call, span, "[map, first key, second key]");
        };
        let default = options.first().and_then(|options| options.get("DefaultValue"));
        let mut section = self.scope.mappings;
        let mut found: Option<&Node> = None;
        for (what, node) in [("the map", map), ("the key", top), ("the key", second)] {
            let key = self.value(node)?;
            let key = key.string(&mut self.problems)?.to_owned();
            found = section.and_then(|section| section.get(&key));
            if found.is_none() {
                if let Some(default) = default {
                    return self.value(default);
                }
                let known = section.map(Mapping::entries).unwrap_or_default().iter().map(|entry| &*entry.key);
                let all = known.clone().take(20).collect::<Vec<_>>().join(", ");
                let help = did_you_mean(&key, known).or((!all.is_empty()).then(|| format!("there: {all}")));
                self.problems
                    .push(Problem::new(node.span, Cause::Unknown { what, name: key }).maybe_help(help));
                return None;
            }
            section = found.and_then(Node::as_mapping);
        }
        found.map(|node| Node { span, ..node.clone() })
    }

    pub(super) fn base64(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        let value = self.argument(call)?;
        let text = value.string(&mut self.problems)?;
        Some(Node::text(base64::engine::general_purpose::STANDARD.encode(text), span))
    }

    pub(super) fn cidr(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        const WANTED: &str = "[range, count, bits]";
        let (block, count, bits) = match call.items() {
            Some([block, count, bits]) => (block, count, Some(bits)),
            Some([block, count]) => (block, count, None),
            _ => return self.misused(call, span, WANTED),
        };
        let (block, count) = (self.value(block)?, self.value(count)?);
        let count = count.integer("the number of ranges", 1..=MAX_CIDRS, &mut self.problems)?;
        let (address, prefix) = match block.as_str().and_then(range) {
            Some(range) => range,
            None => {
                let wanted = "a range such as 10.0.0.0/16";
                self.problems.push(Problem::wrong_type(&Node { span, ..block }, wanted));
                return None;
            }
        };
        let width: u32 = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            Some(bits) => self.value(bits)?.integer(
                "the bits of each range",
                1..=i64::from(width),
                &mut self.problems,
            )?,
            // As the reference says: the first address's own range when no bits are given.
            None => i64::from(width - prefix),
        };
        let bits = u32::try_from(bits).unwrap_or(width);
        let made = width - bits;
        let room = made.checked_sub(prefix).map(|free| 1_u128.checked_shl(free).unwrap_or(u128::MAX));
        if room.is_none_or(|room| room < count as u128) {
            let message = format!("{address}/{prefix} does not hold {count} ranges of {bits} bits");
            self.problems
                .push(Problem::at(span, message).help("bits are those of the host part: 8 make a /24"));
            return None;
        }
        let first = match address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        };
        let ranges = (0..count as u128).map(|number| {
            let start = first + (number << bits.min(127));
            let start =
                if width == 32 { IpAddr::V4((start as u32).into()) } else { IpAddr::V6(start.into()) };
            Node::text(format!("{start}/{made}"), span)
        });
        Some(Node::list(ranges.collect(), span))
    }

    pub(super) fn zones(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        let region = if call.argument.is_null() { None } else { self.argument(call) };
        let region = region.as_ref().and_then(Node::as_str).unwrap_or_default();
        let zones = if region.is_empty() || region == self.scope.inputs.region {
            self.zones.clone()
        } else {
            crate::default_zones(region)
        };
        Some(Node::list(zones.into_iter().map(|zone| Node::text(zone, span)).collect(), span))
    }

    pub(super) fn import_value(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        let name = self.argument(call)?;
        let name = name.string(&mut self.problems)?;
        if let Some(value) = self.scope.inputs.imports.get(name) {
            return Some(Node::text(value.as_str(), span));
        }
        if let Some(value) = self.exported(name, span) {
            return value;
        }
        let known = self.scope.inputs.imports.keys().chain(self.exports.keys());
        let near = did_you_mean(name, known.map(String::as_str).filter(|near| *near != name));
        let near = near.map(|near| format!(" ({near})")).unwrap_or_default();
        let problem = Problem::at(span, format!("No export named {name} found"));
        self.problems.push(problem.help(format!(
            "name the template that exports it beside this one, or give its value with --import {name}=VALUE{near}"
        )));
        None
    }

    pub(super) fn length(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        let list = self.argument(call)?;
        let count = list.sequence(&mut self.problems)?.len();
        let scalar = Scalar { value: count.to_string().into(), style: Style::Plain };
        Some(Node { kind: Kind::Scalar(scalar), tag: None, span })
    }

    pub(super) fn json_string(&mut self, call: Call<'_>, span: Span) -> Option<Node> {
        Some(Node::text(json(&self.argument(call)?).to_string(), span))
    }

    /// A list of texts.
    fn texts(&mut self, list: &Node) -> Option<Vec<String>> {
        let items = list.sequence(&mut self.problems)?;
        let texts: Vec<String> =
            items.iter().filter_map(|item| item.string(&mut self.problems).map(str::to_owned)).collect();
        (texts.len() == items.len()).then_some(texts)
    }
}

/// `10.0.0.0/16` or `fd00::/56`.
fn range(text: &str) -> Option<(IpAddr, u32)> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u32 = prefix.parse().ok()?;
    (prefix <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, prefix))
}

/// A resolved value as JSON: bare `true`, `false` and numbers are what they look like.
pub(crate) fn json(node: &Node) -> serde_json::Value {
    use serde_json::Value;
    match &node.kind {
        _ if node.is_null() => Value::Null,
        Kind::Scalar(Scalar { value, style: Style::Plain }) => match &**value {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            number => number
                .parse::<i64>()
                .map(Value::from)
                .or_else(|_| number.parse::<f64>().map(Value::from))
                .ok()
                .filter(|value| {
                    !value.is_null() && number.starts_with(|c: char| c == '-' || c.is_ascii_digit())
                })
                .unwrap_or_else(|| Value::String(number.to_owned())),
        },
        Kind::Scalar(Scalar { value, .. }) => Value::String(value.to_string()),
        Kind::Sequence(items) => Value::Array(items.iter().map(json).collect()),
        Kind::Mapping(mapping) => Value::Object(
            mapping.entries().iter().map(|entry| (entry.key.to_string(), json(&entry.value))).collect(),
        ),
    }
}
