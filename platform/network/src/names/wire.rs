//! DNS messages: the one question of a query read, answers written (RFC 1035, RFC 6891).
//!
//! Written by hand since so little is needed: what is not ours is passed on byte for byte, with every record type and
//! option it has. Reading never panics, never follows a pointer, and looks at no more than the message's bytes.

use std::net::IpAddr;

use super::Name;

/// Bytes of a message's head.
pub const HEAD_BYTES: usize = 12;
/// What fits into a UDP answer when the query says nothing else.
pub const UDP_BYTES: usize = 512;
/// Largest UDP answer, whatever the query says: what passes without fragments.
const UDP_BYTES_MAX: usize = 1_232;
/// Records looked through for the query's options.
const RECORDS_MAX: u16 = 16;
/// How long a made-up answer may be kept, in seconds; as the answers of AWS's endpoints.
pub const TTL_S: u32 = 60;

/// `A`.
pub const A: u16 = 1;
const NS: u16 = 2;
const SOA: u16 = 6;
/// `CNAME`.
pub const CNAME: u16 = 5;
/// `PTR`.
pub const PTR: u16 = 12;
/// `AAAA`.
pub const AAAA: u16 = 28;
const OPT: u16 = 41;
/// `ANY`.
pub const ANY: u16 = 255;
const CLASS_IN: u16 = 1;

const FLAG_ANSWER: u8 = 0x80;
const FLAG_TRUNCATED: u8 = 0x02;

/// What a message comes back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Fine, perhaps without records.
    NoError = 0,
    /// The query is malformed.
    Malformed = 1,
    /// No server could be asked.
    ServerFailure = 2,
    /// There is no such name.
    NoSuchName = 3,
    /// Another kind of query than a question.
    NotImplemented = 4,
    /// Another class than the internet's.
    Refused = 5,
}

/// What a record of ours holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// `A` or `AAAA`.
    Address(IpAddr),
    /// `PTR`.
    Pointer(Name),
    /// `CNAME`: what comes after it is of this name.
    Alias(Name),
}

/// The question of a query, and how to answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    id: [u8; 2],
    flags: u8,
    /// The question's bytes: name, type, class.
    bytes: &'a [u8],
    /// The name in lower case; `None` when it is the root or holds what no host name holds.
    pub name: Option<Name>,
    /// The record type.
    pub kind: u16,
    /// How large a UDP answer may be.
    pub udp_bytes: usize,
    has_options: bool,
}

/// Why a message is no question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Not even a head, or itself an answer: to be passed over in silence.
    Silence,
    /// The answer that says so.
    Answer(Vec<u8>),
}

impl<'a> Question<'a> {
    /// Reads a query.
    ///
    /// # Errors
    /// With the answer to give, if there is one.
    pub fn read(message: &'a [u8]) -> Result<Self, Unreadable> {
        let Some((head, rest)) = message.split_first_chunk::<HEAD_BYTES>() else {
            return Err(Unreadable::Silence);
        };
        if head[2] & FLAG_ANSWER != 0 {
            return Err(Unreadable::Silence);
        }
        let fail = |code: Code| {
            let mut answer = vec![0; HEAD_BYTES];
            answer[..2].copy_from_slice(&head[..2]);
            answer[2] = FLAG_ANSWER | (head[2] & 0x79);
            answer[3] = 0x80 | code as u8;
            Unreadable::Answer(answer)
        };
        if head[2] & 0x78 != 0 {
            return Err(fail(Code::NotImplemented));
        }
        let count = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        if count(4) != 1 {
            return Err(fail(Code::Malformed));
        }
        let (name, name_bytes) = read_name(rest).ok_or_else(|| fail(Code::Malformed))?;
        let Some(&[kind_high, kind_low, class_high, class_low]) = rest.get(name_bytes..name_bytes + 4) else {
            return Err(fail(Code::Malformed));
        };
        let bytes = &rest[..name_bytes + 4];
        let mut question = Self {
            id: [head[0], head[1]],
            flags: head[2],
            bytes,
            name,
            kind: u16::from_be_bytes([kind_high, kind_low]),
            udp_bytes: UDP_BYTES,
            has_options: false,
        };
        if u16::from_be_bytes([class_high, class_low]) != CLASS_IN {
            return Err(Unreadable::Answer(question.answer(Code::Refused, &[], None)));
        }
        let records = count(6).saturating_add(count(8)).saturating_add(count(10));
        if let Some(size) = options(&rest[bytes.len()..], records) {
            question.has_options = true;
            question.udp_bytes = usize::from(size).clamp(UDP_BYTES, UDP_BYTES_MAX);
        }
        Ok(question)
    }

