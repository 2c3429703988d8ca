//! Any bytes as a function's TLS to an AWS endpoint, and any name that it asks for: a certificate for AWS's names, nothing for
//! others, never a panic.
#![no_main]

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use services::authority::{Authority, server_config};
use std::sync::{Arc, LazyLock};

/// Turns of a handshake, and more than it takes.
const TURNS_MAX: usize = 8;

static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
static SERVER: LazyLock<(Arc<ServerConfig>, Arc<ClientConfig>)> = LazyLock::new(|| {
    let authority = Arc::new(Authority::open(FOLDER.path()).unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.root()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server_config(authority).unwrap()), Arc::new(client))
});

/// Whether two ends agree.
fn shake_hands(name: &str) -> Option<bool> {
    let name = ServerName::try_from(name.to_owned()).ok().filter(|name| matches!(name, ServerName::DnsName(_)))?;
    let mut server = ServerConnection::new(SERVER.0.clone()).unwrap();
    let mut client = ClientConnection::new(SERVER.1.clone(), name).ok()?;
    for _ in 0..TURNS_MAX {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        if server.read_tls(&mut &wire[..]).is_err() || server.process_new_packets().is_err() {
            return Some(false);
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        if client.read_tls(&mut &wire[..]).is_err() || client.process_new_packets().is_err() {
            return Some(false);
        }
        if !client.is_handshaking() && !server.is_handshaking() {
            return Some(true);
        }
    }
    Some(false)
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if kind % 2 == 0 {
        let mut server = ServerConnection::new(SERVER.0.clone()).unwrap();
        let mut left = bytes;
        while !left.is_empty() && server.read_tls(&mut left).is_ok_and(|count| count > 0) {
            if server.process_new_packets().is_err() {
                break;
            }
        }
    } else if let Ok(name) = std::str::from_utf8(bytes)
        && let Some(agreed) = shake_hands(name)
    {
        let lower = name.to_ascii_lowercase();
        let lower = lower.trim_end_matches('.');
        if lower == "www.example.com" {
            assert!(!agreed);
        }
        if model::aws_name::AwsName::read(lower).is_some() {
            assert!(agreed, "{name}");
        }
    }
});
