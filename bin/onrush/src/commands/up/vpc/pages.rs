//! What the running network shows: its rows of the board, who shares what, metrics, copies of packets.

use super::own_interfaces::OwnInterfaces;
use super::{answers, called};
use doors::{Later, NetworkLook, NetworkPages, Unseen};
use model::{LimitId, Overrides, Refusal};
use network::Resolver;
use network::fabric::{Board, CAPTURES_MAX, Capture, Fabric, Pcap};
use network::relay::Relay;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A viewer that does not ask for so long is gone.
const SESSION: Duration = Duration::from_secs(5);
/// Most bytes of one answer to a viewer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The network's pages.
#[derive(Debug)]
pub struct Pages {
    fabric: Fabric,
    resolver: Arc<Resolver>,
    relay: Option<Relay>,
    own: Option<OwnInterfaces>,
    /// `--limit`.
    given: Overrides,
    sessions: Mutex<HashMap<(String, u64), Session>>,
}

#[derive(Debug)]
struct Session {
    packets: Arc<Mutex<Capture>>,
    asked: Instant,
}

impl Pages {
    pub fn new(
        fabric: Fabric,
        resolver: Arc<Resolver>,
        relay: Option<Relay>,
        own: Option<OwnInterfaces>,
        given: Overrides,
    ) -> Self {
        Self { fabric, resolver, relay, own, given, sessions: Mutex::default() }
    }

    /// The packets of a session, which begins when it is asked for the first time.
    fn session(&self, interface: &str, session: u64) -> Arc<Mutex<Capture>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.asked.elapsed() < SESSION);
        let begin = || {
            let packets = Arc::new(Mutex::new(self.fabric.capture(interface)));
            Session { packets, asked: Instant::now() }
        };
        let found = sessions.entry((interface.to_owned(), session)).or_insert_with(begin);
        found.asked = Instant::now();
        found.packets.clone()
    }
}

impl NetworkPages for Pages {
    fn look(&self) -> Later<'_, Option<NetworkLook>> {
        Box::pin(async {
            let mut board = self.fabric.board().await.ok()?;
            let source: Arc<str> = "this host's setting".into();
            board.rows.extend(self.relay.iter().flat_map(|relay| answers::rows(relay, &source)));
            if let Some(own) = &self.own {
                own.board(&mut board.rows);
            }
            Some(NetworkLook {
                more: more(&board, &self.resolver, &self.given),
                prometheus: prometheus(&board),
                rows: board.rows,
            })
        })
    }

    fn packets(&self, interface: String, session: u64, wait: Duration) -> Later<'_, Result<Vec<u8>, Unseen>> {
        Box::pin(async move {
            let board = self.fabric.board().await.map_err(|gone| Unseen::NotThere(gone.to_string()))?;
            let functions = board.interfaces.iter().map(|sharing| &*sharing.interface);
            let names: Vec<&str> = functions.chain(board.others.iter().map(|name| &**name)).collect();
            if !names.contains(&&*interface) {
                let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                let sentence = format!("no interface is called {interface}; there is: {there}");
                return Err(Unseen::NotThere(sentence));
            }
            let packets = self.session(&interface, session);
            let read = tokio::task::spawn_blocking(move || read(&packets, wait)).await;
            read.map_err(|error| Unseen::NotThere(error.to_string()))?.inspect_err(|_| {
                // Who asks again begins anew: there may be room then.
                let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                sessions.remove(&(interface, session));
            })
        })
    }
}

/// What waits, as records of a file; waits for the first.
fn read(packets: &Mutex<Capture>, wait: Duration) -> Result<Vec<u8>, Unseen> {
    let packets = packets.lock().unwrap_or_else(PoisonError::into_inner);
    let mut records = Vec::new();
    let mut next = packets.recv_timeout(wait);
    if next == Err(RecvTimeoutError::Disconnected) {
        let (used, max) = (CAPTURES_MAX as u64, CAPTURES_MAX as u64);
        let (limit, resource) = (LimitId::HostCaptures, "host".into());
        return Err(Unseen::Refused(Refusal {
            limit,
            resource,
            destination: None,
            used,
            max,
            retry_at: None,
        }));
    }
    while let Ok(packet) = next {
        Pcap::append(&mut records, &packet);
        if records.len() > ANSWER_BYTES_MAX {
            break;
        }
        next = packets.try_recv().map_err(|_| RecvTimeoutError::Timeout);
    }
    Ok(records)
}

fn more(board: &Board, resolver: &Resolver, given: &Overrides) -> Map<String, Value> {
    let interfaces: Vec<Value> = board
        .interfaces
        .iter()
        .map(|sharing| {
            let functions: Map<String, Value> =
                sharing.functions.iter().map(|(name, count)| (name.to_string(), (*count).into())).collect();
            json!({ "name": sharing.interface, "connections": sharing.connections, "environments": functions })
        })
        .collect();
    let gateways: Vec<Value> = board
        .gateways
        .iter()
        .map(|gateway| {
            let metrics: Map<String, Value> = gateway
                .metrics
                .named()
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).into()))
                .collect();
            let destinations: Vec<Value> = gateway
                .destinations
                .iter()
                .map(|towards| {
                    let destination = towards.destination.to_string();
                    json!({
                        "destination": destination, "name": called::name_of(resolver, &destination), "max": towards.max,
                        "used": towards.used, "peak": towards.peak, "refused": towards.refused,
                    })
                })
                .collect();
            json!({ "name": gateway.name, "metrics": metrics, "destinations": destinations })
        })
        .collect();
    let given: Map<String, Value> =
        given.iter().map(|(limit, figure)| (limit.to_string(), figure.into())).collect();
    let mut more = Map::new();
    more.insert("given".to_owned(), given.into());
    more.insert("interfaces".to_owned(), interfaces.into());
    more.insert("gateways".to_owned(), gateways.into());
    more.insert("dropped".to_owned(), json!(board.dropped));
    more.insert("flows".to_owned(), board.flows.into());
    more.insert("attached".to_owned(), board.environments.into());
    more
}

/// CloudWatch's names as they are; its dimension is the label.
fn prometheus(board: &Board) -> String {
    let mut text = String::new();
    let Some(first) = board.gateways.first() else { return text };
    for (index, (name, _)) in first.metrics.named().iter().enumerate() {
        let gauge = ["ActiveConnectionCount", "PeakBytesPerSecond", "PeakPacketsPerSecond"].contains(name);
        let kind = if gauge { "gauge" } else { "counter" };
        let unit = if name.starts_with("Bytes") { "Bytes" } else { "Count" };
        let statistic = if gauge { "Maximum" } else { "Sum, since the start" };
        let _ =
            writeln!(text, "# HELP onrush_natgateway_{name} AWS/NATGateway {name} ({unit}; {statistic}).");
        let _ = writeln!(text, "# TYPE onrush_natgateway_{name} {kind}");
        for gateway in &board.gateways {
            let value = gateway.metrics.named()[index].1;
            let _ = writeln!(text, "onrush_natgateway_{name}{{NatGatewayId=\"{}\"}} {value}", gateway.name);
        }
    }
    text
}
