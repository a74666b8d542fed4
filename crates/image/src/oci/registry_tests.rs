//! Pulls from a registry of the test's own: with tokens, cuts, stalls, lies.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::{Code, Refusal};

use super::tests::{Made, config, descriptor, gzip};
use super::*;
use crate::Cancel;
use crate::layers::tests::Tar;

/// What the registry does with one blob or manifest.
#[derive(Clone)]
enum Answer {
    Bytes(&'static str, Vec<u8>),
    /// Says its length, sends this much, and ends the connection. The rest can be asked for.
    Cut(Vec<u8>, usize),
    /// The same, but sends nothing more and stays.
    Stall(Vec<u8>, usize),
    Status(u16, &'static str),
}

#[derive(Default)]
struct Registry {
    answers: Mutex<HashMap<String, Answer>>,
    /// The credentials that the token server wants.
    wants: Option<(&'static str, &'static str)>,
    asked: Mutex<Vec<String>>,
}

impl Registry {
    fn start(self) -> (Arc<Self>, String) {
        let (registry, listener) = (Arc::new(self), TcpListener::bind("127.0.0.1:0").unwrap());
        let host = listener.local_addr().unwrap().to_string();
        let (shared, own) = (registry.clone(), format!("http://{host}"));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (registry, own) = (shared.clone(), own.clone());
                std::thread::spawn(move || registry.serve(stream.unwrap(), &own));
            }
        });
        (registry, host)
    }

    /// The same with TLS.
    fn start_encrypted(self, config: Arc<rustls::ServerConfig>) -> (Arc<Self>, String) {
        let (registry, listener) = (Arc::new(self), TcpListener::bind("127.0.0.1:0").unwrap());
        let host = format!("localhost:{}", listener.local_addr().unwrap().port());
        let (shared, own) = (registry.clone(), format!("https://{host}"));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (registry, own) = (shared.clone(), own.clone());
                let connection = rustls::ServerConnection::new(config.clone()).unwrap();
                let stream = rustls::StreamOwned::new(connection, stream.unwrap());
                std::thread::spawn(move || registry.serve(stream, &own));
            }
        });
        (registry, host)
    }

    fn put(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    fn serve(&self, stream: impl Read + Write, own: &str) -> Option<()> {
        let mut reader = BufReader::new(stream);
        // A client that tries TLS is told at once that there is none.
        if reader.fill_buf().ok()?.first() == Some(&0x16) {
            return None;
        }
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let path = line.split(' ').nth(1)?.to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((key, value)) = line.trim().split_once(": ") else { break };
            headers.insert(key.to_lowercase(), value.to_owned());
        }
        let authorization = headers.get("authorization").cloned().unwrap_or_default();
        let from: usize = headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
            .unwrap_or_default();
        self.asked.lock().unwrap().push(format!("{path} {from}"));
        // A request has no body.
        let mut out = reader.into_inner();
        if path.starts_with("/token") {
            use base64::Engine as _;
            let (name, password) = self.wants?;
            let both =
                base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
            let body = if authorization == format!("Basic {both}") {
                r#"{"token": "secret"}"#
            } else {
                return send(&mut out, 401, "", b"no");
            };
            assert!(path.contains("scope=repository%3Aapp%3Apull"), "{path}");
            return send(&mut out, 200, "Content-Type: application/json\r\n", body.as_bytes());
        }
        if self.wants.is_some() && authorization != "Bearer secret" {
            let challenge =
                format!("WWW-Authenticate: Bearer realm=\"{own}/token\",service=\"me\"\r\n");
            return send(&mut out, 401, &challenge, b"{}");
        }
        let answer = self.answers.lock().unwrap().get(&path).cloned();
        match answer.unwrap_or(Answer::Status(404, "{}")) {
            Answer::Bytes(kind, bytes) => {
                send(&mut out, 200, &format!("Content-Type: {kind}\r\n"), &bytes)
            }
            Answer::Status(status, body) => send(&mut out, status, "", body.as_bytes()),
            Answer::Cut(bytes, count) => part(&mut out, &bytes, from, count),
            Answer::Stall(bytes, count) => {
                part(&mut out, &bytes, from, count);
                std::thread::sleep(Duration::from_secs(20));
                Some(())
            }
        }
    }
}

