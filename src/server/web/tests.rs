//! The web configuration: what is honoured, what is refused in which words, and what a change does.

use std::fs;

use super::*;
use crate::log::{LogFormat, LogLevel};

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("exitcode-web-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes a new certificate and its key for this name.
    fn certificate(&self, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        self.write("tls.crt", &made.cert.pem());
        self.write("tls.key", &made.signing_key.serialize_pem());
    }

    fn open(&self, text: &str) -> Result<WebFile, String> {
        let path = self.write("web.yml", text);
        let shown = format!("web configuration {}: ", path.display());
        WebFile::open(&path, false).map_err(|error| {
            let line = error.to_string();
            assert!(!line.contains('\n') && !line.contains("SECRET"), "{line}");
            line.strip_prefix(&shown).unwrap().replace(&self.0.display().to_string(), "FOLDER")
        })
    }

    fn refused(&self, text: &str) -> String {
        self.open(text).err().unwrap_or_else(|| panic!("{text} is not refused"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const HASH: &str = "$2y$04$zVHmKQtGGQob.b/Nc7l9NO8UlrYcW05FiuCj/SxsFO/ZtiN9.mNzy";
const PAIR: &str = "cert_file: tls.crt, key_file: tls.key";

#[test]
fn what_is_wrong_is_one_line_that_names_the_key() {
    let folder = Folder::new("wrong");
    folder.certificate("a.example");
    folder.write("empty.pem", "");
    folder.write("other.key", &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let tls = |more: &str| format!("tls_server_config: {{{PAIR}, {more}}}");
    let mut different = Vec::new();
    for (text, expected) in [
        ("- a", "it holds no keys"),
        ("a: [", "line 1, column 4: it is no valid YAML"),
        ("basic_auth_users: {a: SECRET}\nbasic_auth_users: {}", "line 2, column 1: a key is there twice"),
        ("\u{0}", "line 1, column 1: it is no valid YAML"),
        (
            "tls_config: {}",
            "tls_config is no key: there are tls_server_config, http_server_config, basic_auth_users, rate_limit",
        ),
        (
            "auth_excluded_paths: [/metrics]",
            "auth_excluded_paths is no key: there are tls_server_config, http_server_config, basic_auth_users, rate_limit",
        ),
        ("tls_server_config: SECRET", "tls_server_config: it holds no keys"),
        (
            "tls_server_config: {key_file: tls.key}",
            "tls_server_config.cert_file: it is missing, and so is cert",
        ),
        (
            "tls_server_config: {cert_file: tls.crt}",
            "tls_server_config.key_file: it is missing, and so is key",
        ),
        (
            "tls_server_config: {cert_file: no.crt, key_file: tls.key}",
            "tls_server_config.cert_file: FOLDER/no.crt: it can't be read: No such file or directory (os error 2)",
        ),
        (
            "tls_server_config: {cert_file: ., key_file: tls.key}",
            "tls_server_config.cert_file: FOLDER/.: it is no file",
        ),
        (
            "tls_server_config: {cert_file: empty.pem, key_file: tls.key}",
            "tls_server_config.cert_file: there is no certificate in it",
        ),
        (
            "tls_server_config: {cert_file: tls.crt, key_file: tls.crt}",
            "tls_server_config.key_file: there is no private key in it",
        ),
        (
            "tls_server_config: {cert_file: tls.crt, key_file: other.key}",
            "tls_server_config.cert_file: it does not belong to tls_server_config.key_file",
        ),
        (
            "tls_server_config: {cert: SECRET, key: SECRET}",
            "tls_server_config.cert: there is no certificate in it",
        ),
        (&*tls("key: SECRET"), "tls_server_config.key_file: key is there too"),
        (&*tls("client_auth_type: 1"), "tls_server_config.client_auth_type: it is no text"),
        (
            &*tls("client_auth_type: Always"),
            "tls_server_config.client_auth_type: 'Always' is none of NoClientCert, VerifyClientCertIfGiven, \
             RequireAndVerifyClientCert",
        ),
        (
            &*tls("client_auth_type: RequireAnyClientCert"),
            "tls_server_config.client_auth_type: RequireAnyClientCert verifies nothing and is not offered; use \
             RequireAndVerifyClientCert",
        ),
        (
            &*tls("client_auth_type: RequireAndVerifyClientCert"),
            "tls_server_config.client_ca_file: it is missing, and so is client_ca",
        ),
        (
            &*tls("client_ca_file: tls.crt"),
            "tls_server_config.client_auth_type: it is missing, and without it client_ca_file does nothing",
        ),
        (
            &*tls(
                "client_auth_type: VerifyClientCertIfGiven, client_ca_file: tls.crt, client_allowed_sans: [a]",
            ),
            "tls_server_config.client_allowed_sans: it needs client_auth_type: RequireAndVerifyClientCert",
        ),
        (
            &*tls("min_version: TLS10"),
            "tls_server_config.min_version: 'TLS10' is not offered: there are TLS12 and TLS13",
        ),
        (
            &*tls("min_version: TLS13, max_version: TLS12"),
            "tls_server_config.max_version: it is below min_version",
        ),
        (
            &*tls("curve_preferences: [CurveP521]"),
            "tls_server_config.curve_preferences: 'CurveP521' is not offered: there are X25519, CurveP256, CurveP384",
        ),
        (&*tls("cipher_suites: TLS_RSA"), "tls_server_config.cipher_suites: it is no list"),
        (
            &*tls("prefer_server_cipher_suites: 1"),
            "tls_server_config.prefer_server_cipher_suites: it is neither true nor false",
        ),
        ("http_server_config: {http2: maybe}", "http_server_config.http2: it is neither true nor false"),
        (
            "http_server_config: {headers: {X-Frame-Options: always}}",
            "http_server_config.headers.X-Frame-Options: 'always' is not deny or sameorigin",
        ),
        (
            "http_server_config: {headers: {X-Extra: a}}",
            "http_server_config.headers.X-Extra is no key: there are Content-Security-Policy, \
             Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, X-XSS-Protection",
        ),
        (
            "http_server_config: {headers: {Content-Security-Policy: \"a\\nb\"}}",
            "http_server_config.headers.Content-Security-Policy: it can't be sent in a header",
        ),
        (
            "basic_auth_users: {alice: SECRET}",
            "basic_auth_users.alice: it is no bcrypt hash, like what `htpasswd -nBC 10 USER` prints after the colon",
        ),
        (
            "basic_auth_users: {alice: $2y$31$zVHmKQtGGQob.b/Nc7l9NO8UlrYcW05FiuCj/SxsFO/ZtiN9.mNzy}",
            "basic_auth_users.alice: a cost of 31 takes too long; at most 16, and 10 is usual",
        ),
        (
            "rate_limit: {interval: 1s}",
            "rate_limit.burst: it must be at least 1, or nothing would ever be answered",
        ),
        ("rate_limit: {interval: 5, burst: 1}", "rate_limit.interval: it is not a duration like 1s"),
        ("rate_limit: {burst: -1}", "rate_limit.burst: it is no whole number"),
        (
            "\"\\x1b\\u202e\": 1",
            "\\u{1b}\\u{202e} is no key: there are tls_server_config, http_server_config, basic_auth_users, rate_limit",
        ),
    ] {
        let refused = folder.refused(text);
        if refused != expected {
            different.push(format!("{text}\n  is    {refused}\n  and not {expected}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    let missing = WebFile::open(Path::new("/no/web.yml"), false).unwrap_err();
    let expected = "web configuration /no/web.yml: it can't be read: No such file or directory (os error 2)";
    assert_eq!(missing.to_string(), expected);
    let users = folder.write("users.yml", &format!("basic_auth_users: {{a: {HASH}}}"));
    let error = WebFile::open(&users, true).unwrap_err();
    assert_eq!(error.problem, "basic_auth_users can't be used together with --auth kubernetes");
}

#[test]
fn no_key_and_no_hash_can_be_printed() {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let text = format!(
        "tls_server_config: {{cert: SECRET, key: {}}}\nbasic_auth_users: {{alice: {HASH}}}",
        serde_json::to_string(&key).unwrap()
    );
    let values = yaml::parse(&text).unwrap();
    let top = yaml::Section::top(&values);
    let section = top.section("tls_server_config", "tls_server_config.").unwrap().unwrap();
    let settings = Settings::parse(&text).unwrap();
    let tls = settings.tls.unwrap();
    for printed in [
        format!("{tls:?}"),
        format!("{tls:#?}"),
        format!("{section:?} {top:?}"),
        format!("{:?}", settings.users),
    ] {
        let secrets = key.lines().chain(["SECRET", HASH, "83, 69, 67, 82, 69, 84"]);
        assert!(secrets.clone().all(|secret| !printed.contains(secret)), "{printed}");
        assert!(!printed.contains("83,\n"), "{printed}");
    }
    assert!(format!("{tls:?}").contains("(\"tls_server_config.key\", Inline)"), "{tls:?}");
}

#[test]
fn a_cipher_suite_that_is_not_offered_is_named_with_those_that_are() {
    let folder = Folder::new("suites");
    folder.certificate("a.example");
    let suite = "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA";
    let refused = folder.refused(&format!("tls_server_config: {{{PAIR}, cipher_suites: [{suite}]}}"));
    let start = format!(
        "tls_server_config.cipher_suites: '{suite}' is not offered: there are TLS_AES_128_GCM_SHA256, "
    );
    assert!(refused.starts_with(&start), "{refused}");
}

#[test]
fn a_whole_file_is_honoured() {
    let folder = Folder::new("whole");
    folder.certificate("a.example");
    let text = format!(
        "tls_server_config:
  cert_file: tls.crt
  key_file: tls.key
  client_ca_file: tls.crt
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [prometheus.example, 10.0.0.1]
  min_version: TLS12
  max_version: TLS12
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: no
  curve_preferences: [CurveP384, X25519]
http_server_config:
  http2: false
  headers:
    Strict-Transport-Security: max-age=31536000
    X-XSS-Protection: ''
basic_auth_users:
  alice: {HASH}
  123: {HASH}
rate_limit: {{interval: 1s, burst: 20}}
"
    );
    let web = folder.open(&text).unwrap().known();
    let tls = web.tls.as_ref().unwrap();
    let suites: Vec<_> = tls.crypto_provider().cipher_suites.iter().map(|suite| suite.suite()).collect();
    let groups: Vec<_> = tls.crypto_provider().kx_groups.iter().map(|group| group.name()).collect();
    use rustls::{CipherSuite as S, NamedGroup as G};
    assert_eq!(
        suites,
        [
            S::TLS13_AES_256_GCM_SHA384,
            S::TLS13_AES_128_GCM_SHA256,
            S::TLS13_CHACHA20_POLY1305_SHA256,
            S::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ]
    );
    assert_eq!(groups, [G::secp384r1, G::X25519]);
    assert!(!tls.ignore_client_order && web.client_certificates && web.authenticates());
    assert_eq!(web.users.keys().collect::<Vec<_>>(), ["123", "alice"]);
    let headers: Vec<_> =
        web.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(headers, [("strict-transport-security", "max-age=31536000")]);
    assert_eq!(web.rate_limit, Some(RateLimit { interval: Duration::from_secs(1), burst: 20 }));
}

#[test]
fn what_says_nothing_changes_nothing() {
    let folder = Folder::new("nothing");
    for text in [
        "",
        "# only a comment\n",
        "tls_server_config:\n",
        "tls_server_config: {cert_file: '', key_file: ''}",
        "{tls_server_config: {min_version: TLS13}, http_server_config: {http2: true}, basic_auth_users: {}}",
        "rate_limit: {interval: 0, burst: 5}",
        "rate_limit: {interval: 0s}",
    ] {
        let web = folder.open(text).unwrap().known();
        assert!(web.tls.is_none() && web.users.is_empty() && web.headers.is_empty(), "{text}");
        assert!(web.rate_limit.is_none() && !web.authenticates(), "{text}");
    }
}

/// What is logged meanwhile, without the time and the folder.
fn logged(folder: &Folder, run: impl FnOnce()) -> Vec<String> {
    let folder = folder.0.display().to_string();
    let lines = crate::log::tests::lines(LogFormat::Text, LogLevel::Info, run);
    lines.iter().map(|line| line.replace(&folder, "FOLDER")).collect()
}

#[test]
fn a_change_is_taken_over_and_a_broken_one_is_told_once_and_left() {
    let folder = Folder::new("change");
    folder.certificate("a.example");
    let file = folder.open(&format!("tls_server_config: {{{PAIR}}}")).unwrap();
    let first = file.known();
    assert_eq!(logged(&folder, || file.look()), Vec::<String>::new());
    assert!(Arc::ptr_eq(&first, &file.known()), "nothing changed");

    // First the certificate, then its key: what is between them can't be used.
    let next = rcgen::generate_simple_self_signed(["b.example".to_owned()]).unwrap();
    folder.write("tls.crt", &next.cert.pem());
    let lines = logged(&folder, || {
        file.look();
        file.look();
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("the web configuration can't be used: the last one stays in use"), "{lines:?}");
    assert!(lines[0].contains("does not belong to tls_server_config.key_file"), "{lines:?}");
    assert!(Arc::ptr_eq(&first, &file.known()));

    folder.write("tls.key", &next.signing_key.serialize_pem());
    let lines = logged(&folder, || file.look());
    assert!(lines[0].contains("the web configuration has changed and is in use"), "{lines:?}");
    assert!(!Arc::ptr_eq(&first, &file.known()));

    fs::remove_file(folder.0.join("tls.key")).unwrap();
    let lines = logged(&folder, || file.look());
    assert!(lines[0].contains("tls.key: it can't be read: No such file"), "{lines:?}");
    assert!(file.known().tls.is_some());
}

#[test]
fn a_change_does_not_open_what_was_closed() {
    let folder = Folder::new("close");
    folder.certificate("a.example");
    let tls = format!("tls_server_config: {{{PAIR}}}\n");
    let users = format!("basic_auth_users: {{alice: {HASH}}}\n");
    let (both, more) =
        (tls.clone() + &users, format!("{tls}basic_auth_users: {{alice: {HASH}, bob: {HASH}}}\n"));
    let file = folder.open(&both).unwrap();
    for (text, problem) in [
        ("", "tls_server_config can't be added or removed without a restart"),
        (&*users, "tls_server_config can't be added or removed without a restart"),
        (&*tls, "users or client certificates can't be given up without a restart"),
        ("a: [", "it is no valid YAML"),
    ] {
        folder.write("web.yml", text);
        let lines = logged(&folder, || file.look());
        assert!(lines.len() == 1 && lines[0].contains(problem), "{lines:?}");
        assert!(file.known().tls.is_some() && file.known().users.len() == 1);
        folder.write("web.yml", &both);
        file.look();
    }
    folder.write("web.yml", &more);
    file.look();
    assert_eq!(file.known().users.len(), 2);
}

#[test]
fn no_name_of_a_certificate_is_missed_and_no_bytes_are_too_strange() {
    let parameters = || {
        let mut parameters =
            rcgen::CertificateParams::new(["dns.example".to_owned(), "*.w.example".to_owned()]).unwrap();
        parameters.subject_alt_names.extend([
            rcgen::SanType::IpAddress("10.0.0.1".parse().unwrap()),
            rcgen::SanType::IpAddress("2001:db8::1".parse().unwrap()),
            rcgen::SanType::Rfc822Name("mail@example.org".try_into().unwrap()),
            rcgen::SanType::URI("spiffe://example.org/prometheus".try_into().unwrap()),
        ]);
        parameters
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = parameters().self_signed(&key).unwrap();
    for (allowed, admitted) in [
        ("dns.example", true),
        ("*.w.example", true),
        ("10.0.0.1", true),
        ("2001:0db8:0::1", true),
        ("mail@example.org", true),
        ("spiffe://example.org/prometheus", true),
        ("a.w.example", false),
        ("DNS.example", false),
        ("example", false),
        ("", false),
        ("10.0.0.2", false),
    ] {
        assert_eq!(sans::AllowedSans::new(&[allowed]).admit(certificate.der()), admitted, "{allowed}");
    }
    let mut der = certificate.der().to_vec();
    for end in 0..der.len() {
        sans::AllowedSans::new(&["x"]).admit(&der[..end]);
        for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
            let was = std::mem::replace(&mut der[end], byte);
            sans::AllowedSans::new(&["x"]).admit(&der);
            der[end] = was;
        }
    }
}
