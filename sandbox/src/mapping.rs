//! How ids inside the sandbox relate to ids of the host.

use std::fs;

use serde::{Deserialize, Serialize};

/// The first host id of the private range, far above the ids that systems and `/etc/subuid` hand out.
const SHIFT_BASE: u32 = 0x7000_0000;
/// Ids 0 to 65535 exist inside.
const SHIFT_COUNT: u32 = 0x1_0000;

/// How ids inside the sandbox relate to ids of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdMapping {
    /// Ids `0..count` inside are `base..base + count` outside: what root can do.
    Shifted {
        /// The host id of user 0 inside.
        base: u32,
        /// How many ids there are.
        count: u32,
    },
    /// One user and one group exist inside, and they are the caller: what everybody can do.
    Single {
        /// The user inside.
        uid: u32,
        /// The group inside.
        gid: u32,
        /// The caller's user.
        host_uid: u32,
        /// The caller's group.
        host_gid: u32,
    },
}

impl IdMapping {
    /// The best mapping that this process may make for a container whose command runs as `uid` and `gid`.
    pub fn detect(uid: u32, gid: u32) -> Self {
        if may_map_any_id() {
            return match parent_range() {
                Some(count) if count > SHIFT_BASE.saturating_add(SHIFT_COUNT) => {
                    Self::Shifted { base: SHIFT_BASE, count: SHIFT_COUNT }
                }
                // Root of a container that has only some ids itself: pass those on.
                Some(count) if count >= SHIFT_COUNT => Self::Shifted { base: 0, count: SHIFT_COUNT },
                _ => Self::single(uid, gid),
            };
        }
        Self::single(uid, gid)
    }

    /// The mapping of an ordinary user.
    pub fn single(uid: u32, gid: u32) -> Self {
        Self::Single {
            uid,
            gid,
            host_uid: rustix::process::geteuid().as_raw(),
            host_gid: rustix::process::getegid().as_raw(),
        }
    }

    /// The name under which unpacked layers of this mapping are kept: their owners depend on it, except that with a
    /// single id everything belongs to the caller.
    pub fn name(&self) -> String {
        match self {
            Self::Shifted { base, .. } => format!("shift-{base}"),
            Self::Single { .. } => "host".to_owned(),
        }
    }

    /// Whether only one user exists inside, so that files cannot have owners.
    pub fn is_single(&self) -> bool {
        matches!(self, Self::Single { .. })
    }

    /// The user of the host that is `uid` inside, if there is one.
    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        match *self {
            Self::Shifted { base, count } => (uid < count).then(|| base + uid),
            Self::Single { uid: inside, host_uid, .. } => (uid == inside).then_some(host_uid),
        }
    }

    /// The group of the host that is `gid` inside, if there is one.
    pub fn host_gid(&self, gid: u32) -> Option<u32> {
        match *self {
            Self::Shifted { base, count } => (gid < count).then(|| base + gid),
            Self::Single { gid: inside, host_gid, .. } => (gid == inside).then_some(host_gid),
        }
    }

    /// The contents of `/proc/PID/uid_map`.
    pub(crate) fn uid_map(&self) -> String {
        match self {
            Self::Shifted { base, count } => format!("0 {base} {count}\n"),
            Self::Single { uid, host_uid, .. } => format!("{uid} {host_uid} 1\n"),
        }
    }

    /// The contents of `/proc/PID/gid_map`.
    pub(crate) fn gid_map(&self) -> String {
        match self {
            Self::Shifted { base, count } => format!("0 {base} {count}\n"),
            Self::Single { gid, host_gid, .. } => format!("{gid} {host_gid} 1\n"),
        }
    }
}

/// Whether the kernel lets this process write any id map.
fn may_map_any_id() -> bool {
    use rustix::thread::CapabilitySet;
    rustix::thread::capabilities(None).is_ok_and(|sets| {
        sets.effective.contains(CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::CHOWN)
    })
}

/// How many ids from 0 on this process's own namespace has, as users and as groups.
fn parent_range() -> Option<u32> {
    let users = first_range(&fs::read_to_string("/proc/self/uid_map").ok()?)?;
    let groups = first_range(&fs::read_to_string("/proc/self/gid_map").ok()?)?;
    Some(users.min(groups))
}

/// The ids from 0 on without a gap in an id map.
fn first_range(map: &str) -> Option<u32> {
    let mut ranges: Vec<(u32, u32)> = map
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let inside = words.next()?.parse().ok()?;
            Some((inside, words.nth(1)?.parse().ok()?))
        })
        .collect();
    ranges.sort_unstable();
    let mut end = 0_u32;
    for (inside, count) in ranges {
        if inside != end {
            break;
        }
        end = end.saturating_add(count);
    }
    (end > 0).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_map() {
        let table = [
            ("         0          0 4294967295\n", Some(u32::MAX)),
            ("0 1000 1\n1 100000 65535\n", Some(65_536)),
            ("1000 1000 1\n", None),
            ("0 1000 1\n5 100000 10\n", Some(1)),
            ("", None),
        ];
        for (map, range) in table {
            assert_eq!(first_range(map), range, "{map}");
        }
    }

    #[test]
    fn ids_outside_the_mapping_do_not_exist() {
        let shifted = IdMapping::Shifted { base: 100, count: 10 };
        assert_eq!(shifted.host_uid(9), Some(109));
        assert_eq!(shifted.host_uid(10), None);
        let single = IdMapping::Single { uid: 1000, gid: 1001, host_uid: 5, host_gid: 6 };
        assert_eq!((single.host_uid(1000), single.host_gid(1001)), (Some(5), Some(6)));
        assert_eq!((single.host_uid(0), single.host_gid(1000)), (None, None));
        assert_eq!(single.uid_map(), "1000 5 1\n");
    }
}
