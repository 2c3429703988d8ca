//! Tables of packet rules that go with the socket that made them.
//!
//! A table with the flag `owner` belongs to one netlink socket: nobody else may change it, and when the socket closes,
//! however its process ended, the kernel removes the table. Source: include/uapi/linux/netfilter/nf_tables.h.

use std::io;

use crate::netlink::{Batch, CREATE, DUMP, Socket, attributes};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const NEW_RULE: u16 = SUBSYSTEM | 6;
/// `NFPROTO_INET`: IPv4 and IPv6 alike.
const INET: u8 = 1;
const TABLE_OWNER: u32 = 2;
/// Register 1 of the rule's little machine, 16 bytes.
const REGISTER: u32 = 1;
const ACCEPT: u32 = 1;
const META_IN_NAME: u32 = 6;
const META_OUT_NAME: u32 = 7;
const META_PROTOCOL: u32 = 16;
/// `IFNAMSIZ`: names are compared whole, zeros included.
const NAME_BYTES: usize = 16;

/// Where a chain stands in the kernel's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// `NF_INET_*`: 0 before routing, 2 forwarding, 4 after routing.
    pub hook: u32,
    /// Lower ones come first.
    pub priority: i32,
}

/// One step of a rule: a test that must hold, or what is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The packet came in by this device.
    FromDevice(String),
    /// The packet does not leave by this device.
    NotToDevice(String),
    /// It is of this IP protocol.
    Protocol(u8),
    /// Its source becomes an address of the device that it leaves by, and answers are translated back.
    Masquerade,
    /// A socket of this namespace that listens on the port, transparently, gets it.
    ToLocalPort(u16),
    /// No further rule of this chain is asked.
    Accept,
}

/// A table of ours. Dropping it removes it.
#[derive(Debug)]
pub struct Table {
    socket: Socket,
    name: String,
}

impl Table {
    /// Makes a table with one chain, in the calling thread's network namespace; all of it or nothing.
    ///
    /// # Errors
    /// Of the kernel: no right, no nf_tables, or a kernel before 5.12, which has no owners.
    pub fn create(name: &str, chain: &str, place: Place, rules: &[Vec<Step>]) -> io::Result<Self> {
        let socket = Socket::netfilter()?;
        let mut batch = Batch::default();
        batch.message(BATCH_BEGIN, 0, &subsystem());
        batch.message(NEW_TABLE, CREATE, &family(INET)).text(1, name).number(2, TABLE_OWNER);
        batch.message(NEW_CHAIN, CREATE, &family(INET)).text(1, name).text(3, chain);
        batch
            .nested(4, |hook| {
                hook.number(1, place.hook).number(2, place.priority.cast_unsigned());
            })
            .number(5, ACCEPT)
            .text(7, place.kind);
        for rule in rules {
            add_rule(&mut batch, name, chain, rule);
        }
        let last = batch.last_message();
        batch.message(BATCH_END, 0, &subsystem());
        socket.send_transaction(batch, last)?;
        Ok(Self { socket, name: name.to_owned() })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the kernel still answers on the socket that the table hangs on.
    pub fn is_held(&self) -> bool {
        dropping_forward_chains_on(&self.socket).is_ok()
    }
}

fn subsystem() -> [u8; 4] {
    [0, 0, 0, 10]
}

fn family(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

fn add_rule(batch: &mut Batch, table: &str, chain: &str, steps: &[Step]) {
    const APPEND: u16 = 0x0800;
    batch.message(NEW_RULE, CREATE & !0x0200 | APPEND, &family(INET)).text(1, table).text(2, chain);
    batch.nested(4, |list| {
        for step in steps {
            add_step(list, step);
        }
    });
}

fn expression(list: &mut Batch, name: &str, data: impl FnOnce(&mut Batch)) {
    list.nested(1, |element| {
        element.text(1, name).nested(2, data);
    });
}

fn load(list: &mut Batch, key: u32) {
    expression(list, "meta", |data| {
        data.number(1, REGISTER).number(2, key);
    });
}

fn compare(list: &mut Batch, unequal: bool, value: &[u8]) {
    expression(list, "cmp", |data| {
        data.number(1, REGISTER).number(2, u32::from(unequal)).nested(3, |inside| {
            inside.attribute(1, value);
        });
    });
}

fn device_name(name: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    // The last byte stays zero.
    for (slot, byte) in bytes[..NAME_BYTES - 1].iter_mut().zip(name.as_bytes()) {
        *slot = *byte;
    }
    bytes
}

fn add_step(list: &mut Batch, step: &Step) {
    match step {
        Step::FromDevice(name) => {
            load(list, META_IN_NAME);
            compare(list, false, &device_name(name));
        }
        Step::NotToDevice(name) => {
            load(list, META_OUT_NAME);
            compare(list, true, &device_name(name));
        }
        Step::Protocol(protocol) => {
            load(list, META_PROTOCOL);
            compare(list, false, &[*protocol]);
        }
        Step::Masquerade => expression(list, "masq", |_| {}),
        Step::ToLocalPort(port) => {
            expression(list, "immediate", |data| {
                data.number(1, REGISTER).nested(2, |inside| {
                    inside.attribute(1, &port.to_be_bytes());
                });
            });
            expression(list, "tproxy", |data| {
                data.number(1, 0).number(3, REGISTER);
            });
        }
        Step::Accept => expression(list, "immediate", |data| {
            data.number(1, 0).nested(2, |inside| {
                inside.nested(2, |verdict| {
                    verdict.number(1, ACCEPT);
                });
            });
        }),
    }
}

/// Chains of anybody's that drop what is forwarded unless a rule of theirs lets it pass, as `TABLE CHAIN`: what an
/// accept of ours cannot help against.
///
/// # Errors
/// Of the kernel; one without nf_tables has no such chains.
pub fn dropping_forward_chains() -> io::Result<Vec<String>> {
    dropping_forward_chains_on(&Socket::netfilter()?)
}

fn dropping_forward_chains_on(socket: &Socket) -> io::Result<Vec<String>> {
    const FORWARD: [u8; 4] = [0, 0, 0, 2];
    const DROP: [u8; 4] = [0; 4];
    let mut batch = Batch::default();
    batch.message(GET_CHAIN, DUMP, &family(0));
    let mut found = Vec::new();
    socket.dump(&batch, |kind, body| {
        if kind != NEW_CHAIN || body.len() < 4 {
            return;
        }
        let get =
            |wanted: u16| attributes(&body[4..]).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let hook =
            get(4).and_then(|hook| attributes(hook).find(|(kind, _)| *kind == 1)).map(|(_, value)| value);
        if hook == Some(&FORWARD) && get(5) == Some(&DROP) {
            let text = |bytes: Option<&[u8]>| {
                String::from_utf8_lossy(bytes.unwrap_or_default()).trim_end_matches('\0').to_owned()
            };
            found.push(format!("{} {}", text(get(1)), text(get(3))));
        }
    })?;
    Ok(found)
}
