//! A registry as a row needs it: started empty, filled by hand, with a line to it that counts.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;

use anyhow::{Context, bail};
use longshore_test_support::{DockerRegistry, MeasuredLine, layout};
use serde_json::Value;

/// Debian's docker-registry and a line to it.
pub(crate) struct Registry {
    pub(crate) server: DockerRegistry,
    pub(crate) line: MeasuredLine,
}

/// What the registry was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) all: u64,
    /// GETs of blobs: layers and configurations.
    pub(crate) blobs_read: u64,
    /// Requests that carry bytes of blobs.
    pub(crate) blobs_written: u64,
}

impl std::ops::Sub for Requests {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            all: self.all - earlier.all,
            blobs_read: self.blobs_read - earlier.blobs_read,
            blobs_written: self.blobs_written - earlier.blobs_written,
        }
    }
}

/// An answer of the registry.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Registry {
    pub(crate) fn start() -> Self {
        Self::of(DockerRegistry::start())
    }

    /// One that never waits for a disk.
    pub(crate) fn start_in_memory() -> Self {
        Self::of(DockerRegistry::start_in(Path::new("/dev/shm")))
    }

    fn of(server: DockerRegistry) -> Self {
        let line = MeasuredLine::start(server.port());
        Self { server, line }
    }

    /// The name of an image behind the line.
    pub(crate) fn name(&self, name: &str) -> String {
        self.line.reference(name)
    }

    /// All requests so far, by the registry's log.
    pub(crate) fn requests(&self) -> Requests {
        let lines = self.server.requests("/v2/");
        let count = |matches: fn(&str) -> bool| lines.iter().filter(|line| matches(line)).count() as u64;
        Requests {
            all: lines.len() as u64,
            blobs_read: count(|line| line.contains("\"GET /v2/") && line.contains("/blobs/sha256:")),
            blobs_written: count(|line| {
                line.contains("/blobs/uploads/")
                    && (line.contains("\"PATCH /v2/") || line.contains("\"PUT /v2/"))
            }),
        }
    }

    /// How often one of these blobs was read.
    pub(crate) fn reads_of(&self, digests: &[String]) -> u64 {
        let lines = self.server.requests("\"GET /v2/");
        lines
            .iter()
            .filter(|line| digests.iter().any(|digest| line.contains(&format!("/blobs/{digest}"))))
            .count() as u64
    }

    /// The digests of the layers of an image.
    pub(crate) fn layers(&self, repository: &str, tag: &str) -> anyhow::Result<Vec<String>> {
        let manifest = self.get(&format!("/v2/{repository}/manifests/{tag}"))?;
        let layers = manifest["layers"].as_array().context("a manifest without layers")?;
        Ok(layers.iter().filter_map(|layer| layer["digest"].as_str().map(str::to_owned)).collect())
    }

    /// Writes a blob into a repository and returns its descriptor.
    pub(crate) fn push_blob(
        &self,
        repository: &str,
        bytes: &[u8],
        media_type: &str,
    ) -> anyhow::Result<Value> {
        let digest = layout::digest(bytes);
        let begun = self.request("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[])?;
        let location = begun
            .head
            .lines()
            .find_map(|line| line.strip_prefix("Location: "))
            .context("an upload without a location")?;
        let path = location.find("/v2/").map_or(location, |start| &location[start..]);
        let separator = if path.contains('?') { '&' } else { '?' };
        let octets = "application/octet-stream";
        self.request("PUT", &format!("{path}{separator}digest={digest}"), octets, bytes)?;
        Ok(serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
    }

    /// Makes a blob of one repository one of another, too.
    pub(crate) fn mount(&self, from: &str, to: &str, digest: &str) -> anyhow::Result<()> {
        let path = format!("/v2/{to}/blobs/uploads/?mount={digest}&from={from}");
        self.request("POST", &path, "", &[]).map(drop)
    }

    pub(crate) fn put_manifest(&self, repository: &str, tag: &str, manifest: &Value) -> anyhow::Result<()> {
        let media_type = manifest["mediaType"].as_str().context("a manifest without a type")?;
        let path = format!("/v2/{repository}/manifests/{tag}");
        self.request("PUT", &path, media_type, manifest.to_string().as_bytes()).map(drop)
    }

    /// A manifest, or a blob that is JSON.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_slice(&self.request("GET", path, "", &[])?.body)?)
    }

    /// One request on a connection of its own, past the line.
    fn request(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.server.port()))?;
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Length: {}\r\nContent-Type: {content_type}\r\n\
             Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json\r\n\r\n",
            self.server.host(),
            body.len()
        )?;
        stream.write_all(body)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let end = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .context("an answer that is not HTTP")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        let answer = Answer { status, head, body: bytes.split_off(end + 4) };
        if !(200..300).contains(&answer.status) {
            bail!("{method} {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body));
        }
        Ok(answer)
    }
}
