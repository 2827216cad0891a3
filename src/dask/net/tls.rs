//! TLS as Dask uses it: one authority, and both sides present a certificate signed by it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{error, fmt};

use futures_rustls::pki_types::pem::{self, PemObject};
use futures_rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use futures_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use futures_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use futures_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use futures_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use futures_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use futures_rustls::{TlsAcceptor, TlsConnector};

/// The certificates of a program for a cluster with `tls://` addresses.
///
/// The counterpart of Dask's `Security`: the certificate of an authority (`tls_ca_file`), and a certificate and key for
/// this program (`tls_client_cert`, `tls_client_key`, and the same for schedulers and workers), all in PEM files. Both
/// sides present their certificate, and each checks that the authority has signed the other's.
///
/// **Host names aren't checked**, as they aren't by Dask: any program with a certificate of the authority can act as
/// scheduler, worker or client on any host. So the authority must be the cluster's own, never a public one.
///
/// ```no_run
/// use ensue::dask::Tls;
///
/// let tls = Tls::new("ca.pem", "worker.pem", "worker-key.pem")?;
/// # Ok::<(), ensue::dask::TlsError>(())
/// ```
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    certificate: PathBuf,
}

impl Tls {
    /// Reads the certificate of the authority, the program's own certificate, followed by the intermediate ones if there
    /// are any, and its private key. Reads the files once, and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// If a file can't be read or doesn't contain what it should, or the key doesn't belong to the certificate.
    pub fn new(
        ca: impl AsRef<Path>,
        certificate: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        let (ca, certificate, key) = (ca.as_ref(), certificate.as_ref(), key.as_ref());
        // Explicitly, since the program may have installed another process-wide provider, or none.
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for root in certificates(ca)? {
            roots.add(root).map_err(|error| TlsError::new(ca, error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(certificate)?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;

        // Clients must present a certificate: it is their only credential.
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
        let verifier = verifier.build().map_err(|error| TlsError::new(ca, error))?;
        let mismatch = |error| TlsError::new(certificate, error);
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(mismatch)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), secret.clone_key())
            .map_err(mismatch)?;
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(mismatch)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ChainOnly { roots, provider }))
            .with_client_auth_cert(chain, secret)
            .map_err(mismatch)?;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
            certificate: certificate.to_owned(),
        })
    }

    pub(super) fn connector(&self) -> TlsConnector {
        self.client.clone().into()
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.server.clone().into()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let items = CertificateDer::pem_file_iter(file).map_err(|error| unreadable(file, &error))?;
    let items: Result<Vec<_>, _> = items.collect();
    let items = items.map_err(|error| unreadable(file, &error))?;
    // A file without a certificate is no error for the parser.
    if items.is_empty() {
        return Err(TlsError::new(file, "it contains no certificate"));
    }
    Ok(items)
}

fn unreadable(file: &Path, error: &pem::Error) -> TlsError {
    match error {
        pem::Error::Io(error) => TlsError::new(file, error),
        pem::Error::NoItemsFound => TlsError::new(file, "it contains no private key"),
        other => TlsError::new(file, other),
    }
}

/// The reason why certificates can't be used. Its text names the file.
#[derive(Clone, Debug)]
pub struct TlsError {
    file: PathBuf,
    what: String,
}

impl TlsError {
    fn new(file: &Path, what: impl fmt::Display) -> Self {
        Self { file: file.to_owned(), what: what.to_string() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` can't be used for TLS: {}", self.file.display(), self.what)
    }
}

impl error::Error for TlsError {}

/// A verifier that checks the chain of certificates but not the host name.
#[derive(Debug)]
struct ChainOnly {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(certificate)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