fn send(out: &mut impl Write, status: u16, headers: &str, body: &[u8]) -> Option<()> {
    let head = format!(
        "HTTP/1.1 {status} x\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    out.write_all(head.as_bytes()).ok()?;
    out.write_all(body).ok()?;
    out.flush().ok()
}

/// Answers with a range, and ends before its end.
fn part(out: &mut impl Write, bytes: &[u8], from: usize, count: usize) -> Option<()> {
    let rest = &bytes[from..];
    let status = if from > 0 { 206 } else { 200 };
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        rest.len()
    );
    out.write_all(head.as_bytes()).ok()?;
    out.write_all(&rest[..count.min(rest.len())]).ok()?;
    out.flush().ok()
}

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// A registry with the image `app:1`; returns its layer's path and bytes.
fn with_image(registry: &Registry) -> (String, Vec<u8>) {
    let layer = Tar::default().file("etc/motd", &"hello".repeat(20_000)).end();
    let config = config(&[digest(&layer)], manifest::architecture());
    let packed = gzip(&layer);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.docker.container.image.v1+json", &config),
        "layers": [descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", &packed)],
    });
    let path = format!("/v2/app/blobs/{}", digest(&packed));
    let blob = "application/octet-stream";
    registry.put("/v2/app/manifests/1", Answer::Bytes(MANIFEST, manifest.to_string().into()));
    registry.put(&format!("/v2/app/blobs/{}", digest(&config)), Answer::Bytes(blob, config));
    registry.put(&path, Answer::Bytes(blob, packed.clone()));
    (path, packed)
}

fn options(host: &str) -> PullOptions {
    PullOptions {
        plain_http: vec![host.to_owned()],
        stalled: Some(Duration::from_secs(1)),
        ..PullOptions::default()
    }
}

fn pull(made: &Made, source: &str, options: &PullOptions) -> Result<Pulled, Refusal> {
    let store = made.store();
    let source = ContainerSource::parse(source)?;
    let (progress, cancel) = (Progress::default(), Cancel::default());
    Ok(store.pull(&source, options, &progress, &|| {}, &cancel)?)
}

#[test]
fn an_image_is_pulled_with_a_token_and_once() {
    let registry = Registry { wants: Some(("me", "pass:word")), ..Registry::default() };
    let (registry, host) = registry.start();
    let (layer, _) = with_image(&registry);
    let made = Made::new();
    let source = format!("{host}/app:1");
    let refused = pull(&made, &source, &options(&host)).unwrap_err();
    assert_eq!(refused.code, Code::RegistryRefused, "{refused}");
    let credentials = Some(("me".to_owned(), "pass:word".to_owned()));
    let options = PullOptions { credentials, ..options(&host) };
    let pulled = pull(&made, &source, &options).unwrap();
    assert_eq!(pulled.config.user, "www:www");
    assert_eq!(pull(&made, &source, &options).unwrap(), pulled);
    let asked = registry.asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|asked| asked.starts_with(&layer)).count(), 1, "{asked:?}");
}

#[test]
fn a_mirror_is_asked_first_and_gets_no_password_of_the_registry() {
    let (real, host) = Registry::default().start();
    let (layer, bytes) = with_image(&real);
    let (mirror, mirror_host) = Registry::default().start();
    let made = Made::new();
    let conf = tempfile::NamedTempFile::new().unwrap();
    // Without `insecure`, a registry of no TLS is none.
    for insecure in [true, false] {
        let text = format!(
            "[[registry]]\nlocation = '{host}'\ninsecure = true\n[[registry.mirror]]\nlocation = '{mirror_host}'\ninsecure = {insecure}\n"
        );
        std::fs::write(conf.path(), text).unwrap();
        let options = PullOptions {
            credentials: Some(("me".to_owned(), "pass:word".to_owned())),
            registries_conf: Some(conf.path().to_owned()),
            ..PullOptions::default()
        };
        let pulled = pull(&made, &format!("{host}/app:1"), &options).unwrap();
        assert_eq!(pulled.config.user, "www:www");
    }
    // A password is not sent without TLS because a file says `insecure`.
    let wants = Some(("me", "pass:word"));
    let (closed, closed_host) = Registry { wants, ..Registry::default() }.start();
    with_image(&closed);
    std::fs::write(
        conf.path(),
        format!("[[registry]]\nlocation = '{closed_host}'\ninsecure = true\n"),
    )
    .unwrap();
    let options = PullOptions {
        credentials: Some(("me".to_owned(), "pass:word".to_owned())),
        registries_conf: Some(conf.path().to_owned()),
        ..PullOptions::default()
    };
    let refused = pull(&Made::new(), &format!("{closed_host}/app:1"), &options).unwrap_err();
    assert_eq!(refused.code, Code::RegistryRefused, "{refused}");
    let asked = mirror.asked.lock().unwrap().join(" ");
    assert!(asked.contains("/v2/app/manifests/1") && !asked.contains("token"), "{asked}");
    // The mirror has the image, but for a layer that is another one.
    with_image(&mirror);
    mirror.put(&layer, Answer::Bytes("application/octet-stream", bytes[1..].to_vec()));
    let text = format!(
        "[[registry]]\nlocation = '{host}'\nblocked = false\n[[registry.mirror]]\nlocation = '{mirror_host}'\ninsecure = true\n"
    );
    std::fs::write(conf.path(), text).unwrap();
    let options = PullOptions {
        registries_conf: Some(conf.path().to_owned()),
        stalled: Some(Duration::from_secs(1)),
        ..PullOptions::default()
    };
    let refused = pull(&Made::new(), &format!("{host}/app:1"), &options).unwrap_err();
    assert!(refused.message.contains("another size"), "{refused}");
    assert!(refused.message.contains("cannot reach the registry"), "{refused}");
    assert_eq!(refused.code, Code::RegistryUnavailable);
}

