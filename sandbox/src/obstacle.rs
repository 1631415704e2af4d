//! Why a user namespace cannot be made, and what helps.

use std::fs;
use std::io;

use nix::libc;

use crate::error::Step;

/// A setting of the machine that forbids user namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// `user.max_user_namespaces` is 0.
    MaximumIsZero,
    /// More namespaces exist than `user.max_user_namespaces` allows.
    MaximumReached,
    /// Debian's `kernel.unprivileged_userns_clone` is 0.
    UnprivilegedCloneIsOff,
    /// Ubuntu's `kernel.apparmor_restrict_unprivileged_userns` is 1.
    AppArmor,
    /// A seccomp filter, as container engines install it.
    Seccomp,
    /// The process is in a chroot.
    Chroot,
    /// The kernel was built without them.
    NotInKernel,
    /// None of the known settings.
    Unknown,
}

/// The settings that decide, as they were read.
#[derive(Clone, Debug, Default)]
struct Settings {
    max_user_namespaces: Option<u64>,
    unprivileged_clone: Option<u64>,
    apparmor_restricts: Option<u64>,
    seccomp_filter: bool,
    namespaces_in_kernel: bool,
    root: bool,
}

impl Settings {
    fn read() -> Self {
        let number = |path| fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            unprivileged_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            seccomp_filter: status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"])),
            namespaces_in_kernel: fs::exists("/proc/self/ns/user").unwrap_or(true),
            root: rustix::process::geteuid().is_root(),
        }
    }
}

impl Obstacle {
    /// What made `step` fail with `error`.
    pub(crate) fn find(step: Step, error: &io::Error) -> Self {
        Self::decide(step, error.raw_os_error().unwrap_or_default(), &Settings::read())
    }

    fn decide(step: Step, errno: i32, settings: &Settings) -> Self {
        if !settings.namespaces_in_kernel {
            return Self::NotInKernel;
        }
        match settings.max_user_namespaces {
            Some(0) => return Self::MaximumIsZero,
            Some(_) if errno == libc::ENOSPC || errno == libc::EUSERS => return Self::MaximumReached,
            _ => {}
        }
        if settings.unprivileged_clone == Some(0) && !settings.root {
            return Self::UnprivilegedCloneIsOff;
        }
        // Ubuntu lets the namespace come into being and then refuses everything in it, the id map first.
        if settings.apparmor_restricts.is_some_and(|value| value != 0) && !settings.root {
            return Self::AppArmor;
        }
        if settings.seccomp_filter {
            return Self::Seccomp;
        }
        if step == Step::MakeNamespaces && errno == libc::EPERM {
            return Self::Chroot;
        }
        Self::Unknown
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::MaximumIsZero | Self::MaximumReached => {
                "raise it with `sudo sysctl -w user.max_user_namespaces=15000`"
            }
            Self::UnprivilegedCloneIsOff => {
                "allow them with `sudo sysctl -w kernel.unprivileged_userns_clone=1`, or run as root"
            }
            Self::AppArmor => {
                "give the program an AppArmor profile that has `userns,`, or allow them with \
                 `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or run as root"
            }
            Self::Seccomp => {
                "start the container with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined` \
                 (Docker, Podman) or a `seccompProfile` of type `Unconfined` (Kubernetes)"
            }
            Self::Chroot => "run outside the chroot",
            Self::NotInKernel => "use a kernel with CONFIG_USER_NS=y",
            Self::Unknown => "`longshore doctor` lists what this machine allows",
        }
    }
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::MaximumIsZero => "`user.max_user_namespaces` is 0",
            Self::MaximumReached => "there are as many as `user.max_user_namespaces` allows",
            Self::UnprivilegedCloneIsOff => "`kernel.unprivileged_userns_clone` is 0",
            Self::AppArmor => "`kernel.apparmor_restrict_unprivileged_userns` is 1",
            Self::Seccomp => "a seccomp filter of the surrounding container forbids it",
            Self::Chroot => "the process is in a chroot, or a security module forbids it",
            Self::NotInKernel => "the kernel has none",
            Self::Unknown => "the kernel refuses, and no known setting says why",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings { max_user_namespaces: Some(100), namespaces_in_kernel: true, ..Settings::default() }
    }

    #[test]
    fn each_setting_is_named() {
        let clone = Step::MakeNamespaces;
        let map = Step::WriteIdMap;
        let table = [
            (
                Settings { namespaces_in_kernel: false, ..settings() },
                clone,
                libc::EINVAL,
                Obstacle::NotInKernel,
            ),
            (
                Settings { max_user_namespaces: Some(0), ..settings() },
                clone,
                libc::ENOSPC,
                Obstacle::MaximumIsZero,
            ),
            (settings(), clone, libc::ENOSPC, Obstacle::MaximumReached),
            (
                Settings { unprivileged_clone: Some(0), ..settings() },
                clone,
                libc::EPERM,
                Obstacle::UnprivilegedCloneIsOff,
            ),
            (Settings { apparmor_restricts: Some(1), ..settings() }, map, libc::EPERM, Obstacle::AppArmor),
            (
                Settings { apparmor_restricts: Some(1), root: true, seccomp_filter: true, ..settings() },
                clone,
                libc::EPERM,
                Obstacle::Seccomp,
            ),
            (settings(), clone, libc::EPERM, Obstacle::Chroot),
            (settings(), map, libc::EPERM, Obstacle::Unknown),
        ];
        for (settings, step, errno, obstacle) in table {
            assert_eq!(Obstacle::decide(step, errno, &settings), obstacle, "{settings:?} {errno}");
        }
    }
}
