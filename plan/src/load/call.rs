//! The step `call`: another function, invoked and waited for, or a service of AWS by its name.

use super::connect::{ConnectStep, Hold, read_hold};
use super::{Name, name_of};
use crate::distribution::Distribution;
use crate::retry::Mode;
use limits::connect::Patience;
use template::yaml::{Mapping, Node, Problem, Problems};

/// AWS's services answer here.
const SERVICE_PORT: u16 = 443;

/// A call and whom it reaches.
#[derive(Clone, Debug, PartialEq)]
pub enum CallStep {
    /// A function of the stack, by a synchronous invocation.
    Function {
        /// Its logical id.
        function: Name,
        /// What the caller's SDK does after a throttle.
        retry: Mode,
    },
    /// A service of AWS, on its way out of the VPC.
    Service {
        /// `ssm`: the first part of its host name.
        service: String,
        /// How long it takes to answer.
        time: Distribution,
        /// For how long the connection stays open.
        hold: Hold,
    },
}

impl CallStep {
    pub(super) fn read(node: &Node, problems: &mut Problems) -> Option<Self> {
        let keys = node.mapping(problems)?;
        match (keys.get("function"), keys.get("to")) {
            (Some(function), None) => {
                keys.only(&["function", "retry"], problems);
                let retry = match keys.get("retry") {
                    Some(retry) => Mode::named(retry.one_of(&["none", "standard"], problems)?)?,
                    None => Mode::None,
                };
                Some(Self::Function { function: name_of(function, problems)?, retry })
            }
            (None, Some(to)) => Self::read_service(to, keys, problems),
            _ => {
                let message =
                    "a call needs either `function` (one of the template) or `to` (a service of AWS)";
                problems.push(Problem::at(node.span, message));
                keys.only(&["function", "retry", "to", "for", "hold"], problems);
                None
            }
        }
    }

    fn read_service(to: &Node, keys: &Mapping, problems: &mut Problems) -> Option<Self> {
        keys.only(&["to", "for", "hold"], problems);
        let service = to.string(problems)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if service.is_empty() || !service.bytes().all(plain) {
            let problem = Problem::wrong_type(to, "a service of AWS as its host name begins");
            problems
                .push(problem.help("for example ssm, secretsmanager, dynamodb; other hosts are a `connect`"));
            return None;
        }
        let time = match keys.get("for") {
            Some(time) => Distribution::read(time, problems)?,
            None => Distribution::ZERO,
        };
        let hold = match keys.get("hold") {
            Some(hold) => read_hold(hold, problems)?,
            None => Hold::Environment,
        };
        Some(Self::Service { service: service.to_owned(), time, hold })
    }
}

/// The connect that a call of a service needs: one connection to its usual name, which endpoints stand for.
pub(crate) fn service_connect(service: &str, region: &str, hold: Hold) -> ConnectStep {
    ConnectStep {
        host: format!("{service}.{region}.amazonaws.com"),
        port: SERVICE_PORT,
        count: 1,
        hold,
        patience: Patience::default(),
        bytes: None,
    }
}
