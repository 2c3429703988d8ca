//! What answers to AWS's names and at attached places, put together.

use crate::Stop;
use crate::stack::open_to_read;
use anyhow::anyhow;
use bytes::Bytes;
use doors::Realm;
use doors::signature::{Key, Keys, SessionToken};
use http::request::Parts;
use http::{HeaderMap, Response};
use model::error::ApiError;
use model::stack::Stack;
use network::Attachments;
use network::attach::Server;
use services::{Services, Upstream};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// Reads `--attach`.
pub fn attachments(options: &[String], stack: Option<&Stack>) -> Result<Attachments, Stop> {
    Attachments::parse(options, stack).map_err(|error| Stop::Usage(error.to_string()))
}

/// AWS's endpoints, their authority and values in the data folder.
pub fn services(
    data_dir: &Path,
    region: &str,
    api: SocketAddr,
    attachments: &Attachments,
    stack: Option<&Stack>,
) -> Result<Arc<Services>, Stop> {
    let own = if api.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { api.ip() };
    let upstream =
        |server: &Server| Upstream { host: server.host.clone(), port: server.port, tls: server.tls };
    let options = services::Options {
        region: region.to_owned(),
        account_id: model::name::DEFAULT_ACCOUNT.to_owned(),
        folder: data_dir.join("services"),
        api: Upstream { host: own.to_string(), port: api.port(), tls: false },
        attached: attachments
            .services
            .iter()
            .map(|(name, server)| (name.clone(), upstream(server)))
            .collect(),
    };
    Services::open(options, stack)
        .map_err(|error| Stop::Failed(anyhow!(error).context("cannot set up AWS's endpoints")))
}

/// The access keys of `--credentials`, and the functions' own: those call Lambda, too. None when none was given. To be called
/// before functions start.
pub fn keys(words: &[String]) -> Result<Keys, Stop> {
    let mut keys = Keys::default();
    for word in words {
        keys.add(word, open_to_read).map_err(|error| Stop::Usage(error.to_string()))?;
    }
    if keys.is_empty() {
        return Ok(keys);
    }
    if let Some((id, secret, token)) = runtimes::own_key() {
        keys.put(Key {
            id: id.to_owned(),
            secret: secret.to_owned(),
            session_token: Some(SessionToken::Begins(token.to_owned())),
            expires_s: None,
            account_id: None,
        });
    }
    for account in keys.accounts().into_iter().filter(|account| account != model::name::DEFAULT_ACCOUNT) {
        let Some((id, secret, token)) = runtimes::key_of_account(&account) else { continue };
        keys.put(Key {
            id,
            secret,
            session_token: Some(SessionToken::Begins(token.to_owned())),
            expires_s: None,
            account_id: Some(account),
        });
    }
    Ok(keys)
}

/// The endpoints on the port of the doors, for clients on this machine.
pub struct OnTheDoors(pub Arc<Services>);

impl doors::OtherServices for OnTheDoors {
    fn takes(&self, headers: &HeaderMap) -> Option<&'static str> {
        self.0.service_of(headers)
    }

    fn answer(&self, service: &'static str, head: &Parts, body: &Bytes, caller: &Realm) -> Response<Bytes> {
        self.0.answer(service, head, body, (&caller.account_id, &caller.region))
    }

    fn refuse(&self, service: &'static str, error: &ApiError) -> Response<Bytes> {
        Services::refuse(service, error)
    }
}
