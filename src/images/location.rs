//! How images are named on the command line: a plain name, or a transport and what is behind it, as skopeo writes it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use longshore_image::{InvalidReference, Reference};

/// The name of an image and of the place it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Location {
    /// A plain name: in the local store, and to be read also in its registry.
    Reference(Reference),
    /// `docker://NAME`: in its registry.
    Registry(Reference),
    /// `oci:DIRECTORY[:NAME]`: in an OCI image layout. Left out, the name is that of its only image.
    Layout { directory: PathBuf, name: Option<String> },
    /// `oci-archive:FILE[:NAME]`: in a tar of an OCI image layout.
    OciArchive { file: PathBuf, name: Option<String> },
    /// `docker-archive:FILE[:NAME]`: in what `docker save` writes.
    DockerArchive { file: PathBuf, name: Option<Reference> },
    /// `docker-daemon:NAME`: in a container daemon.
    Daemon(Reference),
    /// `containers-storage:NAME`: where podman keeps its images.
    ContainersStorage(Reference),
}

/// A text that is not the name of an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidLocation {
    /// The name is not a reference.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// There is nothing behind the transport.
    #[error("`{0}` names no file or directory")]
    NoPath(String),
    /// A transport of skopeo that is not known here.
    #[error("there is no transport `{0}`; {TRANSPORTS}")]
    Transport(String),
}

/// For messages.
const TRANSPORTS: &str = "there are `docker://NAME`, `oci:DIRECTORY[:NAME]`, `oci-archive:FILE[:NAME]`, \
     `docker-archive:FILE[:NAME]`, `docker-daemon:NAME` and `containers-storage:NAME`";

/// Transports of other tools: without this list they would be taken for names with a tag.
const OTHERS: [&str; 5] = ["dir", "ostree", "sif", "tarball", "docker"];

impl FromStr for Location {
    type Err = InvalidLocation;

    fn from_str(text: &str) -> Result<Self, InvalidLocation> {
        if let Some(name) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(name.parse()?));
        }
        let path = |rest: &str| match rest.split_once(':').unwrap_or((rest, "")) {
            ("", _) => Err(InvalidLocation::NoPath(text.to_owned())),
            (path, name) => Ok((PathBuf::from(path), Some(name.to_owned()).filter(|name| !name.is_empty()))),
        };
        match text.split_once(':') {
            Some(("oci", rest)) => {
                let (directory, name) = path(rest)?;
                Ok(Self::Layout { directory, name })
            }
            Some(("oci-archive", rest)) => {
                let (file, name) = path(rest)?;
                Ok(Self::OciArchive { file, name })
            }
            Some(("docker-archive", rest)) => {
                let (file, name) = path(rest)?;
                Ok(Self::DockerArchive { file, name: name.map(|name| name.parse()).transpose()? })
            }
            Some(("docker-daemon", name)) => Ok(Self::Daemon(name.parse()?)),
            Some(("containers-storage", name)) => Ok(Self::ContainersStorage(name.parse()?)),
            Some((transport, rest)) if OTHERS.contains(&transport) && rest.contains('/') => {
                Err(InvalidLocation::Transport(transport.to_owned()))
            }
            _ => Ok(Self::Reference(text.parse()?)),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut path = |transport: &str, path: &PathBuf, name: Option<String>| {
            write!(formatter, "{transport}:{}", path.display())?;
            name.map_or(Ok(()), |name| write!(formatter, ":{name}"))
        };
        match self {
            Self::Layout { directory, name } => path("oci", directory, name.clone()),
            Self::OciArchive { file, name } => path("oci-archive", file, name.clone()),
            Self::DockerArchive { file, name } => {
                path("docker-archive", file, name.as_ref().map(Reference::familiar))
            }
            Self::Reference(name) => formatter.write_str(&name.familiar()),
            Self::Registry(name) => write!(formatter, "docker://{}", name.familiar()),
            Self::Daemon(name) => write!(formatter, "docker-daemon:{}", name.familiar()),
            Self::ContainersStorage(name) => write!(formatter, "containers-storage:{}", name.familiar()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_told_by_their_prefix() {
        let name = || "a/b:1".parse::<Reference>().unwrap();
        let full = Some("docker.io/library/app:latest".to_owned());
        let table = [
            ("a/b:1", Location::Reference(name())),
            ("oci", Location::Reference("oci".parse().unwrap())),
            ("docker:24", Location::Reference("docker:24".parse().unwrap())),
            ("docker://a/b:1", Location::Registry(name())),
            ("oci:dir", Location::Layout { directory: "dir".into(), name: None }),
            ("oci:/a/dir:v1", Location::Layout { directory: "/a/dir".into(), name: Some("v1".to_owned()) }),
            (
                "oci:dir:docker.io/library/app:latest",
                Location::Layout { directory: "dir".into(), name: full.clone() },
            ),
            ("oci-archive:x.tar", Location::OciArchive { file: "x.tar".into(), name: None }),
            (
                "oci-archive:x.tar:docker.io/library/app:latest",
                Location::OciArchive { file: "x.tar".into(), name: full },
            ),
            ("docker-archive:/x.tar", Location::DockerArchive { file: "/x.tar".into(), name: None }),
            (
                "docker-archive:/x.tar:a/b:1",
                Location::DockerArchive { file: "/x.tar".into(), name: Some(name()) },
            ),
            ("docker-daemon:a/b:1", Location::Daemon(name())),
            ("containers-storage:a/b:1", Location::ContainersStorage(name())),
        ];
        for (text, expected) in table {
            let location: Location = text.parse().unwrap();
            assert_eq!(location, expected, "{text}");
            assert_eq!(location.to_string(), text);
        }
    }

    #[test]
    fn what_names_no_image_is_refused() {
        for text in
            ["App/UPPER:!", "oci:", "oci-archive::x", "docker-archive:x:A B", "dir:/x", "docker://", ""]
        {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
    }
}
