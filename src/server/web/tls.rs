//! `tls_server_config`, with rustls: TLS 1.2 and 1.3, and client certificates that are verified or not asked for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};

use super::file::Files;
use super::sans::AllowedSans;
use super::yaml::Section;

const KEYS: [&str; 13] = [
    "cert",
    "key",
    "client_ca",
    "cert_file",
    "key_file",
    "client_auth_type",
    "client_ca_file",
    "client_allowed_sans",
    "min_version",
    "max_version",
    "cipher_suites",
    "prefer_server_cipher_suites",
    "curve_preferences",
];

/// Which certificate a client must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ClientAuth {
    /// None is asked for.
    None,
    /// One that is shown must be right.
    IfGiven,
    /// One must be shown.
    Required,
}

/// A certificate, key or authority: where it is, or itself.
enum Pem {
    File(PathBuf),
    Inline(Vec<u8>),
}

impl fmt::Debug for Pem {
    /// Without what is inline: it may be a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Inline(_) => f.write_str("Inline"),
        }
    }
}

/// The section of the file, checked as far as that goes without other files.
#[derive(Debug)]
pub(super) struct TlsSettings {
    certificate: (String, Pem),
    key: (String, Pem),
    client_auth: ClientAuth,
    client_ca: Option<(String, Pem)>,
    allowed_sans: Option<AllowedSans>,
    versions: Vec<&'static SupportedProtocolVersion>,
    provider: Arc<CryptoProvider>,
    prefer_server: bool,
}

impl TlsSettings {
    /// Reads the section; one without certificate, key and client certificates means plain HTTP, as in the toolkit.
    pub(super) fn parse(section: &Section<'_>) -> Result<Option<Self>, String> {
        section.only(&KEYS)?;
        let certificate = pem(section, "cert", "cert_file")?;
        let key = pem(section, "key", "key_file")?;
        let client_ca = pem(section, "client_ca", "client_ca_file")?;
        let policy = section.text("client_auth_type")?;
        let versions = versions(section)?;
        let provider = Arc::new(provider(section)?);
        let prefer_server = section.flag("prefer_server_cipher_suites")?.unwrap_or(true);
        let sans = section.texts("client_allowed_sans")?;
        if certificate.is_none() && key.is_none() && client_ca.is_none() && policy.is_none() {
            if !sans.is_empty() {
                return Err(section.wrong("cert_file", "it is missing, and so is cert"));
            }
            return Ok(None);
        }
        let certificate =
            certificate.ok_or_else(|| section.wrong("cert_file", "it is missing, and so is cert"))?;
        let key = key.ok_or_else(|| section.wrong("key_file", "it is missing, and so is key"))?;
        let client_auth = client_auth(section, policy, client_ca.is_some(), !sans.is_empty())?;
        let allowed_sans = (!sans.is_empty()).then(|| AllowedSans::new(&sans));
        Ok(Some(Self {
            certificate,
            key,
            client_auth,
            client_ca,
            allowed_sans,
            versions,
            provider,
            prefer_server,
        }))
    }

    /// Whether nobody gets in without a certificate.
    pub(super) fn requires_certificate(&self) -> bool {
        self.client_auth == ClientAuth::Required
    }

    /// Loads certificate, key and authorities. Paths are relative to `folder`.
    pub(super) fn load(&self, folder: &Path, files: &mut Files) -> Result<Arc<ServerConfig>, String> {
        let certified = self.certified(folder, files)?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&self.versions)
            .map_err(|error| format!("tls_server_config: {error}"))?;
        let builder = match self.verifier(folder, files)? {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.ignore_client_order = self.prefer_server;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Scrapes are far apart: to resume gains nothing, and would let a certificate in that has expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn certified(&self, folder: &Path, files: &mut Files) -> Result<CertifiedKey, String> {
        let chain = certificates(&self.certificate, folder, files)?;
        let (key_name, key) = &self.key;
        let key = PrivateKeyDer::from_pem_slice(&content(key_name, key, folder, files)?)
            .map_err(|_| format!("{key_name}: there is no private key in it"))?;
        let key = ring::sign::any_supported_type(&key).map_err(|_| {
            format!("{key_name}: it is no RSA, ECDSA (P-256 or P-384) or Ed25519 key that can be used")
        })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
            Err(rustls::Error::InconsistentKeys(_)) => {
                Err(format!("{}: it does not belong to {key_name}", self.certificate.0))
            }
            Err(_) => Err(format!("{}: it is no certificate that can be used", self.certificate.0)),
        }
    }

    fn verifier(
        &self,
        folder: &Path,
        files: &mut Files,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
        let Some(authorities) = self.client_ca.as_ref().filter(|_| self.client_auth != ClientAuth::None)
        else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(authorities, folder, files)? {
            roots.add(certificate).map_err(|_| {
                format!("{}: a certificate in it is no authority that can be used", authorities.0)
            })?;
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider));
        let builder = match self.client_auth {
            ClientAuth::IfGiven => builder.allow_unauthenticated(),
            ClientAuth::Required | ClientAuth::None => builder,
        };
        let verifier = builder.build().map_err(|error| format!("{}: {error}", authorities.0))?;
        Ok(Some(match &self.allowed_sans {
            Some(allowed) => Arc::new(allowed.clone().after(verifier)),
            None => verifier,
        }))
    }
}