    /// An answer to it. Where it has not what was asked for, the start of authority of the zone, if there is one, says how long
    /// that may be kept (RFC 2308, section 2.2: also behind aliases).
    pub fn answer(&self, code: Code, data: &[Data], zone: Option<&Name>) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEAD_BYTES + self.bytes.len() + 28 * data.len() + 64);
        message.extend_from_slice(&self.id);
        message.push(FLAG_ANSWER | (self.flags & 0x01));
        message.push(0x80 | code as u8);
        let asks_for_alias = matches!(self.kind, CNAME | ANY) && !data.is_empty();
        let is_alias = |one: &Data| matches!(one, Data::Alias(_));
        let authority = u16::from(!asks_for_alias && data.iter().all(is_alias) && zone.is_some());
        let count = u16::try_from(data.len()).unwrap_or(u16::MAX);
        for number in [1, count, authority, u16::from(self.has_options)] {
            message.extend_from_slice(&number.to_be_bytes());
        }
        message.extend_from_slice(self.bytes);
        // Whose records they are: a pointer to the question's name, and behind an alias to the name there. A chain of aliases
        // ends well before the 16 KB that a pointer reaches.
        let mut owner = 0xC000 | HEAD_BYTES as u16;
        for one in data.iter().take(usize::from(count)) {
            message.extend_from_slice(&owner.to_be_bytes());
            match one {
                Data::Address(IpAddr::V4(address)) => record(&mut message, A, &address.octets()),
                Data::Address(IpAddr::V6(address)) => record(&mut message, AAAA, &address.octets()),
                Data::Pointer(name) => record(&mut message, PTR, &encode(name)),
                Data::Alias(name) => {
                    let name = encode(name);
                    record(&mut message, CNAME, &name);
                    owner = 0xC000 | (message.len() - name.len()) as u16;
                }
            }
        }
        if let (true, Some(zone)) = (authority == 1, zone) {
            message.extend_from_slice(&encode(zone));
            record(&mut message, SOA, &start_of_authority(zone));
        }
        if self.has_options {
            message.push(0);
            message.extend_from_slice(&OPT.to_be_bytes());
            message.extend_from_slice(&(UDP_BYTES_MAX as u16).to_be_bytes());
            message.extend_from_slice(&[0; 6]);
        }
        message
    }

    /// An answer that says only that it does not fit: the client asks again over TCP.
    pub fn truncated(&self) -> Vec<u8> {
        let mut answer = self.answer(Code::NoError, &[], None);
        answer[2] |= FLAG_TRUNCATED;
        answer
    }

    /// Whether a message from upstream answers this very question: an answer, with `id`, and the question repeated.
    pub fn is_answered_by(&self, message: &[u8], id: [u8; 2]) -> bool {
        message.len() >= HEAD_BYTES
            && message[..2] == id
            && message[2] & FLAG_ANSWER != 0
            && message[4..6] == [0, 1]
            && message[HEAD_BYTES..].get(..self.bytes.len()).is_some_and(|bytes| {
                let name = self.bytes.len() - 4;
                bytes[..name].eq_ignore_ascii_case(&self.bytes[..name]) && bytes[name..] == self.bytes[name..]
            })
    }

    /// The id that the client gave.
    pub fn id(&self) -> [u8; 2] {
        self.id
    }
}

/// Whether a message says that it was cut.
pub fn is_truncated(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & FLAG_TRUNCATED != 0)
}

/// Whether an answer says that the name is there, with records or without.
pub fn is_without_error(message: &[u8]) -> bool {
    message.get(3).is_some_and(|flags| flags & 15 == Code::NoError as u8)
}

