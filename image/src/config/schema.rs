//! The fields of a configuration that go-containerregistry knows, in its order: an [`ImageId`] is of bytes, and other CNB
//! tools rewrite images through that library. Fields that it does not know follow.
//!
//! [`ImageId`]: crate::ImageId

use super::object::Empty::{Kept, Omitted, Written};
use super::object::{Empty, Kind, Known, Schema};

pub(super) static CONFIG: &Schema = &[
    known("architecture", Kind::Value, Written(r#""""#)),
    plain("author"),
    plain("container"),
    plain("created"),
    plain("docker_version"),
    known("history", Kind::List(HISTORY), Omitted),
    known("os", Kind::Value, Written(r#""""#)),
    known("rootfs", Kind::Object(ROOTFS), Omitted),
    known("config", Kind::Object(EXECUTION), Written("{}")),
    plain("os.version"),
    plain("variant"),
    plain("os.features"),
];

pub(super) static HISTORY: &Schema =
    &[plain("author"), plain("created"), plain("created_by"), plain("comment"), plain("empty_layer")];

static ROOTFS: &Schema = &[known("type", Kind::Value, Kept), known("diff_ids", Kind::Value, Kept)];

static EXECUTION: &Schema = &[
    plain("AttachStderr"),
    plain("AttachStdin"),
    plain("AttachStdout"),
    plain("Cmd"),
    known("Healthcheck", Kind::Object(HEALTHCHECK), Omitted),
    plain("Domainname"),
    plain("Entrypoint"),
    plain("Env"),
    plain("Hostname"),
    plain("Image"),
    known("Labels", Kind::Map, Omitted),
    plain("OnBuild"),
    plain("OpenStdin"),
    plain("StdinOnce"),
    plain("Tty"),
    plain("User"),
    known("Volumes", Kind::Map, Omitted),
    plain("WorkingDir"),
    known("ExposedPorts", Kind::Map, Omitted),
    plain("ArgsEscaped"),
    plain("NetworkDisabled"),
    plain("MacAddress"),
    plain("StopSignal"),
    plain("Shell"),
];

static HEALTHCHECK: &Schema =
    &[plain("Test"), plain("Interval"), plain("Timeout"), plain("StartPeriod"), plain("Retries")];

const fn plain(name: &'static str) -> Known {
    known(name, Kind::Value, Omitted)
}

const fn known(name: &'static str, kind: Kind, empty: Empty) -> Known {
    Known { name, kind, empty }
}
