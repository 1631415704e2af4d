//! Entering namespaces.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::libc;
use nix::unistd::Pid;
use rustix::process::{Gid, Signal, Uid};

use crate::error::Step;
use crate::mapping::IdMapping;
use crate::message::{At, Failure};

/// The namespaces of a container.
pub(crate) const CONTAINER: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Forks into new namespaces and runs `child` there, and nothing else.
pub(crate) fn fork_into(flags: libc::c_int, child: impl FnOnce()) -> io::Result<Pid> {
    #[cfg(target_arch = "s390x")]
    compile_error!("the arguments of clone are in another order");
    let flags = libc::c_long::from(flags | libc::SIGCHLD);
    // SAFETY: this process has one thread, so a fork (no CLONE_VM, no new stack) leaves all of its memory valid in the
    // child; the null pointers are not written to without CLONE_*_SETTID and CLONE_SETTLS.
    #[allow(unsafe_code)]
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, 0_usize, 0_usize, 0_usize, 0_usize) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            child();
            exit_now(0)
        }
        pid => Ok(Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?)),
    }
}

/// Forks, and runs `child` in the new process, and nothing else.
pub(crate) fn fork(child: impl FnOnce()) -> io::Result<Pid> {
    fork_into(0, child)
}

/// Ends this process at once.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process without running what the parent registered to run at its own exit.
    #[allow(unsafe_code)]
    unsafe {
        libc::_exit(code)
    }
}

/// Writes the id maps of `pid`, which waits for them.
pub(crate) fn write_id_maps(pid: Pid, mapping: &IdMapping) -> Result<(), Failure> {
    let write = |file: &str, contents: &str| {
        let path = format!("/proc/{pid}/{file}");
        std::fs::write(&path, contents).at_path(Step::WriteIdMap, path.as_ref())
    };
    // Without privileges a group map needs that groups cannot be dropped (CVE-2014-8989).
    if mapping.is_single() {
        write("setgroups", "deny")?;
    }
    write("uid_map", &mapping.uid_map())?;
    write("gid_map", &mapping.gid_map())
}

/// Asks to be killed when the parent dies.
pub(crate) fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Becomes user and group 0 of the namespace, where these exist, and gives up all other groups.
pub(crate) fn become_root(mapping: &IdMapping) -> Result<(), Failure> {
    if mapping.is_single() {
        return Ok(());
    }
    rustix::thread::set_thread_groups(&[]).at(Step::BecomeRoot)?;
    let (gid, uid) = (Gid::ROOT, Uid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid).at(Step::BecomeRoot)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).at(Step::BecomeRoot)?;
    // A change of user clears the wish to die with the parent.
    die_with_parent().at(Step::BecomeRoot)
}

/// Waits until the parent has written the id maps. Fails if the parent has gone.
pub(crate) fn wait_for_go(go: &OwnedFd) -> io::Result<()> {
    let mut byte = [0];
    loop {
        match rustix::io::read(go, &mut byte) {
            Ok(1) => return Ok(()),
            Ok(_) => return Err(io::Error::from_raw_os_error(libc::ECHILD)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Raises the loopback interface of a new network namespace.
pub(crate) fn raise_loopback() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all-zero bytes are a valid `ifreq`: an empty name and no flags.
    #[allow(unsafe_code)]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).map_err(io::Error::other)?;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives until after the call.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
