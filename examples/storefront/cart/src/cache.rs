//! A client of the cache that all environments share, as most clients are: a pool of connections, opened on first use
//! and kept for as long as the environment lives. It speaks the Redis protocol (RESP2): `GET`, `SET` and `DEL`.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The largest value that is taken from the cache, in bytes.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// The longest line of an answer, in bytes.
const LINE_BYTES_MAX: u64 = 4_096;
/// The most connections of one environment; the file descriptors of one end at 1,024.
pub const CONNECTIONS_MAX: usize = 900;

/// The pool.
#[derive(Debug)]
pub struct Pool {
    host: String,
    port: u16,
    wanted: usize,
    timeout: Duration,
    open: Vec<BufReader<TcpStream>>,
}

/// Why the cache could not be asked.
#[derive(Debug)]
pub enum CacheError {
    /// Some connections of the pool did not come about.
    Connect { to: String, open: usize, wanted: usize, cause: String },
    /// The cache answered with an error, or not in its protocol, or hung up.
    Answer(String),
}

impl fmt::Display for CacheError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect { to, open, wanted, cause } => {
                write!(formatter, "{open} of {wanted} connections to {to}: {cause}")
            }
            Self::Answer(text) => write!(formatter, "the cache said: {text}"),
        }
    }
}

impl From<io::Error> for CacheError {
    fn from(error: io::Error) -> Self {
        Self::Answer(error.to_string())
    }
}

impl Pool {
    /// A pool of `wanted` connections (at most [`CONNECTIONS_MAX`]); each connect may take `timeout`.
    pub fn new(host: String, port: u16, wanted: usize, timeout: Duration) -> Self {
        Self { host, port, wanted: wanted.min(CONNECTIONS_MAX), timeout, open: Vec::new() }
    }

    /// Connections that are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Opens what is missing, all at once. What opens is kept, whatever becomes of the others.
    pub async fn fill(&mut self) -> Result<(), CacheError> {
        let mut connects = JoinSet::new();
        for _ in self.open.len()..self.wanted {
            let (host, port, timeout) = (self.host.clone(), self.port, self.timeout);
            connects.spawn(async move {
                match tokio::time::timeout(timeout, TcpStream::connect((host.as_str(), port))).await {
                    Ok(Ok(stream)) => Ok(stream),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err(format!("no answer within {} s", timeout.as_secs_f64())),
                }
            });
        }
        let mut failure = None;
        while let Some(connected) = connects.join_next().await {
            match connected {
                Ok(Ok(stream)) => self.open.push(BufReader::new(stream)),
                Ok(Err(cause)) => failure = Some(cause),
                Err(error) => failure = Some(error.to_string()),
            }
        }
        match failure {
            None => Ok(()),
            Some(cause) => Err(CacheError::Connect {
                to: format!("{}:{}", self.host, self.port),
                open: self.open.len(),
                wanted: self.wanted,
                cause,
            }),
        }
    }

    /// The value of a key.
    pub async fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, CacheError> {
        self.call(&[b"GET", key.as_bytes()]).await
    }

    /// Sets a key.
    pub async fn set(&mut self, key: &str, value: &[u8]) -> Result<(), CacheError> {
        self.call(&[b"SET", key.as_bytes(), value]).await.map(drop)
    }

    /// Removes a key.
    pub async fn delete(&mut self, key: &str) -> Result<(), CacheError> {
        self.call(&[b"DEL", key.as_bytes()]).await.map(drop)
    }

    /// One command and its answer, on the next connection in turn; one that fails is dropped.
    async fn call(&mut self, words: &[&[u8]]) -> Result<Option<Vec<u8>>, CacheError> {
        self.fill().await?;
        let timeout = self.timeout;
        let Some(mut connection) = self.open.pop() else {
            return Err(CacheError::Answer("no connection".to_owned()));
        };
        let exchanged = tokio::time::timeout(timeout, exchange(&mut connection, words)).await;
        let answer = exchanged
            .map_err(|_| CacheError::Answer(format!("nothing within {} s", timeout.as_secs_f64())))??;
        self.open.insert(0, connection);
        Ok(answer)
    }
}

async fn exchange(
    connection: &mut BufReader<TcpStream>,
    words: &[&[u8]],
) -> Result<Option<Vec<u8>>, CacheError> {
    let mut command = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        command.extend_from_slice(word);
        command.extend_from_slice(b"\r\n");
    }
    connection.get_mut().write_all(&command).await?;
    let mut line = String::new();
    let mut limited = (&mut *connection).take(LINE_BYTES_MAX);
    limited.read_line(&mut line).await?;
    let Some(line) = line.strip_suffix("\r\n") else {
        return Err(CacheError::Answer("it hung up".to_owned()));
    };
    let (kind, rest) = line.split_at_checked(1).unwrap_or(("", ""));
    match kind {
        "+" | ":" => Ok(None),
        "$" if rest == "-1" => Ok(None),
        "$" => {
            let length = rest.parse::<usize>().ok().filter(|length| *length <= VALUE_BYTES_MAX);
            let length = length.ok_or_else(|| CacheError::Answer(format!("a value of {rest} bytes")))?;
            let mut value = vec![0; length + 2];
            connection.read_exact(&mut value).await?;
            value.truncate(length);
            Ok(Some(value))
        }
        _ => Err(CacheError::Answer(line.to_owned())),
    }
}