/// Whether an answer says that the name is there or that it is not, rather than that nobody can tell.
pub fn is_conclusive(message: &[u8]) -> bool {
    let no_such_name = |flags: &u8| flags & 15 == Code::NoSuchName as u8;
    is_without_error(message) || message.get(3).is_some_and(no_such_name)
}

/// The addresses that an answer holds, whatever names they stand at: at most `most`.
pub fn addresses(message: &[u8], most: usize) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let Some((head, rest)) = message.split_first_chunk::<HEAD_BYTES>() else { return found };
    if head[4..6] != [0, 1] {
        return found;
    }
    let Some(mut bytes) = name_end(rest).and_then(|end| rest.get(end + 4..)) else { return found };
    for _ in 0..u16::from_be_bytes([head[6], head[7]]) {
        let Some((kind, data, after)) = next_record(bytes) else { break };
        match (kind, <[u8; 4]>::try_from(data), <[u8; 16]>::try_from(data)) {
            (A, Ok(octets), _) => found.push(IpAddr::from(octets)),
            (AAAA, _, Ok(octets)) => found.push(IpAddr::from(octets)),
            _ => {}
        }
        if found.len() >= most {
            break;
        }
        bytes = after;
    }
    found
}

/// A query for a name's records of this kind.
pub fn query(name: &Name, kind: u16) -> Vec<u8> {
    let mut message = vec![0, 0, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&encode(name));
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    message
}

/// Where a name ends, pointers not followed.
fn name_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xC0 == 0xC0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

/// A record: its type, its data, and what comes after it.
fn next_record(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let bytes = bytes.get(name_end(bytes)?..)?;
    let (fixed, rest) = bytes.split_first_chunk::<10>()?;
    let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
    Some((u16::from_be_bytes([fixed[0], fixed[1]]), rest.get(..length)?, &rest[length..]))
}

/// A name without pointers (a question has nothing to point at) and its length on the wire.
fn read_name(bytes: &[u8]) -> Option<(Option<Name>, usize)> {
    let (mut text, mut at, mut plain) = (String::new(), 0, true);
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // The two high bits mark pointers; a name has at most 255 bytes.
        if length > 63 || at + length > 254 {
            return None;
        }
        let label = bytes.get(at..at + length)?;
        at += length;
        plain &= !label.contains(&b'.') && label.is_ascii();
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(&String::from_utf8_lossy(label));
    }
    Some((if plain { Name::new(&text) } else { None }, at))
}

/// The UDP size of the options record among `records`: it stands where others have their class.
fn options(mut bytes: &[u8], records: u16) -> Option<u16> {
    for _ in 0..records.min(RECORDS_MAX) {
        let (kind, _, after) = next_record(bytes)?;
        if kind == OPT {
            let size = name_end(bytes)? + 2;
            return Some(u16::from_be_bytes([*bytes.get(size)?, *bytes.get(size + 1)?]));
        }
        bytes = after;
    }
    None
}

fn record(message: &mut Vec<u8>, kind: u16, data: &[u8]) {
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    message.extend_from_slice(&TTL_S.to_be_bytes());
    let length = u16::try_from(data.len())
        .expect("a name has at most 255 bytes, and nothing here has more than three");
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(data);
}

fn encode(name: &Name) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.as_str().len() + 2);
    for label in name.as_str().split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label has at most 63 characters"));
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// Of a private zone, as Route 53 writes it but for names that only AWS has.
fn start_of_authority(zone: &Name) -> Vec<u8> {
    let mut bytes = encode(zone);
    bytes.extend_from_slice(b"\x0ahostmaster");
    bytes.extend_from_slice(&encode(zone));
    for number in [1, 7_200, 900, 1_209_600, TTL_S] {
        bytes.extend_from_slice(&number.to_be_bytes());
    }
    bytes
}

