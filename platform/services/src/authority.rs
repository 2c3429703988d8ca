//! The local authority: a root made at first start, kept in the data folder, and certificates for AWS's names on demand.
//!
//! Its root is put into a bundle for sandboxes beside the host's own roots, and never anywhere on the host. It may sign for
//! AWS's domains alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use model::aws_name::{DOMAINS, is_aws};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SerialNumber, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates kept; when there are more, all are made anew as they are asked for.
const CERTIFICATES_MAX: usize = 1_024;
/// Largest bundle of the host's that is taken over.
const BUNDLE_BYTES_MAX: u64 = 16 << 20;
/// Where distributions keep their roots, as one file.
const HOST_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const KEY_FILE: &str = "authority-key.pem";
const ROOT_FILE: &str = "authority.pem";
const BUNDLE_FILE: &str = "bundle.pem";

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of it.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// A key or certificate cannot be made or read.
    #[error("cannot make certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS cannot be set up.
    #[error("cannot set TLS up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Signs for AWS's names.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificates: Mutex<BTreeMap<String, Arc<CertifiedKey>>>,
    folder: PathBuf,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the authority of a folder, or makes one there, and writes the bundle for sandboxes.
    ///
    /// # Errors
    /// When the folder cannot be read or written, or its key is none.
    pub fn open(folder: &Path) -> Result<Self, AuthorityError> {
        let file = |path: &Path| {
            let path = path.to_owned();
            move |error| AuthorityError::File { path, error }
        };
        fs::create_dir_all(folder).map_err(file(folder))?;
        let (key_path, root_path) = (folder.join(KEY_FILE), folder.join(ROOT_FILE));
        let parameters = root()?;
        // The root is written last: without it, what is there is half made.
        let (key, root) = match (absent(fs::read_to_string(&key_path)), absent(fs::read(&root_path))) {
            (Err(error), _) => return Err(file(&key_path)(error)),
            (_, Err(error)) => return Err(file(&root_path)(error)),
            (Ok(Some(text)), Ok(Some(root))) => {
                (KeyPair::from_pem(&text)?, Some(root).filter(|root| is_for_all(root)))
            }
            _ => {
                let key = KeyPair::generate()?;
                write(&key_path, key.serialize_pem().as_bytes(), 0o600).map_err(file(&key_path))?;
                (key, None)
            }
        };
        let root = match root {
            Some(root) => root,
            None => {
                let root = parameters.self_signed(&key)?.pem().into_bytes();
                write(&root_path, &root, 0o644).map_err(file(&root_path))?;
                root
            }
        };
        let bundle_path = folder.join(BUNDLE_FILE);
        let mut bundle = host_bundle();
        if !bundle.is_empty() && !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        bundle.extend_from_slice(&root);
        if fs::read(&bundle_path).ok().as_ref() != Some(&bundle) {
            write(&bundle_path, &bundle, 0o644).map_err(file(&bundle_path))?;
        }
        Ok(Self {
            issuer: Issuer::new(parameters, key),
            certificates: Mutex::default(),
            folder: folder.to_owned(),
        })
    }

    /// The roots that sandboxes trust: the host's and ours, PEM.
    pub fn bundle(&self) -> PathBuf {
        self.folder.join(BUNDLE_FILE)
    }

    /// Our root alone, PEM.
    pub fn root(&self) -> PathBuf {
        self.folder.join(ROOT_FILE)
    }

    /// The certificate for a name, made when it is asked for first; `None` for a name that is not one of AWS's.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn certificate(&self, name: &str) -> Result<Option<Arc<CertifiedKey>>, AuthorityError> {
        let name = name.to_ascii_lowercase();
        if !is_aws(&name) && !DOMAINS.contains(&name.as_str()) {
            return Ok(None);
        }
        if let Some(known) = self.lock().get(&name) {
            return Ok(Some(known.clone()));
        }
        let made = Arc::new(self.sign(&name)?);
        let mut certificates = self.lock();
        if certificates.len() >= CERTIFICATES_MAX {
            certificates.clear();
        }
        certificates.insert(name, made.clone());
        Ok(Some(made))
    }

    fn sign(&self, name: &str) -> Result<CertifiedKey, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::new(vec![name.to_owned()])?;
        parameters.distinguished_name = named("Onrush");
        parameters.not_before = date_time_ymd(2024, 1, 1);
        parameters.not_after = date_time_ymd(2049, 12, 30);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        parameters.serial_number = Some(serial_number());
        let certificate: CertificateDer<'static> = parameters.signed_by(&key, &self.issuer)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = ring::sign::any_supported_type(&key)?;
        Ok(CertifiedKey::new(vec![certificate], key))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<CertifiedKey>>> {
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        self.certificate(name)
            .inspect_err(|error| tracing::warn!(name, %error, "no certificate"))
            .ok()
            .flatten()
    }
}

