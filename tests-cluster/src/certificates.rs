//! Certificates of an authority that's made up for one test.

use std::fs;
use std::path::{Path, PathBuf};

use ensue::dask::Tls;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

/// Files: the authority's certificate, and one with its key that the authority has signed.
pub(crate) struct Certificates {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
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

    pub(crate) fn tls(&self) -> Tls {
        Tls::new(&self.ca, &self.certificate, &self.key).expect("the files are right")
    }

    /// As options of stock Dask's programs, and of ours.
    pub(crate) fn options(&self, [ca, certificate, key]: [&str; 3]) -> Vec<String> {
        let path = |path: &Path| path.to_str().expect("text").to_owned();
        [(ca, &self.ca), (certificate, &self.certificate), (key, &self.key)]
            .into_iter()
            .flat_map(|(option, file)| [option.to_owned(), path(file)])
            .collect()
    }
}