const _: () = assert!(NS == 2 && UDP_BYTES_MAX <= u16::MAX as usize);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A query as clients send it.
    pub(crate) fn asked(name: &str, kind: u16, options: Option<u16>) -> Vec<u8> {
        let mut message = vec![0xAB, 0xCD, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, u8::from(options.is_some())];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(label.len() as u8);
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&CLASS_IN.to_be_bytes());
        if let Some(size) = options {
            message.extend_from_slice(&[0, 0, 41]);
            message.extend_from_slice(&size.to_be_bytes());
            message.extend_from_slice(&[0; 6]);
        }
        message
    }

    /// The owners and types of an answer's records, pointers followed.
    pub(crate) fn records(message: &[u8]) -> Vec<(String, u16)> {
        let name_at = |mut at: usize| {
            let mut labels = Vec::new();
            loop {
                match usize::from(message[at]) {
                    0 => return labels.join("."),
                    length if length & 0xC0 == 0xC0 => {
                        at = usize::from(u16::from_be_bytes([message[at], message[at + 1]]) & 0x3FFF);
                    }
                    length => {
                        labels.push(String::from_utf8_lossy(&message[at + 1..at + 1 + length]).into_owned());
                        at += 1 + length;
                    }
                }
            }
        };
        let mut at = HEAD_BYTES + name_end(&message[HEAD_BYTES..]).unwrap() + 4;
        let count = u16::from_be_bytes([message[6], message[7]]);
        let mut next = || {
            let (kind, _, after) = next_record(&message[at..]).unwrap();
            let owner = name_at(at);
            at = message.len() - after.len();
            (owner, kind)
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn a_question_is_read_and_answered() {
        let message = asked("Db.Example.COM", A, Some(4_096));
        let question = Question::read(&message).unwrap();
        assert_eq!(
            (question.name.clone(), question.kind, question.udp_bytes),
            (Name::new("db.example.com"), A, 1_232)
        );
        let answer = question.answer(Code::NoError, &[Data::Address("10.0.1.5".parse().unwrap())], None);
        assert_eq!(answer[..12], [0xAB, 0xCD, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 1]);
        assert!(answer.windows(4).any(|bytes| bytes == [10, 0, 1, 5]));
        assert!(
            answer.windows(14).any(|bytes| bytes == b"Db\x07Example\x03COM"),
            "the client's case is kept"
        );
        assert!(question.is_answered_by(&answer, [0xAB, 0xCD]) && !question.is_answered_by(&answer, [0, 0]));
        assert_eq!(addresses(&answer, 9), ["10.0.1.5".parse::<IpAddr>().unwrap()]);
        assert!(is_truncated(&question.truncated()));
    }

    #[test]
    fn what_is_no_question_is_refused_or_passed_over() {
        let sound = asked("a.test", A, None);
        assert_eq!(Question::read(&sound[..11]), Err(Unreadable::Silence));
        let code = |message: &[u8]| match Question::read(message) {
            Err(Unreadable::Answer(answer)) => answer[3] & 15,
            other => panic!("{other:?}"),
        };
        let changed = |at: usize, byte: u8| {
            let mut message = sound.clone();
            message[at] = byte;
            message
        };
        assert_eq!(Question::read(&changed(2, 0x81)), Err(Unreadable::Silence));
        assert_eq!(code(&changed(2, 0x10)), Code::NotImplemented as u8);
        assert_eq!(code(&changed(5, 2)), Code::Malformed as u8);
        assert_eq!(code(&changed(12, 0xC0)), Code::Malformed as u8, "a pointer");
        assert_eq!(code(&sound[..sound.len() - 1]), Code::Malformed as u8);
        assert_eq!(code(&changed(sound.len() - 1, 3)), Code::Refused as u8, "CHAOS");
        let root = asked("", NS, None);
        assert_eq!(Question::read(&root).unwrap().name, None);
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Question::read(&bytes);
            prop_assert!(addresses(&bytes, 8).len() <= 8);
        }

        #[test]
        fn a_changed_query_never_panics_and_its_answer_is_small(at in 0..60_usize, byte: u8, cut in 0..80_usize) {
            let mut message = asked("orders.proxy.example.com", AAAA, Some(512));
            let last = message.len() - 1;
            message[at.min(last)] = byte;
            message.truncate(cut.max(1));
            if let Ok(question) = Question::read(&message) {
                let zone = Name::new("example.com");
                let answer = question.answer(Code::NoSuchName, &[], zone.as_ref());
                prop_assert!(answer.len() <= message.len() + 100);
                prop_assert!(question.is_answered_by(&answer, question.id()));
            }
        }
    }
}