/// The content of one of two keys, with the name to complain by.
fn pem(section: &Section<'_>, inline: &str, file: &str) -> Result<Option<(String, Pem)>, String> {
    let name = |key: &str| format!("tls_server_config.{key}");
    match (section.text(inline)?, section.text(file)?) {
        (Some(_), Some(_)) => Err(section.wrong(file, &format!("{inline} is there too"))),
        (Some(text), None) => Ok(Some((name(inline), Pem::Inline(text.as_bytes().to_vec())))),
        (None, Some(path)) => Ok(Some((name(file), Pem::File(PathBuf::from(path))))),
        (None, None) => Ok(None),
    }
}

fn content(name: &str, pem: &Pem, folder: &Path, files: &mut Files) -> Result<Vec<u8>, String> {
    match pem {
        Pem::Inline(text) => Ok(text.clone()),
        Pem::File(path) => {
            let path = folder.join(path);
            files.read(&path).map_err(|problem| format!("{name}: {}: {problem}", path.display()))
        }
    }
}

fn certificates(
    (name, pem): &(String, Pem),
    folder: &Path,
    files: &mut Files,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = content(name, pem, folder, files)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|_| format!("{name}: it is no PEM"))?;
    if found.is_empty() { Err(format!("{name}: there is no certificate in it")) } else { Ok(found) }
}

fn client_auth(
    section: &Section<'_>,
    policy: Option<&str>,
    authorities: bool,
    sans: bool,
) -> Result<ClientAuth, String> {
    let wrong = |key, problem: &str| Err(section.wrong(key, problem));
    let policy = match policy {
        None | Some("NoClientCert") => ClientAuth::None,
        Some("VerifyClientCertIfGiven") => ClientAuth::IfGiven,
        Some("RequireAndVerifyClientCert") => ClientAuth::Required,
        Some(lax @ ("RequestClientCert" | "RequireAnyClientCert" | "RequireClientCert")) => {
            let problem =
                format!("{lax} verifies nothing and is not offered; use RequireAndVerifyClientCert");
            return wrong("client_auth_type", &problem);
        }
        Some(other) => {
            let problem = format!(
                "'{other}' is none of NoClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert"
            );
            return wrong("client_auth_type", &problem);
        }
    };
    match policy {
        ClientAuth::None if authorities => {
            wrong("client_auth_type", "it is missing, and without it client_ca_file does nothing")
        }
        ClientAuth::IfGiven | ClientAuth::Required if !authorities => {
            wrong("client_ca_file", "it is missing, and so is client_ca")
        }
        ClientAuth::None | ClientAuth::IfGiven if sans => {
            wrong("client_allowed_sans", "it needs client_auth_type: RequireAndVerifyClientCert")
        }
        policy => Ok(policy),
    }
}

/// The versions from the least to the most that is allowed.
fn versions(section: &Section<'_>) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    const VERSIONS: [(&str, &SupportedProtocolVersion); 2] =
        [("TLS12", &rustls::version::TLS12), ("TLS13", &rustls::version::TLS13)];
    let place = |key: &str, default: usize| {
        let Some(name) = section.text(key)? else { return Ok(default) };
        let found = VERSIONS.iter().position(|(version, _)| *version == name);
        found
            .ok_or_else(|| section.wrong(key, &format!("'{name}' is not offered: there are TLS12 and TLS13")))
    };
    let (least, most) = (place("min_version", 0)?, place("max_version", 1)?);
    match VERSIONS.get(least..=most) {
        Some(versions) if !versions.is_empty() => Ok(versions.iter().map(|(_, version)| *version).collect()),
        _ => Err(section.wrong("max_version", "it is below min_version")),
    }
}

/// The cryptography, with the cipher suites of TLS 1.2 and the curves that are named, in their order. The suites of
/// TLS 1.3 are always all there, as in Go.
fn provider(section: &Section<'_>) -> Result<CryptoProvider, String> {
    use ring::cipher_suite as suite;
    const SUITES: [(&str, SupportedCipherSuite); 11] = [
        ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
        ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
        ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        (
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
        ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ];
    const CURVES: [(&str, &dyn SupportedKxGroup); 3] = [
        ("X25519", ring::kx_group::X25519),
        ("CurveP256", ring::kx_group::SECP256R1),
        ("CurveP384", ring::kx_group::SECP384R1),
    ];
    let mut provider = ring::default_provider();
    let suites = named(section, "cipher_suites", &SUITES)?;
    if !suites.is_empty() {
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        provider.cipher_suites.extend(suites.into_iter().filter(|suite| suite.tls13().is_none()));
    }
    let curves = named(section, "curve_preferences", &CURVES)?;
    if !curves.is_empty() {
        provider.kx_groups = curves;
    }
    Ok(provider)
}

fn named<T: Copy>(section: &Section<'_>, key: &str, known: &[(&str, T)]) -> Result<Vec<T>, String> {
    let find = |name: &str| {
        let found = known.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let known: Vec<_> = known.iter().map(|(name, _)| *name).collect();
            section.wrong(key, &format!("'{name}' is not offered: there are {}", known.join(", ")))
        })
    };
    section.texts(key)?.into_iter().map(find).collect()
}
