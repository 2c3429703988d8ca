//! What platform and jailer say to each other, as bytes: a kind, then fields in order, numbers in
//! little-endian order, texts with a length in front.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::ability::{Abilities, Ability, AbilityState, NAMES};
use crate::spec::{Bind, Companions, Spec};

/// From the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Start {
        id: u64,
        spec: Box<Spec>,
    },
    /// Starts the program of a dead environment anew in what is left of it.
    Restart {
        id: u64,
    },
    /// The platform has no more use for the environment.
    Release {
        id: u64,
        /// Whether its program was started.
        ran: bool,
    },
    /// Makes a socket inside the environment's network.
    Socket {
        id: u64,
        /// Names this request: an environment may have several under way.
        turn: u64,
    },
    Shutdown,
    /// No more environments of that version will come.
    Forget {
        version_key: u64,
    },
}

/// From the jailer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The jailer is ready to serve.
    Ready {
        abilities: Abilities,
    },
    /// The jailer cannot serve: what it did, and errno.
    Unfit {
        doing: String,
        errno: i32,
    },
    /// Listener, output pipe, status pipe and pidfd come along, an output pipe of each companion, and the device when there
    /// is an interface.
    Started {
        id: u64,
        group: Option<String>,
        address: String,
        /// The interface's IPv4 and IPv6 address.
        interface: Option<(u32, u128)>,
        companions: u8,
    },
    /// The socket comes along.
    Socket {
        turn: u64,
    },
    Failed {
        id: u64,
        doing: String,
        errno: i32,
    },
    /// Every process is dead and every group removed; mounts and devices go with the jailer, in a moment.
    Finished,
}

/// The bytes are none of these messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message between platform and jailer")]
pub(crate) struct Malformed;

impl Request {
    /// A start without cloning the spec.
    pub fn start_bytes(id: u64, spec: &Spec) -> Vec<u8> {
        let mut writer = Writer::of(1);
        writer.u64(id);
        writer.spec(spec);
        writer.0
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::of(match self {
            Request::Start { id, spec } => return Request::start_bytes(*id, spec),
            Request::Restart { .. } => 2,
            Request::Release { .. } => 3,
            Request::Shutdown => 4,
            Request::Socket { .. } => 5,
            Request::Forget { .. } => 6,
        });
        if let Request::Restart { id } | Request::Release { id, .. } | Request::Socket { id, .. } = self {
            writer.u64(*id);
        }
        if let Request::Release { ran, .. } = self {
            writer.u32(u32::from(*ran));
        }
        if let Request::Socket { turn, .. } = self {
            writer.u64(*turn);
        }
        if let Request::Forget { version_key } = self {
            writer.u64(*version_key);
        }
        writer.0
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Request, Malformed> {
        let mut reader = Reader(bytes);
        let request = match reader.u8()? {
            1 => Request::Start { id: reader.u64()?, spec: Box::new(reader.spec()?) },
            2 => Request::Restart { id: reader.u64()? },
            3 => Request::Release { id: reader.u64()?, ran: reader.u32()? != 0 },
            4 => Request::Shutdown,
            5 => Request::Socket { id: reader.u64()?, turn: reader.u64()? },
            6 => Request::Forget { version_key: reader.u64()? },
            _ => return Err(Malformed),
        };
        reader.end(request)
    }
}

impl Reply {
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Reply::Finished => Writer::of(5).0,
            Reply::Ready { abilities } => {
                let mut writer = Writer::of(1);
                writer.abilities(abilities);
                writer.0
            }
            Reply::Unfit { doing, errno } => {
                let mut writer = Writer::of(2);
                writer.text(doing);
                writer.u32(errno.cast_unsigned());
                writer.0
            }
            Reply::Socket { turn } => {
                let mut writer = Writer::of(6);
                writer.u64(*turn);
                writer.0
            }
            Reply::Started { id, group, address, interface, companions } => {
                let mut writer = Writer::of(3);
                writer.u64(*id);
                writer.optional(group.as_deref().map(str::as_bytes));
                writer.text(address);
                writer.0.push(u8::from(interface.is_some()));
                if let Some((address, address6)) = interface {
                    writer.u32(*address);
                    writer.0.extend_from_slice(&address6.to_le_bytes());
                }
                writer.0.push(*companions);
                writer.0
            }
            Reply::Failed { id, doing, errno } => {
                let mut writer = Writer::of(4);
                writer.u64(*id);
                writer.text(doing);
                writer.u32(errno.cast_unsigned());
                writer.0
            }
        }
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Reply, Malformed> {
        let mut reader = Reader(bytes);
        let reply = match reader.u8()? {
            1 => Reply::Ready { abilities: reader.abilities()? },
            2 => Reply::Unfit { doing: reader.text()?, errno: reader.u32()?.cast_signed() },
            3 => Reply::Started {
                id: reader.u64()?,
                group: match reader.u8()? {
                    0 => None,
                    _ => Some(reader.text()?),
                },
                address: reader.text()?,
                interface: match reader.u8()? {
                    0 => None,
                    _ => Some((reader.u32()?, u128::from_le_bytes(reader.array()?))),
                },
                companions: reader.u8()?,
            },
            4 => {
                Reply::Failed { id: reader.u64()?, doing: reader.text()?, errno: reader.u32()?.cast_signed() }
            }
            5 => Reply::Finished,
            6 => Reply::Socket { turn: reader.u64()? },
            _ => return Err(Malformed),
        };
        reader.end(reply)
    }
}

