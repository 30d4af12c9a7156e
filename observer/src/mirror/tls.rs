//! How a server proves who it is: libpq's `sslmode`, on rustls.

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

/// `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS.
    Disable,
    /// TLS if the server has it; proves nothing. `allow` is taken for this.
    Prefer,
    /// TLS; proves nothing.
    Require,
    /// The certificate comes from a known authority.
    VerifyCa,
    /// And is this host's.
    VerifyFull,
}

impl TlsMode {
    /// The word of `sslmode`.
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

    /// What of it is said while connecting.
    pub fn negotiation(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }
}

/// Files with certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `sslrootcert`; `None`: the system's authorities.
    pub roots: Option<PathBuf>,
    /// `sslcert`: who we are.
    pub certificate: Option<PathBuf>,
    /// `sslkey`.
    pub key: Option<PathBuf>,
}

impl Tls {
    /// What makes TLS connections of this mode. Files are read each time: certificates are renewed.
    pub fn connector(&self, mode: TlsMode) -> Result<MakeRustlsConnect> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up; report this")?;
        let builder = match mode {
            TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => {
                let verifier = Lenient { authorities: None, algorithms };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            TlsMode::VerifyCa => {
                let roots = Arc::new(self.roots()?);
                let authorities = WebPkiServerVerifier::builder_with_provider(roots, provider)
                    .build()
                    .context("the authorities in sslrootcert cannot be used; name a PEM file with one")?;
                let verifier = Lenient { authorities: Some(authorities), algorithms };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            TlsMode::VerifyFull => builder.with_root_certificates(self.roots()?),
        };
        let config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let next = "name PEM files that the daemon's user may read";
                let told = |file: &Path| format!("cannot use {}; {next}", file.display());
                let key_der = PrivateKeyDer::from_pem_file(key).with_context(|| told(key))?;
                builder
                    .with_client_auth_cert(certificates(certificate)?, key_der)
                    .with_context(|| told(certificate))?
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
    let told = || {
        format!(
            "cannot read certificates in {}; name a PEM file that the daemon's user may read",
            path.display()
        )
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect).with_context(told)?;
    ensure!(!found.is_empty(), told());
    Ok(found)
}

/// Does not look at the name, and without `authorities` takes any certificate, as libpq does below `verify-ca`: what is
/// sent cannot be read by a listener, but whom it is sent to is not known.
#[derive(Debug)]
struct Lenient {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authorities) = &self.authorities else { return Ok(ServerCertVerified::assertion()) };
        // The name is compared last: with that error everything else was right.
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
