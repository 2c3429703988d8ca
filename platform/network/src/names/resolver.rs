//! The resolver at a VPC's base + 2 and at 169.254.169.253: bytes in, bytes out.
//!
//! It stands beside the packets' path, as AWS's does: names resolve while connects hang (S0-9 of the incident's text), and
//! its answers take no connection of the interface.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use limits::network::nat64;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use super::book::{Answer, Book};
use super::name::Name;
use super::upstream::Upstream;
use super::wire::{self, Code, Data, Question, Unreadable};

/// Aliases of aliases that are followed.
const ALIASES_MAX: usize = 8;
/// Addresses taken over from what an alias leads to.
const ADDRESSES_MAX: usize = 64;
/// Questions on one TCP connection.
const QUESTIONS_MAX: usize = 1_024;
/// How long a TCP connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Largest question over TCP.
const QUESTION_BYTES_MAX: usize = 4_096;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The VPC of its interface, as an index into the book; none for a function outside every VPC.
    pub vpc: Option<usize>,
    /// Its subnet has `EnableDns64`: what has IPv4 alone gets addresses of 64:ff9b::/96.
    pub dns64: bool,
}

impl Asker {
    /// A function in that VPC, or outside every one.
    pub const fn of(vpc: Option<usize>) -> Self {
        Self { vpc, dns64: false }
    }
}

/// How a question came, and so how long its answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// As one datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

/// Addresses whose names are remembered; beyond it the memory starts anew.
const TOLD_MAX: usize = 8_192;

/// What a name comes to in the end.
enum Behind {
    Addresses(Vec<IpAddr>),
    NoSuchName,
}

/// Answers from the book, and from the host's resolvers what the book does not know.
#[derive(Debug)]
pub struct Resolver {
    /// Another one after each change of the network.
    book: RwLock<Arc<Book>>,
    upstream: Upstream,
    /// The name by which each address was last asked for.
    told: Mutex<HashMap<IpAddr, Name>>,
    /// Of records and types that are answered with one address at a time, how often they were: the template's, so only so many.
    turns: Mutex<BTreeMap<(Name, u16), usize>>,
}

impl Resolver {
    /// A resolver with this book.
    pub fn new(book: Arc<Book>, upstream: Upstream) -> Self {
        Self { book: RwLock::new(book), upstream, told: Mutex::default(), turns: Mutex::default() }
    }

    /// The book.
    pub fn book(&self) -> Arc<Book> {
        self.book.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers from another book from now on.
    pub fn set_book(&self, book: Arc<Book>) {
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = book;
    }

    /// The name for which a function was last told an address: who reads `198.51.100.7` wants to know whose it is.
    pub fn called(&self, address: IpAddr) -> Option<Name> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()
    }

