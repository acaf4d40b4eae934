//! `client_allowed_sans`: who may come in, by a name in the certificate.
//!
//! The certificate is verified before it is looked at. What is read here is its subjectAltName (RFC 5280, 4.2.1.6).

use std::net::IpAddr;
use std::sync::Arc;

use tokio_rustls::rustls;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// The names, one of which a client's certificate must hold exactly.
#[derive(Clone, Debug)]
pub(super) struct AllowedSans(Arc<[String]>);

impl AllowedSans {
    pub(super) fn new(names: &[&str]) -> Self {
        Self(names.iter().map(|name| (*name).to_owned()).collect())
    }

    /// A verifier that asks `verifier` first.
    pub(super) fn after(self, verifier: Arc<dyn ClientCertVerifier>) -> SanVerifier {
        SanVerifier { allowed: self, verifier }
    }

    pub(super) fn admit(&self, certificate: &[u8]) -> bool {
        names(certificate).unwrap_or_default().iter().any(|name| match name {
            Name::Text(text) => self.0.iter().any(|allowed| allowed.as_bytes() == *text),
            Name::Address(address) => self.0.iter().any(|allowed| allowed.parse() == Ok(*address)),
        })
    }
}

/// Verifies a certificate, and then its names.
#[derive(Debug)]
pub(super) struct SanVerifier {
    allowed: AllowedSans,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for SanVerifier {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(end_entity, intermediates, now)?;
        if self.allowed.admit(end_entity) {
            Ok(verified)
        } else {
            Err(Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// A name of a certificate.
#[derive(Debug, PartialEq, Eq)]
enum Name<'a> {
    /// A mail address, a DNS name or a URI.
    Text(&'a [u8]),
    Address(IpAddr),
}

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
/// `[3]` of TBSCertificate: the extensions.
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.17.
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];
/// `[1]`, `[2]`, `[6]` and `[7]` of GeneralName.
const MAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const IP: u8 = 0x87;

/// The names in subjectAltName; `None` if there are none or it is no certificate.
fn names(certificate: &[u8]) -> Option<Vec<Name<'_>>> {
    let to_be_signed = value(value(certificate, SEQUENCE)?, SEQUENCE)?;
    let extensions = elements(to_be_signed).find(|(tag, _)| *tag == EXTENSIONS)?.1;
    let names = elements(value(extensions, SEQUENCE)?).find_map(|(_, extension)| {
        let mut parts = elements(extension).filter(|(tag, _)| *tag != BOOLEAN);
        (parts.next()? == (OID, &SUBJECT_ALT_NAME)).then(|| parts.next())?
    })?;
    let (OCTETS, names) = names else { return None };
    Some(elements(value(names, SEQUENCE)?).filter_map(name).collect())
}

fn name((tag, value): (u8, &[u8])) -> Option<Name<'_>> {
    match tag {
        MAIL | DNS | URI => Some(Name::Text(value)),
        IP => match value.len() {
            4 => <[u8; 4]>::try_from(value).ok().map(|octets| Name::Address(octets.into())),
            _ => <[u8; 16]>::try_from(value).ok().map(|octets| Name::Address(octets.into())),
        },
        _ => None,
    }
}

/// What the first element holds, if it has this tag.
fn value(der: &[u8], tag: u8) -> Option<&[u8]> {
    element(der).filter(|(found, _, _)| *found == tag).map(|(_, value, _)| value)
}

fn elements(mut der: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, value, rest) = element(der)?;
        der = rest;
        Some((tag, value))
    })
}

/// The first element of DER (X.690): its tag, what it holds, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match usize::from(first) {
        short @ 0..=0x7f => (short, rest),
        long => {
            let (digits, rest) = rest.split_at_checked(long & 0x7f)?;
            // Four digits are more than any certificate has.
            let length = (1..=4)
                .contains(&digits.len())
                .then(|| digits.iter().fold(0_usize, |length, digit| (length << 8) | usize::from(*digit)))?;
            (length, rest)
        }
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((tag, value, rest))
}
