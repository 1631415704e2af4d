//! Extended attributes of files: which of them layers carry.

use rustix::io::Errno;

/// Whether an attribute belongs into a layer: what users wrote, capabilities of programs, and access control lists. Labels
/// of this machine's security modules do not, nor do the marks of overlay file systems, with which a layer could make up
/// what the kernel shows.
pub(crate) fn belongs(name: &[u8]) -> bool {
    let starts = |prefix: &str| name.starts_with(prefix.as_bytes()) && name.len() > prefix.len();
    let known = (starts("user.") && !starts("user.overlay."))
        || name == b"security.capability"
        || matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default");
    // PAX ends the name at the first one.
    known && !name.contains(&b'=')
}

/// The names that a call gives, which is tried with larger and larger buffers.
pub(crate) fn names(list: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer = vec![0; 4096];
    let size = loop {
        match list(&mut buffer) {
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            other => break other?,
        }
    };
    let names = buffer[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_into_layers() {
        let table = [
            ("user.mime_type", true),
            ("user.", false),
            ("user.a=b", false),
            ("user.overlay.opaque", false),
            ("trusted.overlay.redirect", false),
            ("security.capability", true),
            ("security.selinux", false),
            ("security.ima", false),
            ("system.posix_acl_access", true),
            ("system.posix_acl_default", true),
            ("system.other", false),
        ];
        for (name, expected) in table {
            assert_eq!(belongs(name.as_bytes()), expected, "{name}");
        }
    }
}
