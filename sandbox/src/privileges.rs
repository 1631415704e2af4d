//! The last steps before the command: from root of the namespace to a user who may do nothing.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::confinement::Confinement;
use crate::error::Step;
use crate::mapping::IdMapping;
use crate::message::{At, Failure};
use crate::spec::{Capabilities, SandboxSpec};

/// What container engines leave to root.
const CONTAINER: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Becomes the command. Only returns if that fails.
pub(crate) fn execute(
    spec: &SandboxSpec,
    mapping: &IdMapping,
    confinement: &Confinement,
) -> Result<Infallible, Failure> {
    rustix::process::setsid().at(Step::StartProcess)?;
    close_on_exec()?;
    spec.limits.apply().at(Step::LimitResources)?;
    drop_privileges(spec, mapping).at(Step::DropPrivileges)?;
    rustix::process::chdir(&spec.working_directory)
        .at_path(Step::EnterWorkingDirectory, &spec.working_directory)?;
    confinement.apply().at(Step::Confine)?;
    reset_signals().at(Step::StartProcess)?;
    execute_program(spec)
}

/// No open file of the caller gets into the command, apart from its input, output and errors.
fn close_on_exec() -> Result<(), Failure> {
    // SAFETY: marks descriptors, and touches no memory. What holds them is still there until the exec.
    #[allow(unsafe_code)]
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == -1 { Err(io::Error::last_os_error()).at(Step::DropPrivileges) } else { Ok(()) }
}

fn drop_privileges(spec: &SandboxSpec, mapping: &IdMapping) -> io::Result<()> {
    let kept = match spec.capabilities {
        Capabilities::Container if spec.uid == 0 => CONTAINER,
        _ => CapabilitySet::empty(),
    };
    drop_from_bounding_set(kept)?;
    rustix::thread::clear_ambient_capability_set()?;
    // With a single id the kernel refuses, and the caller's groups stay; nothing that they open is mounted.
    if !mapping.is_single() {
        rustix::thread::set_thread_groups(&[])?;
    }
    let (gid, uid) = (Gid::from_raw(spec.gid), Uid::from_raw(spec.uid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

fn drop_from_bounding_set(kept: CapabilitySet) -> io::Result<()> {
    for number in 0..u64::BITS {
        if kept.bits() & (1 << number) != 0 {
            continue;
        }
        // SAFETY: takes two numbers, and touches no memory.
        #[allow(unsafe_code)]
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) };
        if result == -1 {
            let error = io::Error::last_os_error();
            // The first number that the kernel does not know.
            return if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}

/// Signals as a new program expects them: Rust ignores SIGPIPE, and pid 1 blocks all.
fn reset_signals() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs no code of this process.
        #[allow(unsafe_code)]
        unsafe {
            sigaction(signal, &default)?;
        }
    }
    Ok(SigSet::empty().thread_set_mask()?)
}

fn execute_program(spec: &SandboxSpec) -> Result<Infallible, Failure> {
    let program = spec.command.first().map(PathBuf::from).unwrap_or_default();
    let words = |error: std::ffi::NulError| io::Error::new(io::ErrorKind::InvalidInput, error);
    let mut arguments = spec
        .command
        .iter()
        .map(|word| CString::new(word.as_bytes()).map_err(words))
        .collect::<io::Result<Vec<_>>>()
        .at_path(Step::Execute, &program)?;
    if let (Some(first), Some(name)) = (arguments.first_mut(), &spec.argument_zero) {
        *first = CString::new(name.as_bytes()).map_err(words).at_path(Step::Execute, &program)?;
    }
    let environment = spec
        .environment
        .iter()
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).map_err(words))
        .collect::<io::Result<Vec<_>>>()
        .at_path(Step::Execute, &program)?;
    let mut failure = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in candidates(&program, &spec.environment) {
        let path =
            CString::new(candidate.as_os_str().as_bytes()).map_err(words).at_path(Step::Execute, &program)?;
        let Err(error) = nix::unistd::execve(&path, &arguments, &environment);
        // As in a shell: a program that may not be run is worth more as an answer than one that is not there.
        if !matches!(error, nix::Error::ENOENT | nix::Error::ENOTDIR) {
            failure = error.into();
        }
    }
    Err(Failure::new(Step::Execute, Some(&program), &failure))
}

/// Where a program may be.
fn candidates(program: &Path, environment: &[(std::ffi::OsString, std::ffi::OsString)]) -> Vec<PathBuf> {
    if program.as_os_str().as_bytes().contains(&b'/') {
        return vec![program.to_owned()];
    }
    let path = environment.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    std::env::split_paths(path.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin")))
        .map(|directory| directory.join(program))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_the_path_of_the_sandbox() {
        let environment = vec![("PATH".into(), "/a:/b".into())];
        let table = [("sh", vec!["/a/sh", "/b/sh"]), ("/bin/sh", vec!["/bin/sh"]), ("./sh", vec!["./sh"])];
        for (program, found) in table {
            let found: Vec<PathBuf> = found.into_iter().map(PathBuf::from).collect();
            assert_eq!(candidates(Path::new(program), &environment), found);
        }
    }
}
