//! Verifies the identity of a server with rustls, as libpq's `sslmode` requires.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// The value of `sslmode`: how a connection is encrypted, and how the server proves its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the server supports it. The server's identity is not verified. `allow` means the same.
    Prefer,
    /// TLS. The server's identity is not verified.
    Require,
    /// TLS with a certificate of a known authority.
    VerifyCa,
    /// TLS with a certificate of a known authority that names this host.
    VerifyFull,
}

impl TlsMode {
    /// The mode that this value of `sslmode` names. The error ends with the next step.
    pub fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => bail!(
                "sslmode is not understood; write verify-full, or verify-ca, require, prefer or disable"
            ),
        })
    }

    /// The mode that tokio-postgres negotiates with the server.
    pub fn negotiation(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }
}

/// The files with certificates and keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities (`sslrootcert`); `None`: those of the system.
    pub roots: Option<PathBuf>,
    /// The client's certificate (`sslcert`).
    pub certificate: Option<PathBuf>,
    /// The key of the client's certificate (`sslkey`).
    pub key: Option<PathBuf>,
}

impl TlsFiles {
    /// Makes a connector for TLS connections of this mode. The files are read each time, because certificates are renewed.
    pub fn connector(&self, mode: TlsMode) -> Result<MakeRustlsConnect> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up; report this")?;
        let builder = match mode {
            TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => {
                let verifier = PartialVerifier { authorities: None, algorithms };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            TlsMode::VerifyCa => {
                let roots = Arc::new(self.roots()?);
                let authorities = WebPkiServerVerifier::builder_with_provider(roots, provider)
                    .build()
                    .context("the authorities in sslrootcert cannot be used; name a PEM file with one")?;
                let verifier = PartialVerifier { authorities: Some(authorities), algorithms };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            TlsMode::VerifyFull => builder.with_root_certificates(self.roots()?),
        };
        let config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let next = "name PEM files that the daemon's user may read";
                let unusable = |file: &Path| format!("cannot use {}; {next}", file.display());
                let key_der = PrivateKeyDer::from_pem_file(key).with_context(|| unusable(key))?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, key_der)
                    .with_context(|| unusable(certificate))?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(MakeRustlsConnect::new(config))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut store = RootCertStore::empty();
        let Some(path) = &self.roots else {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            ensure!(
                !store.is_empty(),
                "this system has no certificate authorities; install them (ca-certificates) or name a file with sslrootcert"
            );
            return Ok(store);
        };
        for certificate in certificates(path)? {
            store.add(certificate).with_context(|| {
                format!("cannot use {}; name a PEM file of an authority with sslrootcert", path.display())
            })?;
        }
        Ok(store)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = || {
        format!(
            "cannot read certificates in {}; name a PEM file that the daemon's user may read",
            path.display()
        )
    };
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).with_context(unreadable)?;
    ensure!(!found.is_empty(), unreadable());
    Ok(found)
}

/// Accepts a certificate of `authorities` for any name; without `authorities` any certificate, as libpq does below
/// `verify-ca`. A listener cannot read the connection, but the identity of the server is not verified.
#[derive(Debug)]
struct PartialVerifier {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PartialVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        // rustls compares the name last: with this error, everything else was verified.
        match authorities.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
