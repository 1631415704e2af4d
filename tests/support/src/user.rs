//! A user without privileges, for tests that otherwise run as root.

use std::path::Path;
use std::process::Command;

use crate::process::{Outcome, require_tool};

/// The account that tests make when they run as root.
const NAME: &str = "longshore-test";

/// Who commands run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrdinaryUser {
    /// Whoever runs the tests is ordinary already.
    Current,
    /// The account made for it.
    Account {
        /// Its user id.
        uid: u32,
        /// Its group id.
        gid: u32,
    },
}

/// Whether the tests run as root.
///
/// # Panics
/// When `id` does not say.
#[must_use]
pub fn is_root() -> bool {
    identity(&["-u"]) == Some(0)
}

fn identity(arguments: &[&str]) -> Option<u32> {
    let outcome = Outcome::of(Command::new("id").args(arguments));
    outcome.stdout.trim().parse().ok()
}

impl OrdinaryUser {
    /// The ordinary user of this machine; root makes an account first if there is none.
    ///
    /// # Panics
    /// When the account cannot be made.
    #[must_use]
    pub fn get() -> Self {
        if !is_root() {
            return Self::Current;
        }
        require_tool("/usr/bin/setpriv", "util-linux");
        if identity(&["-u", NAME]).is_none() {
            // Tests run side by side: whoever is second finds the account made.
            let outcome = Outcome::of(Command::new("/usr/sbin/useradd").args([
                "--no-create-home",
                "--shell",
                "/usr/sbin/nologin",
                NAME,
            ]));
            assert!(identity(&["-u", NAME]).is_some(), "cannot make the user {NAME}: {}", outcome.stderr);
        }
        let uid = identity(&["-u", NAME]).expect("the user id of the account");
        let gid = identity(&["-g", NAME]).expect("the group id of the account");
        Self::Account { uid, gid }
    }

    /// `program`, to be run as this user.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        match self {
            Self::Current => Command::new(program),
            Self::Account { uid, gid } => {
                let mut command = Command::new("/usr/bin/setpriv");
                command
                    .args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups", "--"])
                    .arg(program);
                command
            }
        }
    }

    /// Gives a folder and all in it to this user.
    ///
    /// # Panics
    /// When that is refused.
    pub fn own(&self, folder: &Path) {
        if let Self::Account { uid, gid } = self {
            let owner = format!("{uid}:{gid}");
            Outcome::of(Command::new("chown").args(["-R", &owner]).arg(folder)).success();
        }
    }
}
