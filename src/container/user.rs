//! The user of an image: `user`, `uid`, `user:group`, `uid:gid`, `uid:group` or `user:gid` (image specification,
//! "config.User").

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use longshore_sandbox::read_in_layers;

/// A user of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    /// The id.
    pub(crate) uid: u32,
    /// The group.
    pub(crate) gid: u32,
    /// The home directory; `/` when the image does not know the user.
    pub(crate) home: PathBuf,
}

/// The user that the configuration of an image names, with the help of `/etc/passwd` and `/etc/group` in its layers.
///
/// # Errors
/// When the image does not know the name, or its files cannot be read.
pub(crate) fn find_user(name: &str, layers: &[PathBuf]) -> anyhow::Result<User> {
    let read = |path: &str| -> anyhow::Result<String> {
        let contents = read_in_layers(layers, Path::new(path))
            .with_context(|| format!("cannot read {path} of the image"))?;
        Ok(String::from_utf8_lossy(&contents.unwrap_or_default()).into_owned())
    };
    resolve(name, &read("/etc/passwd")?, &read("/etc/group")?)
}

fn resolve(name: &str, passwd: &str, group: &str) -> anyhow::Result<User> {
    let (user, group_name) = match name.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (name, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number: Option<u32> = user.parse().ok();
    let entry = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        fields.first() == Some(&user)
            || (number.is_some() && fields.get(2).and_then(|id| id.parse().ok()) == number)
    });
    let field = |index: usize| entry.as_ref().and_then(|fields| fields.get(index).copied());
    let uid = match field(2).and_then(|id| id.parse().ok()).or(number) {
        Some(uid) => uid,
        None => bail!("the image runs as user `{user}`, which its /etc/passwd does not have"),
    };
    let gid = match group_name {
        Some(group_name) => find_group(group_name, group)?,
        None => field(3).and_then(|id| id.parse().ok()).unwrap_or(0),
    };
    let home = field(5).filter(|home| !home.is_empty()).unwrap_or("/");
    Ok(User { uid, gid, home: home.into() })
}

fn find_group(name: &str, group: &str) -> anyhow::Result<u32> {
    let known = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    known
        .or_else(|| name.parse().ok())
        .with_context(|| format!("the image runs as group `{name}`, which its /etc/group does not have"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_images() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\ncnb:x:1002:1000::/home/cnb:/bin/sh\n";
        let group = "root:x:0:\ncnb:x:1000:\nstaff:x:50:\n";
        let table = [
            ("", Some((0, 0, "/root"))),
            ("cnb", Some((1002, 1000, "/home/cnb"))),
            ("1002", Some((1002, 1000, "/home/cnb"))),
            ("1002:staff", Some((1002, 50, "/home/cnb"))),
            ("1001:1000", Some((1001, 1000, "/"))),
            ("77", Some((77, 0, "/"))),
            ("cnb:7", Some((1002, 7, "/home/cnb"))),
            ("nobody", None),
            ("cnb:none", None),
        ];
        for (name, expected) in table {
            let expected = expected.map(|(uid, gid, home)| User { uid, gid, home: home.into() });
            assert_eq!(resolve(name, passwd, group).ok(), expected, "{name}");
        }
    }
}
