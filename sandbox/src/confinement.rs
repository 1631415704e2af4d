//! What the command cannot ask of the kernel, whatever it is.

use std::collections::BTreeMap;
use std::io;

use landlock::{ABI, Access, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

/// Added to the number of a system call of the x32 ABI, which would pass by a filter that knows only the usual ones.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// Forbidden whatever the arguments: new mounts and namespaces, and parts of the kernel that builds have no use for but
/// that ways out of containers have been made of.
const DENIED: &[libc::c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_userfaultfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_vhangup,
    libc::SYS_syslog,
];

/// The filters, ready to be installed.
#[derive(Debug)]
pub(crate) struct Confinement {
    filters: Vec<BpfProgram>,
}

impl Confinement {
    pub(crate) fn prepare() -> io::Result<Self> {
        // clone3 takes its flags in memory, where no filter can look. Programs that are told that it does not exist use
        // clone instead. It needs a filter of its own, because a filter has one answer.
        let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        let filters = vec![compile(denied_rules()?, libc::EPERM)?, compile(clone3, libc::ENOSYS)?];
        Ok(Self { filters })
    }

    /// Confines this process and what it starts. Privileges must be gone, and `no_new_privs` is set.
    pub(crate) fn apply(&self) -> io::Result<()> {
        rustix::thread::set_no_new_privs(true)?;
        // Abstract sockets belong to the network namespace: with the host's network, those of its session bus and of
        // container engines would be in reach. Kernels before 6.12 cannot forbid it; `longshore doctor` says so.
        if scopes_are_supported() {
            Ruleset::default()
                .set_compatibility(CompatLevel::BestEffort)
                .scope(Scope::from_all(ABI::V6))
                .and_then(|ruleset| ruleset.create())
                .and_then(|ruleset| ruleset.restrict_self())
                .map_err(io::Error::other)?;
        }
        for filter in &self.filters {
            apply_filter(filter).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

fn denied_rules() -> io::Result<BTreeMap<i64, Vec<SeccompRule>>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let new_user = u64::from(libc::CLONE_NEWUSER.unsigned_abs());
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        rules.insert(call, vec![rule(0, SeccompCmpOp::MaskedEq(new_user), new_user)?]);
    }
    // These put words into the terminal as if they were typed, for the shell to run afterwards.
    let ioctls = [libc::TIOCSTI, libc::TIOCLINUX];
    rules.insert(
        libc::SYS_ioctl,
        ioctls.into_iter().map(|request| rule(1, SeccompCmpOp::Eq, request)).collect::<Result<_, _>>()?,
    );
    // Hosts of virtual machines listen there, whatever the network namespace.
    let vsock = u64::from(libc::AF_VSOCK.unsigned_abs());
    rules.insert(libc::SYS_socket, vec![rule(0, SeccompCmpOp::Eq, vsock)?]);
    #[cfg(target_arch = "x86_64")]
    rules.extend(rules.clone().into_iter().map(|(call, rules)| (call | X32, rules)));
    Ok(rules)
}

fn rule(argument: u8, operator: SeccompCmpOp, value: u64) -> io::Result<SeccompRule> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
        .and_then(|condition| SeccompRule::new(vec![condition]))
        .map_err(io::Error::other)
}

fn compile(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: libc::c_int) -> io::Result<BpfProgram> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let denied = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, denied, architecture)
        .and_then(BpfProgram::try_from)
        .map_err(io::Error::other)
}

/// The version of Landlock that the kernel has, or `None`.
pub(crate) fn landlock_version() -> Option<u32> {
    const CREATE_RULESET_VERSION: libc::c_ulong = 1;
    // SAFETY: asked for its version, the system call reads no memory.
    #[allow(unsafe_code)]
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

/// Whether Landlock can forbid abstract sockets and signals.
pub(crate) fn scopes_are_supported() -> bool {
    landlock_version().is_some_and(|version| version >= 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile() {
        let confinement = Confinement::prepare().unwrap();
        assert_eq!(confinement.filters.len(), 2);
        assert!(confinement.filters.iter().all(|filter| !filter.is_empty()));
    }
}