pub(crate) struct Writer(pub Vec<u8>);

impl Writer {
    pub fn of(kind: u8) -> Writer {
        Writer(vec![kind])
    }

    pub fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    /// Lengths saturate; a text of 4 GiB is refused by the packet size long before.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(bytes);
    }

    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn path(&mut self, path: &Path) {
        self.bytes(path.as_os_str().as_bytes());
    }

    pub fn optional(&mut self, bytes: Option<&[u8]>) {
        self.0.push(u8::from(bytes.is_some()));
        if let Some(bytes) = bytes {
            self.bytes(bytes);
        }
    }

    pub fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX));
    }

    fn spec(&mut self, spec: &Spec) {
        self.text(&spec.hostname);
        self.u64(spec.version_key);
        self.count(spec.image.len());
        spec.image.iter().for_each(|layer| self.path(layer));
        self.path(&spec.task);
        self.optional(spec.opt.as_ref().map(|opt| opt.as_os_str().as_bytes()));
        self.count(spec.binds.len());
        for bind in &spec.binds {
            self.path(&bind.host);
            self.path(&bind.inside);
        }
        self.count(spec.program.len());
        for argument in &spec.program {
            self.text(argument);
        }
        self.variables(&spec.environment);
        self.text(&spec.working_directory);
        self.u32(spec.memory_mb);
        self.u32(spec.tmp_mb);
        self.0.push(u8::from(spec.dual_stack));
        self.count(spec.companions.programs.len());
        for program in &spec.companions.programs {
            self.text(program);
        }
        self.variables(&spec.companions.environment);
    }

    fn variables(&mut self, variables: &[(String, String)]) {
        self.count(variables.len());
        for (name, value) in variables {
            self.text(name);
            self.text(value);
        }
    }

    fn abilities(&mut self, abilities: &Abilities) {
        self.count(abilities.items.len());
        for ability in &abilities.items {
            let index = NAMES.iter().position(|name| *name == ability.name).unwrap_or(NAMES.len());
            self.count(index);
            self.0.push(match ability.state {
                AbilityState::Enforced => 0,
                AbilityState::Loose => 1,
                AbilityState::Missing => 2,
            });
            self.text(&ability.detail);
            self.optional(ability.cure.as_deref().map(str::as_bytes));
        }
    }
}

pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.u32()? as usize;
        self.take(count)
    }

    pub fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Malformed)
    }

    fn path(&mut self) -> Result<PathBuf, Malformed> {
        Ok(PathBuf::from(std::ffi::OsString::from_vec(self.bytes()?.to_vec())))
    }

    /// Items of at least one byte each, so the packet's length bounds the count.
    pub fn list<T>(&mut self, item: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let count = self.u32()? as usize;
        if count > self.0.len() {
            return Err(Malformed);
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn spec(&mut self) -> Result<Spec, Malformed> {
        Ok(Spec {
            hostname: self.text()?,
            version_key: self.u64()?,
            image: self.list(Reader::path)?,
            task: self.path()?,
            opt: match self.u8()? {
                0 => None,
                _ => Some(self.path()?),
            },
            binds: self.list(|reader| Ok(Bind { host: reader.path()?, inside: reader.path()? }))?,
            program: self.list(Reader::text)?,
            environment: self.list(|reader| Ok((reader.text()?, reader.text()?)))?,
            working_directory: self.text()?,
            memory_mb: self.u32()?,
            tmp_mb: self.u32()?,
            dual_stack: self.u8()? != 0,
            companions: Companions {
                programs: self.list(Reader::text)?,
                environment: self.list(|reader| Ok((reader.text()?, reader.text()?)))?,
            },
        })
    }

    fn abilities(&mut self) -> Result<Abilities, Malformed> {
        let items = self.list(|reader| {
            let name = *NAMES.get(reader.u32()? as usize).ok_or(Malformed)?;
            let state = match reader.u8()? {
                0 => AbilityState::Enforced,
                1 => AbilityState::Loose,
                2 => AbilityState::Missing,
                _ => return Err(Malformed),
            };
            let detail = reader.text()?;
            let cure = match reader.u8()? {
                0 => None,
                _ => Some(reader.text()?),
            };
            Ok(Ability { name, state, detail, cure })
        })?;
        Ok(Abilities { items })
    }

    pub fn end<T>(self, message: T) -> Result<T, Malformed> {
        if self.0.is_empty() { Ok(message) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            hostname: "h".into(),
            version_key: u64::MAX,
            image: vec!["/layers/1".into(), "/layers/2".into()],
            task: "/code/x".into(),
            opt: Some("/layers".into()),
            binds: vec![Bind { host: "/a".into(), inside: "/b".into() }],
            program: vec!["/var/task/bootstrap".into(), "--x".into()],
            environment: vec![("A".into(), "1".into()), ("B".into(), String::new())],
            working_directory: "/var/task".into(),
            memory_mb: 128,
            tmp_mb: 512,
            dual_stack: true,
            companions: Companions {
                programs: vec!["/opt/extensions/a".into()],
                environment: vec![("A".into(), "1".into())],
            },
        }
    }

    #[test]
    fn requests_and_replies_survive_the_socket() {
        for request in [
            Request::Start { id: 7, spec: Box::new(spec()) },
            Request::Restart { id: 8 },
            Request::Release { id: 9, ran: true },
            Request::Socket { id: 9, turn: 10 },
            Request::Forget { version_key: 11 },
            Request::Shutdown,
        ] {
            assert_eq!(Request::from_bytes(&request.to_bytes()), Ok(request));
        }
        let mut abilities = Abilities::default();
        abilities.add("seccomp", AbilityState::Loose, "so so", Some("cure"));
        for reply in [
            Reply::Finished,
            Reply::Ready { abilities },
            Reply::Unfit { doing: "mount /proc".into(), errno: 1 },
            Reply::Started {
                id: 1,
                group: Some("e1".into()),
                address: "127.0.0.1:9001".into(),
                interface: Some((0xA9FE_0002, u128::MAX - 1)),
                companions: 10,
            },
            Reply::Started { id: 1, group: None, address: String::new(), interface: None, companions: 0 },
            Reply::Socket { turn: 3 },
            Reply::Failed { id: 1, doing: "x".into(), errno: -1 },
        ] {
            assert_eq!(Reply::from_bytes(&reply.to_bytes()), Ok(reply));
        }
    }

    #[test]
    fn cut_or_extended_messages_are_refused_without_panic() {
        let bytes = Request::Start { id: 7, spec: Box::new(spec()) }.to_bytes();
        for end in 0..bytes.len() {
            assert_eq!(Request::from_bytes(&bytes[..end]), Err(Malformed));
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(Request::from_bytes(&longer), Err(Malformed));
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] = 0xff;
            drop(Request::from_bytes(&wrong));
        }
    }
}
