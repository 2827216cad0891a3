//! Certificates of an authority that is created for one test.

use std::fs;
use std::path::{Path, PathBuf};

use ensue::dask::Tls;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

/// PEM files of an authority, and of a certificate that it has signed.
#[derive(Debug)]
pub struct Certificates {
    /// The certificate of the authority.
    pub ca: PathBuf,
    /// The signed certificate.
    pub certificate: PathBuf,
    /// The key of the signed certificate.
    pub key: PathBuf,
}

impl Certificates {
    /// Writes the files of a new authority to `folder`. Their names begin with `name`.
    pub fn new(folder: &Path, name: &str) -> Self {
        let authority_key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, format!("authority {name}"));
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = authority.self_signed(&authority_key).expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["cluster".to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, "cluster");
        params.use_authority_key_identifier_extension = true;
        let certificate =
            params.signed_by(&key, &authority, &authority_key).expect("a certificate");
        let write = |kind: &str, text: String| {
            let path = folder.join(format!("{name}-{kind}.pem"));
            fs::write(&path, text).expect("a file");
            path
        };
        Self {
            ca: write("ca", authority.pem()),
            certificate: write("certificate", certificate.pem()),
            key: write("key", key.serialize_pem()),
        }
    }

    /// Returns them as the crate takes them.
    pub fn tls(&self) -> Tls {
        Tls::new(&self.ca, &self.certificate, &self.key).expect("the files are right")
    }

    /// Returns them as command line options, whose names differ between Dask's programs and the crate's workers.
    pub fn options(&self, [ca, certificate, key]: [&str; 3]) -> Vec<String> {
        let path = |path: &Path| path.to_str().expect("text").to_owned();
        [(ca, &self.ca), (certificate, &self.certificate), (key, &self.key)]
            .into_iter()
            .flat_map(|(option, file)| [option.to_owned(), path(file)])
            .collect()
    }
}
