//! Which proxy leads to a server, by the variables that Docker's and Podman's own programs read.
//!
//! Source: Go's `golang.org/x/net/http/httpproxy`, "FromEnvironment" and "Config", which both are built on: upper case before lower,
//! this machine is never asked through a proxy, what `NO_PROXY` may hold.

use base64::Engine as _;
use hyper::Uri;
use std::net::IpAddr;

/// A proxy that is spoken to in the clear; what it carries is encrypted by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub host: String,
    pub port: u16,
    /// What goes into `Proxy-Authorization`.
    pub authorization: Option<String>,
}

impl Proxy {
    /// The proxy on the way to a server; `None` for the straight way.
    ///
    /// # Errors
    /// The variable holds an address that is none, or of a kind that is not spoken here.
    pub fn on_the_way_to(
        url: &Uri,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, String> {
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let is_encrypted = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
        let any = |names: [&str; 2]| {
            names.into_iter().find_map(|name| variable(name).filter(|value| !value.is_empty()))
        };
        let names = if is_encrypted { ["HTTPS_PROXY", "https_proxy"] } else { ["HTTP_PROXY", "http_proxy"] };
        let Some(value) = any(names) else { return Ok(None) };
        let exceptions = any(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        if is_here(host) || exceptions.split(',').any(|one| excepts(one.trim(), host, port)) {
            return Ok(None);
        }
        // Its value may hold a password, so it is not shown.
        Self::parse(&value).map(Some).ok_or_else(|| {
            format!("{} holds no address of a proxy as `http://host:port` (no other kind is used)", names[0])
        })
    }

    fn parse(value: &str) -> Option<Self> {
        let rest = match value.split_once("://") {
            None => value,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return None,
        };
        let rest = rest.trim_end_matches('/');
        let (user, address) =
            rest.rsplit_once('@').map_or((None, rest), |(user, address)| (Some(user), address));
        let authority: hyper::http::uri::Authority = address.parse().ok()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let authorization = user.map(|user| {
            let text = base64::engine::general_purpose::STANDARD.encode(unescape(user));
            format!("Basic {text}")
        });
        Some(Self { host, port: authority.port_u16().unwrap_or(80), authorization })
    }
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether one entry of `NO_PROXY` is about a server: `*`, a domain with what is below it, an address, a range of them, each but
/// the range with a port if it is meant alone.
fn excepts(entry: &str, host: &str, port: u16) -> bool {
    if entry.is_empty() {
        return false;
    }
    if entry == "*" {
        return true;
    }
    if let Some((network, bits)) = entry.split_once('/') {
        let (Ok(network), Ok(bits), Ok(address)) =
            (network.parse::<IpAddr>(), bits.parse::<u32>(), host.parse::<IpAddr>())
        else {
            return false;
        };
        return is_within(address, network, bits);
    }
    let (name, only) = match entry.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') || name.ends_with(']') => match digits.parse::<u16>() {
            Ok(only) => (name, Some(only)),
            Err(_) => return false,
        },
        _ => (entry, None),
    };
    if only.is_some_and(|only| only != port) {
        return false;
    }
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let bare = name.trim_start_matches("*.").trim_start_matches('.');
    let (host, bare) = (host.to_ascii_lowercase(), bare.to_ascii_lowercase());
    let is_below = host.strip_suffix(&bare).is_some_and(|before| before.ends_with('.'));
    is_below || (host == bare && !name.starts_with(['.', '*']))
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    let Some(shift) = u32::checked_sub(width, bits) else { return false };
    // A shift by all bits leaves nothing to differ in.
    address.checked_shr(shift).unwrap_or(0) == network.checked_shr(shift).unwrap_or(0)
}

/// Undoes `%41`; what is no such thing stays.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let coded = after.get(..2).filter(|_| first == b'%');
        let byte = coded.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn way(url: &str, variables: &[(&str, &str)]) -> Result<Option<Proxy>, String> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Proxy::on_the_way_to(&url.parse().unwrap(), &find)
    }

    fn proxy(host: &str, port: u16, authorization: Option<&str>) -> Option<Proxy> {
        Some(Proxy { host: host.to_owned(), port, authorization: authorization.map(str::to_owned) })
    }

    #[test]
    fn the_variable_of_the_scheme_is_read() {
        let both = [("HTTPS_PROXY", "http://a:1"), ("http_proxy", "b:2/")];
        assert_eq!(way("https://registry.test/v2/", &both), Ok(proxy("a", 1, None)));
        assert_eq!(way("http://registry.test/", &both), Ok(proxy("b", 2, None)));
        assert_eq!(
            way("https://registry.test/", &[("HTTPS_PROXY", ""), ("https_proxy", "c")]),
            Ok(proxy("c", 80, None))
        );
        assert_eq!(way("https://registry.test/", &[]), Ok(None));
        for here in ["https://localhost:5000/", "https://127.0.0.9/", "https://[::1]:5000/"] {
            assert_eq!(way(here, &both), Ok(None), "{here}");
        }
    }

    #[test]
    fn a_name_and_password_become_a_header_and_are_shown_nowhere() {
        let found = way("https://r.test/", &[("HTTPS_PROXY", "http://user:p%40ss@proxy.test:3128")]);
        // user:p@ss
        assert_eq!(found, Ok(proxy("proxy.test", 3128, Some("Basic dXNlcjpwQHNz"))));
        for wrong in
            ["socks5://user:secret@host", "https://user:secret@host", "http://user:secret@ho st", "http://"]
        {
            let error = way("https://r.test/", &[("HTTPS_PROXY", wrong)]).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn exceptions_name_domains_addresses_and_ranges() {
        let direct = |url: &str, exceptions: &str| {
            way(url, &[("HTTPS_PROXY", "p:1"), ("NO_PROXY", exceptions)]).unwrap().is_none()
        };
        for (exceptions, url) in [
            ("*", "https://any.test/"),
            ("other.test, registry.test", "https://registry.test/"),
            ("test", "https://registry.test/"),
            (".registry.test", "https://a.registry.test/"),
            ("Registry.Test:8443", "https://registry.test:8443/"),
            ("10.1.2.3", "https://10.1.2.3/"),
            ("10.0.0.0/8", "https://10.1.2.3:5000/"),
            ("0.0.0.0/0", "https://10.1.2.3/"),
            ("fd00::/8", "https://[fd00::1]/"),
            ("[fd00::1]:443", "https://[fd00::1]/"),
        ] {
            assert!(direct(url, exceptions), "{exceptions} {url}");
        }
        for (exceptions, url) in [
            ("", "https://registry.test/"),
            (".registry.test", "https://registry.test/"),
            ("registry.test", "https://evilregistry.test/"),
            ("registry.test:8443", "https://registry.test/"),
            ("registry.test:x", "https://registry.test/"),
            ("10.0.0.0/33", "https://10.1.2.3/"),
            ("11.0.0.0/8", "https://10.1.2.3/"),
            ("fd00::/8", "https://10.1.2.3/"),
        ] {
            assert!(!direct(url, exceptions), "{exceptions} {url}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_variables_hold_nothing_breaks(value in "\\PC{0,40}", exceptions in "\\PC{0,40}") {
            let _ = way("https://registry.test/", &[("HTTPS_PROXY", &value), ("NO_PROXY", &exceptions)]);
        }
    }
}