/// How servers of ours speak TLS.
///
/// # Errors
/// None with the versions and suites that are compiled in.
pub fn server_config(authority: Arc<Authority>) -> Result<ServerConfig, AuthorityError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(authority);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// `None` of a file that is not there.
fn absent<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Whether a root, PEM, may sign for every domain: one that an earlier Onrush made may know fewer.
fn is_for_all(root: &[u8]) -> bool {
    // Its constraints are the only place where they stand, as text.
    CertificateDer::from_pem_slice(root).is_ok_and(|root| {
        let stands = |domain: &&str| root.windows(domain.len()).any(|part| part == domain.as_bytes());
        DOMAINS.iter().all(stands)
    })
}

fn root() -> Result<CertificateParams, AuthorityError> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.distinguished_name = named("Onrush local authority, for sandboxes on this machine only");
    parameters.not_before = date_time_ymd(2024, 1, 1);
    parameters.not_after = date_time_ymd(2049, 12, 31);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let permitted_subtrees = DOMAINS.map(|domain| GeneralSubtree::DnsName(domain.to_owned())).to_vec();
    parameters.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    parameters.serial_number = Some(serial_number());
    Ok(parameters)
}

fn named(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// Random: two certificates of one issuer must not have the same.
fn serial_number() -> SerialNumber {
    let mut bytes = [0; 16];
    let _ = getrandom::fill(&mut bytes);
    // Positive, and not zero.
    bytes[0] = bytes[0] & 0x7F | 0x40;
    SerialNumber::from_slice(&bytes)
}

/// The host's own roots; none on a host that has no bundle.
fn host_bundle() -> Vec<u8> {
    let small = |path: &&&str| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= BUNDLE_BYTES_MAX)
    };
    HOST_BUNDLES.iter().find(small).and_then(|path| fs::read(path).ok()).unwrap_or_default()
}

/// Writes a file whole or not at all, with its mode from the start.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    // What a crash left behind may have another mode.
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The name itself is durable only with its folder.
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_made_once_and_signs_for_awss_names_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path()).unwrap();
        let root = fs::read(first.root()).unwrap();
        let mode = fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let bundle = fs::read(first.bundle()).unwrap();
        assert!(bundle.ends_with(&root));
        let again = Authority::open(folder.path()).unwrap();
        assert_eq!(fs::read(again.root()).unwrap(), root);
        let one = again.certificate("SSM.us-east-1.amazonaws.com").unwrap().unwrap();
        assert!(Arc::ptr_eq(&one, &again.certificate("ssm.us-east-1.amazonaws.com").unwrap().unwrap()));
        assert!(again.certificate("sqs.eusc-de-east-1.amazonaws.eu").unwrap().is_some());
        for other in ["www.example.com", "notamazonaws.com", "amazonaws.com.example.com"] {
            assert!(again.certificate(other).unwrap().is_none(), "{other}");
        }
    }

    #[test]
    fn a_root_of_fewer_domains_is_made_anew_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path()).unwrap();
        let key = fs::read(folder.path().join(KEY_FILE)).unwrap();
        let mut parameters = root().unwrap();
        parameters.name_constraints.as_mut().unwrap().permitted_subtrees.truncate(2);
        let old = parameters.self_signed(first.issuer.key()).unwrap().pem();
        fs::write(first.root(), &old).unwrap();
        let again = Authority::open(folder.path()).unwrap();
        let new = fs::read(again.root()).unwrap();
        assert!(new != old.as_bytes() && fs::read(again.bundle()).unwrap().ends_with(&new));
        assert_eq!(fs::read(folder.path().join(KEY_FILE)).unwrap(), key);
    }

    #[test]
    fn what_was_left_half_made_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        Authority::open(folder.path()).unwrap();
        fs::remove_file(folder.path().join(ROOT_FILE)).unwrap();
        Authority::open(folder.path()).unwrap().certificate("sts.amazonaws.com").unwrap().unwrap();
        fs::write(folder.path().join(KEY_FILE), "no key").unwrap();
        assert!(Authority::open(folder.path()).is_err());
    }

    #[test]
    fn a_root_that_cannot_be_read_costs_no_key() {
        let folder = tempfile::tempdir().unwrap();
        Authority::open(folder.path()).unwrap();
        let (key, root) = (folder.path().join(KEY_FILE), folder.path().join(ROOT_FILE));
        let before = fs::read(&key).unwrap();
        fs::remove_file(&root).unwrap();
        fs::create_dir(&root).unwrap();
        let Err(AuthorityError::File { path, .. }) = Authority::open(folder.path()) else {
            panic!("it is told")
        };
        assert_eq!((path, fs::read(key).unwrap()), (root, before));
    }
}
