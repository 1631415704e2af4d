//! A certificate authority of one's own, made with `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{Outcome, require_tool};

/// An authority and a certificate signed by it, for as long as this value lives.
#[derive(Debug)]
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// An authority that nobody knows, and a certificate of it for `127.0.0.1`, `localhost` and some names.
    ///
    /// # Panics
    /// When `openssl` is not installed or refuses.
    #[must_use]
    pub fn new(names: &[&str]) -> Self {
        require_tool("/usr/bin/openssl", "openssl");
        let directory = TempDir::new().expect("a temporary folder");
        let made = Self { directory };
        let mut alternatives = "subjectAltName=IP:127.0.0.1,DNS:localhost".to_owned();
        for name in names {
            alternatives.push_str(",DNS:");
            alternatives.push_str(name);
        }
        let authority = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
        made.sign("authority", &authority, None);
        let leaf =
            ["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=serverAuth,clientAuth", &alternatives];
        made.sign("leaf", &leaf, Some("authority"));
        made
    }

    fn sign(&self, name: &str, extensions: &[&str], issuer: Option<&str>) {
        let mut command = Command::new("/usr/bin/openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        command.args(["-days", "2", "-subj"]).arg(format!("/CN=Longshore test {name}"));
        command.arg("-keyout").arg(self.path(name, "key")).arg("-out").arg(self.path(name, "crt"));
        for extension in extensions {
            command.args(["-addext", extension]);
        }
        if let Some(issuer) = issuer {
            command.arg("-CA").arg(self.path(issuer, "crt")).arg("-CAkey").arg(self.path(issuer, "key"));
        }
        Outcome::of(&mut command).success();
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.{extension}"))
    }

    /// The authority's certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.path("authority", "crt")
    }

    /// The certificate for servers and clients.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.path("leaf", "crt")
    }

    /// The key of the certificate.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.path("leaf", "key")
    }

    /// Makes `certs.d/HOST/ca.crt` in a directory, as Docker and the containers libraries read it.
    ///
    /// # Panics
    /// When the directory cannot be written.
    pub fn trust_in(&self, directory: &Path, host: &str) {
        let of_host = directory.join(host);
        std::fs::create_dir_all(&of_host).expect("a folder for certificates");
        std::fs::copy(self.authority(), of_host.join("ca.crt")).expect("the authority's certificate");
    }

    /// Adds the identity of a client to `certs.d/HOST`.
    ///
    /// # Panics
    /// When the directory cannot be written.
    pub fn identify_in(&self, directory: &Path, host: &str) {
        let of_host = directory.join(host);
        std::fs::create_dir_all(&of_host).expect("a folder for certificates");
        std::fs::copy(self.certificate(), of_host.join("client.cert")).expect("the client's certificate");
        std::fs::copy(self.key(), of_host.join("client.key")).expect("the client's key");
    }
}
