//! The user of an image: names and numbers.

use std::fs;
use std::path::{Path, PathBuf};

use super::DockerfileProblem;

/// Who runs a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The home directory; root's when the user is not known.
    pub home: PathBuf,
}

impl User {
    /// The user that `USER[:GROUP]` means on a root filesystem: root when it is empty. A number need not be known there,
    /// a name must.
    pub(super) fn find(text: &str, root: &Path) -> Result<Self, DockerfileProblem> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let user = if user.is_empty() { "0" } else { user };
        let users = lines(&root.join("etc/passwd"));
        let known = users
            .iter()
            .find(|fields| matches_name(fields, user))
            .or_else(|| users.iter().find(|fields| fields.get(2).is_some_and(|id| id == user)));
        let number = |field: usize| known.and_then(|fields| fields.get(field)?.parse::<u32>().ok());
        let unknown = || DockerfileProblem::NoUser(user.to_owned());
        let uid = number(2).or_else(|| user.parse().ok()).ok_or_else(unknown)?;
        let gid = match group {
            "" => number(3).unwrap_or_default(),
            group => Self::group(group, root)?,
        };
        let home = known.and_then(|fields| fields.get(5)).filter(|home| !home.is_empty());
        Ok(Self { uid, gid, home: home.map_or_else(|| "/".into(), PathBuf::from) })
    }

    fn group(group: &str, root: &Path) -> Result<u32, DockerfileProblem> {
        let groups = lines(&root.join("etc/group"));
        let known = groups.iter().find(|fields| matches_name(fields, group));
        let id = known.and_then(|fields| fields.get(2)?.parse().ok());
        id.or_else(|| group.parse().ok()).ok_or_else(|| DockerfileProblem::NoGroup(group.to_owned()))
    }
}

fn matches_name(fields: &[String], name: &str) -> bool {
    fields.first().is_some_and(|first| first == name)
}

/// Fields between colons; none when the file does not exist.
fn lines(path: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\ncnb:x:1000:1001::/home/cnb:\n")
            .unwrap();
        fs::write(root.path().join("etc/group"), "root:x:0:\nstaff:x:50:\n").unwrap();
        for (text, uid, gid, home) in [
            ("", 0, 0, "/root"),
            ("cnb", 1000, 1001, "/home/cnb"),
            ("1000", 1000, 1001, "/home/cnb"),
            ("cnb:staff", 1000, 50, "/home/cnb"),
            ("7", 7, 0, "/"),
            ("7:8", 7, 8, "/"),
        ] {
            let user = User::find(text, root.path()).unwrap();
            assert_eq!(user, User { uid, gid, home: home.into() }, "{text}");
        }
        assert!(User::find("nobody", root.path()).is_err());
        assert!(User::find("cnb:nobody", root.path()).is_err());
    }
}
