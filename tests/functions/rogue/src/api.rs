//! The Runtime API by hand, so that every rule of it can be broken.

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
};

/// One invocation: its id and the event's bytes.
pub struct Invocation {
    pub id: String,
    pub event: Vec<u8>,
}

/// One kept connection.
pub struct Api {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Api {
    pub fn connect() -> io::Result<Api> {
        let host = env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
        let stream = TcpStream::connect(&host)?;
        stream.set_nodelay(true)?;
        Ok(Api { stream: BufReader::new(stream), host })
    }

    pub fn next(&mut self) -> io::Result<Invocation> {
        let (_, headers, event) = self.call("GET", "runtime/invocation/next", "", b"")?;
        let id = header(&headers, "lambda-runtime-aws-request-id").unwrap_or_default();
        Ok(Invocation { id, event })
    }

    /// Answers with the status and body that the platform gave back.
    pub fn respond(&mut self, id: &str, body: &[u8]) -> io::Result<(u16, String)> {
        self.post(&format!("runtime/invocation/{id}/response"), "", body)
    }

    pub fn fail(&mut self, id: &str, kind: &str, body: &[u8]) -> io::Result<(u16, String)> {
        let header = format!("Lambda-Runtime-Function-Error-Type: {kind}\r\n");
        self.post(&format!("runtime/invocation/{id}/error"), &header, body)
    }

    fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> io::Result<(u16, String)> {
        let (status, _, answer) = self.call("POST", path, headers, body)?;
        Ok((status, String::from_utf8_lossy(&answer).into_owned()))
    }

    fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> io::Result<(u16, Vec<String>, Vec<u8>)> {
        let mut request = format!(
            "{method} /2018-06-01/{path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n{headers}\r\n",
            self.host,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        // The platform may refuse a body before it has read all of it: its answer is what matters.
        let sent = self.stream.get_mut().write_all(&request);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(sent.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
            }
            match line.trim_end() {
                "" => break,
                text => lines.push(text.to_owned()),
            }
        }
        let status = lines[0].split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
        let length = header(&lines, "content-length").and_then(|it| it.parse().ok()).unwrap_or(0);
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer)?;
        Ok((status, lines, answer))
    }
}

fn header(lines: &[String], name: &str) -> Option<String> {
    lines.iter().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}