#[test]
fn a_cut_layer_is_resumed() {
    let (registry, host) = Registry::default().start();
    let (path, bytes) = with_image(&registry);
    let half = bytes.len() / 2;
    registry.put(&path, Answer::Cut(bytes, half));
    pull(&Made::new(), &format!("{host}/app:1"), &options(&host)).unwrap();
    let asked = registry.asked.lock().unwrap();
    assert!(asked.contains(&format!("{path} {half}")), "{asked:?}");
}

#[test]
fn what_a_registry_does_wrong_has_a_code_and_a_sentence() {
    let (registry, host) = Registry::default().start();
    let (path, bytes) = with_image(&registry);
    let made = Made::new();
    let mut wrong = bytes.clone();
    wrong[30] ^= 1;
    let manifest = "/v2/app/manifests/1";
    let good = registry.answers.lock().unwrap()[manifest].clone();
    let blob = "application/octet-stream";
    let html = Answer::Bytes("text/html; charset=utf-8", b"<html>log in</html>".to_vec());
    let unknown = Answer::Status(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#);
    let huge = Answer::Bytes(MANIFEST, vec![b' '; 5 << 20]);
    for (at, answer, code, word) in [
        (manifest, html, Code::RegistryUnavailable, "a web page"),
        (manifest, Answer::Bytes(MANIFEST, b"<html>".to_vec()), Code::InvalidImage, "manifest"),
        (manifest, huge, Code::RegistryUnavailable, "larger than 4 MB"),
        (manifest, unknown, Code::NotFound, "has no image app"),
        (manifest, Answer::Status(404, "{}"), Code::NotFound, "no tag or digest \"1\""),
        (manifest, Answer::Status(403, "{}"), Code::RegistryRefused, "refuses access to app"),
        (manifest, Answer::Status(429, "{}"), Code::RegistryUnavailable, "no more requests"),
        (manifest, Answer::Status(503, "{}"), Code::RegistryUnavailable, "answers 503"),
        (&path, Answer::Bytes(blob, wrong), Code::InvalidImage, "its digest is"),
        (
            &path,
            Answer::Bytes(blob, [bytes.clone(), bytes.clone()].concat()),
            Code::InvalidImage,
            "another size",
        ),
        (
            &path,
            Answer::Stall(bytes.clone(), 10),
            Code::RegistryUnavailable,
            "sent nothing for 1 s",
        ),
    ] {
        let good_blob = Answer::Bytes(blob, bytes.clone());
        registry.put(manifest, good.clone());
        registry.put(&path, good_blob);
        registry.put(at, answer);
        // A stall that never gets further ends, too.
        let refused = pull(&made, &format!("{host}/app:1"), &options(&host)).unwrap_err();
        assert_eq!(refused.code, code, "{refused}");
        assert!(refused.message.contains(word), "{refused}");
        assert!(!refused.remedy.is_empty());
        assert_eq!(made.unfinished(), Vec::<String>::new());
    }
}

#[test]
fn a_digest_in_the_reference_is_verified() {
    let (registry, host) = Registry::default().start();
    with_image(&registry);
    let good = registry.answers.lock().unwrap()["/v2/app/manifests/1"].clone();
    let lie = format!("sha256:{}", "a".repeat(64));
    registry.put(&format!("/v2/app/manifests/{lie}"), good);
    let source = format!("{host}/app@{lie}");
    let refused = pull(&Made::new(), &source, &options(&host)).unwrap_err();
    assert!(refused.message.contains("wrong blob"), "{refused}");
}

#[test]
fn a_host_that_is_no_registry_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    drop(listener);
    let refused = pull(&Made::new(), &format!("{host}/app:1"), &options(&host)).unwrap_err();
    assert_eq!(refused.code, Code::RegistryUnavailable);
    assert!(refused.message.contains(&host), "{refused}");
}