    fn remember(&self, question: &Question<'_>, answer: &[u8]) {
        let Some(name) = &question.name else { return };
        if !matches!(question.kind, wire::A | wire::AAAA | wire::ANY) {
            return;
        }
        let addresses = wire::addresses(answer, ADDRESSES_MAX);
        if addresses.is_empty() {
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() + addresses.len() > TOLD_MAX {
            told.clear();
        }
        told.extend(addresses.into_iter().map(|address| (address, name.clone())));
    }

    /// The answer to a query, both in wire format; empty when there is none to give (the VPC has no DNS, or what came is
    /// no query).
    pub async fn answer(&self, asker: Asker, query: &[u8], over: Transport) -> Vec<u8> {
        let book = self.book();
        let silent = |index| book.vpc(index).is_some_and(|vpc| !vpc.dns_support);
        if asker.vpc.is_some_and(silent) {
            return Vec::new();
        }
        let question = match Question::read(query) {
            Ok(question) => question,
            Err(Unreadable::Silence) => return Vec::new(),
            Err(Unreadable::Answer(answer)) => return answer,
        };
        let known = question.name.as_ref().map_or(Answer::AskTheHost, |name| book.look_up(asker.vpc, name));
        let most = if question.kind == wire::CNAME { 1 } else { ALIASES_MAX };
        let chain = question.name.as_ref().map_or_else(Vec::new, |name| book.cnames(asker.vpc, name, most));
        let answer = match known {
            Answer::Addresses(addresses) => of_addresses(&question, &chain, &addresses),
            Answer::OneOf(record, addresses) => {
                let next = self.next_of(record, question.kind, question.kind, &addresses);
                of_addresses(&question, &chain, next.as_slice())
            }
            Answer::Pointer(name) => {
                let data = matches!(question.kind, wire::PTR | wire::ANY).then_some(Data::Pointer(name));
                question.answer(Code::NoError, data.as_slice(), question.name.as_ref())
            }
            Answer::Alias(name) if matches!(question.kind, wire::A | wire::AAAA | wire::ANY) => {
                match self.addresses_of(asker, &question, name, question.kind).await {
                    Some(Behind::Addresses(addresses)) => of_addresses(&question, &chain, &addresses),
                    // Of a `CNAME` the last name's code (RFC 6604, section 3); an alias record's own name is there.
                    Some(Behind::NoSuchName) if !chain.is_empty() => {
                        with_chain(&question, Code::NoSuchName, &chain, &[])
                    }
                    Some(Behind::NoSuchName) => of_addresses(&question, &chain, &[]),
                    None => question.answer(Code::ServerFailure, &[], None),
                }
            }
            Answer::Alias(_) => of_addresses(&question, &chain, &[]),
            Answer::NoSuchName(zone) => question.answer(Code::NoSuchName, &[], Some(&zone)),
            Answer::AskTheHost => {
                let asked = self.ask_the_host(&question, query).await;
                asked.unwrap_or_else(|| question.answer(Code::ServerFailure, &[], None))
            }
        };
        let answer = match question.kind {
            wire::AAAA if asker.dns64 => self.with_made_up(asker, &question, &chain, answer).await,
            _ => answer,
        };
        self.remember(&question, &answer);
        match over {
            Transport::Udp if answer.len() > question.udp_bytes => question.truncated(),
            _ => answer,
        }
    }

    /// An answer about IPv6 that is there but has none becomes one with an address for each of IPv4 (RFC 6147, section 5.1:
    /// not where there is no such name, and not where the question was never answered).
    async fn with_made_up(
        &self,
        asker: Asker,
        question: &Question<'_>,
        chain: &[Name],
        answer: Vec<u8>,
    ) -> Vec<u8> {
        let Some(name) = &question.name else { return answer };
        if !wire::is_without_error(&answer) || !wire::addresses(&answer, ADDRESSES_MAX).is_empty() {
            return answer;
        }
        let found = match self.addresses_of(asker, question, name.clone(), wire::A).await {
            Some(Behind::Addresses(addresses)) => addresses,
            Some(Behind::NoSuchName) | None => Vec::new(),
        };
        let made_up = |address: &IpAddr| match address {
            IpAddr::V4(four) => Some(IpAddr::V6(nat64::synthesized(*four))),
            IpAddr::V6(_) => None,
        };
        let made_up: Vec<IpAddr> = found.iter().filter_map(made_up).collect();
        if made_up.is_empty() { answer } else { of_addresses(question, chain, &made_up) }
    }

    async fn ask_the_host(&self, question: &Question<'_>, query: &[u8]) -> Option<Vec<u8>> {
        let answer = self.upstream.ask(question, query).await;
        let name = question.name.as_ref().map_or(".", |name| name.as_str());
        answer.inspect_err(|error| tracing::debug!(name, %error, "a name could not be looked up")).ok()
    }

    /// The addresses of a kind that a name, or an alias, comes to. Those of an alias record are answered as the name's own, as
    /// Route 53 does. `None` where the host's resolvers cannot tell.
    async fn addresses_of(
        &self,
        asker: Asker,
        question: &Question<'_>,
        mut name: Name,
        kind: u16,
    ) -> Option<Behind> {
        for _ in 0..ALIASES_MAX {
            match self.book().look_up(asker.vpc, &name) {
                Answer::Addresses(addresses) => return Some(Behind::Addresses(addresses)),
                // Its turns are those of the question, which may ask for the other version.
                Answer::OneOf(record, addresses) => {
                    let next = self.next_of(record, question.kind, kind, &addresses);
                    return Some(Behind::Addresses(next.into_iter().collect()));
                }
                Answer::Alias(next) => name = next,
                Answer::AskTheHost => {
                    let query = wire::query(&name, kind);
                    let Ok(question) = Question::read(&query) else { break };
                    let answer = self.ask_the_host(&question, &query).await;
                    let answer = answer.filter(|answer| wire::is_conclusive(answer));
                    return answer.map(|answer| match wire::is_without_error(&answer) {
                        true => Behind::Addresses(wire::addresses(&answer, ADDRESSES_MAX)),
                        false => Behind::NoSuchName,
                    });
                }
                Answer::NoSuchName(_) => return Some(Behind::NoSuchName),
                Answer::Pointer(_) => break,
            }
        }
        Some(Behind::Addresses(Vec::new()))
    }

    /// The address whose turn it is with a question of type `asked`, of those of a `kind`.
    fn next_of(&self, record: Name, asked: u16, kind: u16, addresses: &[IpAddr]) -> Option<IpAddr> {
        let wanted: Vec<_> = addresses.iter().filter(|address| is_wanted(kind, **address)).collect();
        if wanted.len() < 2 {
            return wanted.first().map(|address| **address);
        }
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = turns.entry((record, asked)).or_default();
        *turn = turn.wrapping_add(1);
        Some(*wanted[*turn % wanted.len()])
    }

    /// Serves one connection: questions with their length before them, answered in their order.
    pub async fn serve(&self, asker: Asker, mut stream: TcpStream) {
        for _ in 0..QUESTIONS_MAX {
            let Ok(Ok(length)) = timeout(SILENCE_MAX, stream.read_u16()).await else { return };
            let length = usize::from(length);
            if length > QUESTION_BYTES_MAX {
                return;
            }
            let mut query = vec![0; length];
            let Ok(Ok(_)) = timeout(SILENCE_MAX, stream.read_exact(&mut query)).await else { return };
            let answer = self.answer(asker, &query, Transport::Tcp).await;
            let Some(length) = u16::try_from(answer.len()).ok().filter(|length| *length > 0) else { return };
            let mut framed = length.to_be_bytes().to_vec();
            framed.extend_from_slice(&answer);
            let Ok(Ok(())) = timeout(SILENCE_MAX, stream.write_all(&framed)).await else { return };
        }
    }
}

/// Whether a question asks for addresses of that version.
fn is_wanted(kind: u16, address: IpAddr) -> bool {
    match kind {
        wire::A => address.is_ipv4(),
        wire::AAAA => address.is_ipv6(),
        kind => kind == wire::ANY,
    }
}

/// An answer with the names that the question's stands for, and the last one's addresses.
fn of_addresses(question: &Question<'_>, chain: &[Name], addresses: &[IpAddr]) -> Vec<u8> {
    let wanted = addresses.iter().filter(|address| is_wanted(question.kind, **address));
    let wanted = wanted.map(|address| Data::Address(*address));
    with_chain(question, Code::NoError, chain, &wanted.collect::<Vec<_>>())
}

fn with_chain(question: &Question<'_>, code: Code, chain: &[Name], data: &[Data]) -> Vec<u8> {
    let data: Vec<_> = chain.iter().cloned().map(Data::Alias).chain(data.iter().cloned()).collect();
    question.answer(code, &data, chain.last().or(question.name.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::super::wire::tests::asked;
    use super::*;
    use crate::attach::Attachments;
    use crate::names::{ServiceAddresses, VpcNames};
    use std::net::SocketAddr;
    use tokio::net::{TcpListener, UdpSocket};

    async fn resolver(upstream: Vec<SocketAddr>) -> Arc<Resolver> {
        let mut vpc = VpcNames::new(true, vec![]);
        for last in 1..=100 {
            vpc.add(Name::new("many.test").unwrap(), IpAddr::from([10, 0, 0, last]));
        }
        vpc.add_alias(Name::new("alias.test").unwrap(), Name::new("www.example.com").unwrap());
        vpc.add_cname(Name::new("cname.test").unwrap(), Name::new("www.example.com").unwrap());
        vpc.add_alias(Name::new("cname.test").unwrap(), Name::new("www.example.com").unwrap());
        let deaf = VpcNames::new(false, vec![]);
        let services = ServiceAddresses::new("us-east-1", ["ssm".to_owned()], false);
        let book = Book::new("us-east-1", vec![vpc, deaf], &Attachments::default(), services);
        Arc::new(Resolver::new(Arc::new(book), Upstream::of(upstream)))
    }

    #[tokio::test]
    async fn a_name_of_several_readers_is_answered_with_one_after_the_other() {
        let mut vpc = VpcNames::new(true, vec![]);
        let readers = Name::new("readers.test").unwrap();
        let own: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
        own.iter().for_each(|address| vpc.add(readers.clone(), *address));
        vpc.take_turns(&readers);
        let services = ServiceAddresses::new("us-east-1", [], false);
        let book = Book::new("us-east-1", vec![vpc], &Attachments::default(), services);
        let resolver = Resolver::new(Arc::new(book), Upstream::of(vec![]));
        let mut heard = Vec::new();
        for _ in 0..4 {
            let answer =
                resolver.answer(Asker::of(Some(0)), &wire::query(&readers, wire::A), Transport::Udp).await;
            heard.extend(wire::addresses(&answer, 8));
            // Who asks for both versions at once is not led to the same one always.
            resolver.answer(Asker::of(Some(0)), &wire::query(&readers, wire::AAAA), Transport::Udp).await;
        }
        assert_eq!(heard.len(), 4, "one each: {heard:?}");
        let (asker, query) = (Asker { vpc: Some(0), dns64: true }, wire::query(&readers, wire::AAAA));
        let mut made_up = Vec::new();
        for _ in 0..4 {
            made_up.extend(wire::addresses(&resolver.answer(asker, &query, Transport::Udp).await, 8));
            resolver.answer(asker, &wire::query(&readers, wire::A), Transport::Udp).await;
        }
        assert_eq!(made_up.len(), 4, "one each: {made_up:?}");
        assert!(made_up[0] != made_up[1] && made_up[..2] == made_up[2..], "{made_up:?}");
        assert_eq!(
            own.iter().map(|one| heard.iter().filter(|found| *found == one).count()).collect::<Vec<_>>(),
            [2, 2]
        );
    }

    #[tokio::test]
    async fn readers_behind_a_wildcard_or_an_alias_take_turns_whatever_is_asked_for() {
        let name = |text| Name::new(text).unwrap();
        let mut vpc = VpcNames::new(true, vec![]);
        vpc.extend(&name("*.test"), [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()]);
        vpc.take_turns(&name("*.test"));
        vpc.add_alias(name("orders.shop"), name("readers.test"));
        let services = ServiceAddresses::new("us-east-1", [], false);
        let book = Book::new("us-east-1", vec![vpc], &Attachments::default(), services);
        let resolver = Resolver::new(Arc::new(book), Upstream::of(vec![]));
        for (dns64, kind) in [(false, wire::A), (true, wire::AAAA)] {
            let mut heard = Vec::new();
            for asked in ["a.test", "b.test", "orders.shop", "orders.shop"] {
                let (asker, query) = (Asker { vpc: Some(0), dns64 }, wire::query(&name(asked), kind));
                heard.push(wire::addresses(&resolver.answer(asker, &query, Transport::Udp).await, 8));
            }
            assert!(heard.iter().all(|found| found.len() == 1), "one each: {heard:?}");
            assert!(heard[0] != heard[1] && heard[..2] == heard[2..], "{heard:?}");
        }
        assert_eq!(resolver.turns.lock().unwrap().len(), 2, "who makes names up fills no memory");
    }

    #[tokio::test]
    async fn a_cname_is_answered_with_the_addresses_of_its_target() {
        let name = |text: &str| Name::new(text).unwrap();
        let mut vpc = VpcNames::new(true, vec![]);
        for (cname, target) in [("www.test", "web.test"), ("web.test", "db.aws"), ("*.cdn.test", "db.aws")] {
            vpc.add_cname(name(cname), name(target));
            vpc.extend(&name(cname), [[10, 0, 0, 9].into()]);
        }
        vpc.add(name("db.aws"), [10, 0, 0, 9].into());
        vpc.add(name("own.cdn.test"), [10, 0, 0, 8].into());
        vpc.add_cname(name("loop.test"), name("loop.test"));
        vpc.add_alias(name("loop.test"), name("loop.test"));
        let services = ServiceAddresses::new("us-east-1", [], false);
        let book = Book::new("us-east-1", vec![vpc], &Attachments::default(), services);
        let resolver = Resolver::new(Arc::new(book), Upstream::of(vec![]));
        // Types and owners of the records, after the question, a name that a pointer leads to written whole; and how many speak
        // of authority.
        let ask = async |text: &str, kind| {
            let query = wire::query(&name(text), kind);
            let answer = resolver.answer(Asker::of(Some(0)), &query, Transport::Udp).await;
            (wire::tests::records(&answer), answer[9])
        };
        let of = |owner: &str, kind| (owner.to_owned(), kind);
        let chain = [of("www.test", wire::CNAME), of("web.test", wire::CNAME), of("db.aws", wire::A)];
        assert_eq!(ask("www.test", wire::A).await, (chain.to_vec(), 0));
        // What the last name has not, its zone's start of authority says.
        assert_eq!(ask("www.test", wire::AAAA).await, (chain[..2].to_vec(), 1));
        assert_eq!(ask("www.test", wire::CNAME).await, (chain[..1].to_vec(), 0));
        let behind_wildcard = vec![of("a.cdn.test", wire::CNAME), of("db.aws", wire::A)];
        assert_eq!(ask("a.cdn.test", wire::A).await, (behind_wildcard, 0));
        assert_eq!(ask("own.cdn.test", wire::A).await, (vec![of("own.cdn.test", wire::A)], 0));
        assert_eq!(ask("loop.test", wire::A).await, (vec![of("loop.test", wire::CNAME); ALIASES_MAX], 1));
    }

    #[tokio::test]
    async fn nobody_is_asked_for_what_an_alias_does_not_tell() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = resolver(vec![server.local_addr().unwrap()]).await;
        let query = asked("alias.test", wire::CNAME, None);
        assert_eq!(code(&resolver.answer(Asker::of(Some(0)), &query, Transport::Udp).await), (0, 0));
        let error = server.try_recv(&mut [0; 512]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    }

    fn code(answer: &[u8]) -> (u8, u16) {
        (answer[3] & 15, u16::from_be_bytes([answer[6], answer[7]]))
    }

    /// A name server that answers each question with one address, cut over UDP when the name starts with `long`.
    async fn server() -> SocketAddr {
        // The same port must be free for both; another process may be quicker, so try some.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        tokio::spawn(async move {
            let mut bytes = [0; 512];
            while let Ok((length, client)) = udp.recv_from(&mut bytes).await {
                let question = Question::read(&bytes[..length]).unwrap();
                let long = question.name.as_ref().unwrap().as_str().starts_with("long");
                let data = [Data::Address("192.0.2.1".parse().unwrap())];
                let answer =
                    if long { question.truncated() } else { question.answer(Code::NoError, &data, None) };
                udp.send_to(b"a stranger's words", client).await.unwrap();
                udp.send_to(&answer, client).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut query).await.unwrap();
                let question = Question::read(&query).unwrap();
                let data = vec![Data::Address("192.0.2.2".parse().unwrap()); 200];
                let answer = question.answer(Code::NoError, &data, None);
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn known_names_are_answered_by_kind() {
        let resolver = resolver(vec![]).await;
        let ask = async |vpc, name: &str, kind| {
            resolver.answer(Asker::of(vpc), &asked(name, kind, None), Transport::Tcp).await
        };
        assert_eq!(code(&ask(None, "ssm.us-east-1.amazonaws.com", wire::A).await), (0, 1));
        assert_eq!(code(&ask(None, "ssm.us-east-1.amazonaws.com", wire::AAAA).await), (0, 0));
        assert_eq!(code(&ask(None, "localhost", wire::AAAA).await), (0, 1));
        assert_eq!(code(&ask(Some(0), "many.test", wire::A).await), (0, 100));
        assert_eq!(resolver.called([10, 0, 0, 7].into()), Name::new("many.test"));
        assert_eq!(resolver.called([10, 0, 1, 7].into()), None);
        assert!(ask(Some(1), "ssm.us-east-1.amazonaws.com", wire::A).await.is_empty(), "DNS support is off");
        assert_eq!(code(&ask(None, "www.example.com", wire::A).await), (2, 0), "nobody to ask");
    }

    #[tokio::test]
    async fn an_alias_of_which_the_host_cannot_tell_is_not_said_to_have_no_address() {
        for (name, said, heard) in [
            ("alias.test", None, Code::ServerFailure),
            ("alias.test", Some(Code::ServerFailure), Code::ServerFailure),
            ("alias.test", Some(Code::NoSuchName), Code::NoError),
            ("cname.test", Some(Code::ServerFailure), Code::ServerFailure),
            ("cname.test", Some(Code::NoSuchName), Code::NoSuchName),
        ] {
            let query = asked(name, wire::A, None);
            let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let resolver = resolver(said.map(|_| server.local_addr().unwrap()).into_iter().collect()).await;
            let answer = resolver.answer(Asker::of(Some(0)), &query, Transport::Udp);
            let serve = async {
                let Some(said) = said else { return };
                let mut bytes = [0; 512];
                let (length, client) = server.recv_from(&mut bytes).await.unwrap();
                let answer = Question::read(&bytes[..length]).unwrap().answer(said, &[], None);
                server.send_to(&answer, client).await.unwrap();
            };
            let (answer, ()) = tokio::join!(answer, serve);
            let authority = u8::from(heard != Code::ServerFailure);
            let records = u16::from(heard == Code::NoSuchName);
            assert_eq!((code(&answer), answer[9]), ((heard as u8, records), authority), "{name} {said:?}");
        }
    }

    #[tokio::test]
    async fn answers_that_do_not_fit_are_cut_over_udp() {
        let resolver = resolver(vec![]).await;
        let udp = |options| asked("many.test", wire::A, options);
        let answer = resolver.answer(Asker::of(Some(0)), &udp(None), Transport::Udp).await;
        assert!(wire::is_truncated(&answer) && answer.len() <= wire::UDP_BYTES);
        let answer = resolver.answer(Asker::of(Some(0)), &udp(None), Transport::Tcp).await;
        assert_eq!(code(&answer), (0, 100));
    }

    #[tokio::test]
    async fn the_host_is_asked_over_udp_and_then_over_tcp() {
        let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let gone = dead.local_addr().unwrap();
        drop(dead);
        let resolver = resolver(vec![gone, server().await]).await;
        let ask = async |name: &str, over| {
            resolver.answer(Asker::of(None), &asked(name, wire::A, None), over).await
        };
        let answer = ask("www.example.com", Transport::Udp).await;
        assert_eq!((code(&answer), &answer[..2]), ((0, 1), &[0xAB, 0xCD][..]));
        assert_eq!(code(&ask("long.example.com", Transport::Tcp).await), (0, 200));
        assert!(wire::is_truncated(&ask("long.example.com", Transport::Udp).await));
        let in_vpc = Asker::of(Some(0));
        let answer = resolver.answer(in_vpc, &asked("alias.test", wire::A, None), Transport::Udp).await;
        assert_eq!(wire::addresses(&answer, 9), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn where_a_subnet_wants_it_names_without_ipv6_get_addresses_of_it() {
        // The server answers everything with one address of IPv4, whatever is asked for.
        let resolver = resolver(vec![server().await]).await;
        let ask = async |name: &str, kind, dns64| {
            let asker = Asker { vpc: Some(0), dns64 };
            let answer = resolver.answer(asker, &asked(name, kind, None), Transport::Tcp).await;
            wire::addresses(&answer, 200).iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        for (name, expected) in
            [("many.test", "64:ff9b::a00:1"), ("ssm.us-east-1.amazonaws.com", "64:ff9b::c613:")]
        {
            assert!(ask(name, wire::AAAA, false).await.is_empty(), "{name}");
            assert!(ask(name, wire::AAAA, true).await[0].starts_with(expected), "{name}");
            assert!(ask(name, wire::A, true).await.iter().all(|address| !address.contains(':')), "{name}");
        }
        assert_eq!(ask("alias.test", wire::AAAA, true).await, ["64:ff9b::c000:201"]);
        assert_eq!(ask("localhost", wire::AAAA, true).await, ["::1"], "what has IPv6 keeps it");
        assert!(ask("ip-10-9-9-9.ec2.internal", wire::AAAA, true).await.is_empty(), "there is no such name");
    }

    #[tokio::test]
    async fn a_connection_carries_many_questions() {
        let resolver = resolver(vec![]).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move { resolver.serve(Asker::of(Some(0)), stream).await });
        for _ in 0..3 {
            let query = asked("many.test", wire::A, None);
            client.write_u16(query.len() as u16).await.unwrap();
            client.write_all(&query).await.unwrap();
            let mut answer = vec![0; usize::from(client.read_u16().await.unwrap())];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(code(&answer), (0, 100));
        }
        client.write_u16(60_000).await.unwrap();
        assert!(client.read_u16().await.is_err(), "a question that is too long ends the connection");
    }
}
