//! A screen on an address of the host: whether the address is free, and the certificate of an encrypted one.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use model::{DisplayProtocol, LaunchError, MachineOptions};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose,
    PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use uuid::Uuid;

/// The files in the directory of a screen, as SPICE looks for them (reds_init_ssl in spice-server's reds.cpp).
const KEY: &str = "server-key.pem";
const AUTHORITY: &str = "ca-cert.pem";
const CERTIFICATE: &str = "server-cert.pem";

/// The longest certificate that is read.
const LONGEST: u64 = 16 << 10;

/// Whether the connections to the screen's address are encrypted.
pub fn is_encrypted(options: &MachineOptions) -> bool {
    let is_spice = |display: &model::Display| display.protocol == DisplayProtocol::Spice;
    options.screen().is_some() && options.display.as_ref().is_some_and(is_spice)
}

/// Checks that a screen can listen on this address now.
pub fn expect_free(address: SocketAddr) -> Result<(), LaunchError> {
    let reason = match TcpListener::bind(address) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            "another program listens on it".into()
        }
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            return Err(LaunchError::Address { address: address.ip() });
        }
        Err(error) => error.to_string(),
    };
    Err(LaunchError::Port { port: format!("{address}/tcp"), reason })
}

/// Whether the files of a screen are complete.
pub fn has_certificate(dir: &Path) -> bool {
    dir.join(CERTIFICATE).exists()
}

/// The certificate in the directory of a screen; `None` if there is none.
pub fn certificate(dir: &Path) -> Result<Option<String>, LaunchError> {
    let path = dir.join(CERTIFICATE);
    match own_files::OwnFile::at(&path).or_of_anyone().read(LONGEST) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LaunchError::File {
            action: "read".into(),
            path: path.display().to_string(),
            reason: error.to_string(),
        }),
    }
}

/// New files for the screen of a machine with this name, each with its text; the certificate is the last one. It is signed by
/// its own key, so it is its own authority.
pub fn files(name: &str) -> io::Result<[(&'static str, String); 3]> {
    let key = Key::new();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(Uuid::new_v4().as_bytes()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key).map_err(io::Error::other)?.pem();
    let private = key.private.to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other)?;
    Ok([(KEY, private.to_string()), (AUTHORITY, certificate.clone()), (CERTIFICATE, certificate)])
}

/// A key that signs a certificate.
struct Key {
    private: SigningKey,
    /// The public half, as an uncompressed point (SEC 1).
    public: Vec<u8>,
}

impl Key {
    fn new() -> Self {
        let private = SigningKey::random(&mut p256::elliptic_curve::rand_core::OsRng);
        let public = private.verifying_key().to_encoded_point(false).as_bytes().to_vec();
        Self { private, public }
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature: DerSignature =
            self.private.try_sign(message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_and_an_address_of_another_host_are_refused() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = expect_free(address).unwrap_err().to_string();
        assert!(error.contains("another program listens on it"), "{error}");
        drop(taken);
        expect_free(address).unwrap();
        let error = expect_free("192.0.2.1:5900".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("this host does not have the address"), "{error}");
    }

    #[test]
    fn a_certificate_has_the_machines_name_and_a_key_of_its_own() {
        let [key, authority, certificate] = files("dev").unwrap();
        assert!(key.1.starts_with("-----BEGIN PRIVATE KEY-----"));
        assert!(
            authority.1 == certificate.1 && certificate.1.starts_with("-----BEGIN CERTIFICATE")
        );
        assert_ne!(files("dev").unwrap()[0].1, key.1);
        assert_eq!(certificate.0, CERTIFICATE, "the last one");
    }
}