#[test]
fn a_stalled_pull_is_cancelled_at_once() {
    let (registry, host) = Registry::default().start();
    let (path, bytes) = with_image(&registry);
    registry.put(&path, Answer::Stall(bytes, 10));
    let made = Made::new();
    let source = ContainerSource::parse(&format!("{host}/app:1")).unwrap();
    let options = PullOptions { stalled: None, ..options(&host) };
    let (progress, cancel) = (Progress::default(), Cancel::default());
    let store = made.store();
    std::thread::scope(|scope| {
        let pulling = scope.spawn(|| store.pull(&source, &options, &progress, &|| {}, &cancel));
        while progress.read().0 < 10 {
            std::thread::sleep(Duration::from_millis(10));
        }
        cancel.set();
        let error = pulling.join().unwrap().unwrap_err();
        assert!(matches!(error, ImageError::Cancelled), "{error}");
    });
    assert_eq!(made.unfinished(), Vec::<String>::new());
}

/// A key of the test's authority or registry.
struct Key(p256::ecdsa::SigningKey, Vec<u8>);

impl Key {
    fn new() -> Self {
        let private = p256::ecdsa::SigningKey::random(&mut p256::elliptic_curve::rand_core::OsRng);
        let public = private.verifying_key().to_encoded_point(false).as_bytes().to_vec();
        Self(private, public)
    }
}

impl rcgen::PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.1
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        use p256::ecdsa::signature::Signer as _;
        let signature: p256::ecdsa::DerSignature = self.0.sign(message);
        Ok(signature.as_bytes().to_vec())
    }
}

/// An authority's certificate in PEM, and the configuration of a server that it has signed.
fn authority() -> (String, Arc<rustls::ServerConfig>) {
    use p256::pkcs8::EncodePrivateKey as _;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, SerialNumber};
    use rustls::pki_types::PrivateKeyDer;
    let params = |names: &[&str], number: u64| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.serial_number = Some(SerialNumber::from(number));
        params
    };
    let (authority, server) = (Key::new(), Key::new());
    let mut of_authority = params(&[], 1);
    of_authority.distinguished_name.push(rcgen::DnType::CommonName, "the test's authority");
    of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = of_authority.self_signed(&authority).unwrap().pem();
    let issuer = Issuer::new(of_authority, authority);
    let certificate = params(&["localhost"], 2).signed_by(&server, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(server.0.to_pkcs8_der().unwrap().as_bytes().to_vec());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = rustls::ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], key.unwrap()).unwrap();
    (pem, Arc::new(config))
}

/// The variable with the registry of [`a_registry_with_tls_is_believed_if_the_host_does`].
const ENCRYPTED: &str = "HANDOVER_TEST_REGISTRY";

#[test]
fn a_registry_with_tls_is_believed_if_the_host_does() {
    let (pem, config) = authority();
    let wants = Some(("me", "pass:word"));
    let (registry, host) = Registry { wants, ..Registry::default() }.start_encrypted(config);
    with_image(&registry);
    let source = format!("{host}/app:1");
    let refused = pull(&Made::new(), &source, &PullOptions::default()).unwrap_err();
    assert_eq!(refused.code, Code::RegistryUnavailable, "{refused}");
    assert!(refused.message.contains("certificate"), "{refused}");
    assert!(registry.asked.lock().unwrap().is_empty(), "it was told something");
    // Which authorities the host believes is read once in a process, from this variable before its own files.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("authority.pem");
    std::fs::write(&file, pem).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "oci::registry_tests::an_encrypted_pull", "--nocapture"]);
    let output = child.env("SSL_CERT_FILE", file).env(ENCRYPTED, source).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let asked = registry.asked.lock().unwrap();
    assert!(asked.iter().any(|asked| asked.starts_with("/token")), "{asked:?}");
    assert!(asked.iter().any(|asked| asked.starts_with("/v2/app/blobs/")), "{asked:?}");
}

/// In a process of its own: that test starts it.
#[test]
fn an_encrypted_pull() {
    let Ok(source) = std::env::var(ENCRYPTED) else { return };
    let credentials = Some(("me".to_owned(), "pass:word".to_owned()));
    let options = PullOptions { credentials, ..PullOptions::default() };
    let pulled = pull(&Made::new(), &source, &options).unwrap();
    assert_eq!(pulled.config.user, "www:www");
}
