//! Functions in a user namespace, and roles that this program plays for other tests.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command};

use longshore_sandbox::{IdMapping, Mount, Worker, WorkerFailure, WorkerFunction, WorkerInput, give_tree};

use crate::Test;
use crate::support::{GID, Machine, UID, mapping, text};

pub(crate) const TESTS: &[Test] = &[
    ("workers::change_owners_inside_the_mapping", change_owners_inside_the_mapping),
    ("workers::answers_and_failures", answers_and_failures),
];

pub(crate) const TABLE: &[(&str, WorkerFunction)] = &[("echo", echo), ("fail", fail), ("own", own)];

fn echo(input: WorkerInput) -> Result<String, WorkerFailure> {
    let WorkerInput { arguments, descriptors } = input;
    Ok(format!("{arguments:?} {}", descriptors.len()))
}

fn fail(_: WorkerInput) -> Result<String, WorkerFailure> {
    Err(io::Error::other("the reason").into())
}

/// Makes a file in the directory, owned by user 5, where that is possible.
fn own(input: WorkerInput) -> Result<String, WorkerFailure> {
    use rustix::fs::{Gid, Mode, OFlags, Uid};
    let WorkerInput { descriptors, .. } = input;
    let directory = descriptors[0].as_fd();
    let file =
        rustix::fs::openat(directory, "file", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644))?;
    let owned = rustix::fs::fchown(&file, Some(Uid::from_raw(5)), Some(Gid::from_raw(6)));
    // The host's root is nobody here.
    let other = rustix::fs::fchown(&file, Some(Uid::from_raw(1 << 20)), None);
    Ok(format!("{} {}", owned.is_ok(), other.is_ok()))
}

fn answers_and_failures() {
    let mapping = IdMapping::detect(UID, GID);
    let file = File::open("/dev/null").unwrap();
    let answer =
        Worker::new("echo").argument("a").argument(OsString::from("b")).descriptor(&file).run(&mapping);
    assert_eq!(answer.unwrap(), r#"["a", "b"] 1"#);
    assert_eq!(Worker::new("fail").run(&mapping).unwrap_err().to_string(), "the reason");
    assert_eq!(Worker::new("none").run(&mapping).unwrap_err().to_string(), "there is no worker named none");
}

fn change_owners_inside_the_mapping() {
    let machine = Machine::new();
    let target = machine.path("target");
    fs::create_dir(&target).unwrap();
    let mapping = IdMapping::detect(UID, GID);
    give_tree(&target, &mapping, 0, 0).unwrap();
    let directory = File::open(&target).unwrap();
    let answer = Worker::new("own").descriptor(&directory).run(&mapping).unwrap();
    assert_eq!(answer, format!("{} false", !mapping.is_single()));
    if let IdMapping::Shifted { base, .. } = mapping {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(target.join("file")).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (base + 5, base + 6));
    }
}

/// Starts this program as a caller of its own, so that a test can kill it.
pub(crate) fn spawn_caller(machine: &Machine, mark: &str) -> Child {
    Command::new("/proc/self/exe").arg("--as-caller").arg(machine.directory.path()).arg(mark).spawn().unwrap()
}

/// Tries something forbidden inside a sandbox; "denied" if it was.
pub(crate) fn try_inside(machine: &Machine, what: &str) -> String {
    let mut spec = machine.spec(&["/attempt", "--attempt", what]);
    let program = fs::read_link("/proc/self/exe").unwrap();
    spec.mounts.push(Mount::read_only(program, "/attempt"));
    text(&spec)
}

/// Plays a role if this process was started for one.
pub(crate) fn play_role() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "--as-caller", directory, mark] => as_caller(Path::new(directory), mark),
        [_, "--nested"] => {
            let spec = longshore_sandbox::SandboxSpec::new(vec!["/".into()], "/tmp", vec!["/bin/id".into()]);
            println!("{}", longshore_sandbox::run(&spec, &mapping(&spec)).unwrap_err());
            std::process::exit(0);
        }
        [_, "--attempt", what] => {
            println!("{}", if attempt(what) { "allowed" } else { "denied" });
            std::process::exit(0);
        }
        _ => {}
    }
}

fn as_caller(directory: &Path, mark: &str) {
    let command = vec!["/bin/sleep".into(), mark.into()];
    let mut spec = longshore_sandbox::SandboxSpec::new(
        vec![directory.join("layer")],
        directory.join("scratch"),
        command,
    );
    (spec.uid, spec.gid) = (UID, GID);
    let status = longshore_sandbox::run(&spec, &mapping(&spec)).unwrap();
    std::process::exit(status.code().unwrap_or(1));
}

/// Whether the kernel lets this process do it.
fn attempt(what: &str) -> bool {
    use nix::libc;
    let call = |number, arguments: [usize; 3]| raw_call(number, arguments).err();
    let pointer = c"/tmp".as_ptr() as usize;
    let failure = match what {
        "mount" => call(libc::SYS_mount, [pointer, pointer, c"tmpfs".as_ptr() as usize]),
        "unshare_user" => call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0]),
        "tiocsti" => call(libc::SYS_ioctl, [0, libc::TIOCSTI as usize, pointer]),
        "clone3" => call(libc::SYS_clone3, [0, 0, 0]),
        "io_uring" => call(libc::SYS_io_uring_setup, [1, 0, 0]),
        "keyctl" => call(libc::SYS_keyctl, [0, 0, 0]),
        "bpf" => call(libc::SYS_bpf, [0, 0, 0]),
        "vsock" => call(libc::SYS_socket, [libc::AF_VSOCK as usize, libc::SOCK_STREAM as usize, 0]),
        "ptrace_pid_one" => fs::read_link("/proc/1/exe").err(),
        "abstract_socket" => {
            use std::os::linux::net::SocketAddrExt;
            use std::os::unix::net::{SocketAddr, UnixStream};
            let address = SocketAddr::from_abstract_name("longshore-sandbox-test").unwrap();
            UnixStream::connect_addr(&address).err()
        }
        other => panic!("unknown attempt {other}"),
    };
    // Anything else would mean that the kernel looked at the arguments, and only found those wrong.
    let denials = [libc::EPERM, libc::EACCES, if what == "clone3" { libc::ENOSYS } else { libc::EPERM }];
    match failure.and_then(|error| error.raw_os_error()) {
        Some(errno) => !denials.contains(&errno),
        None => true,
    }
}

#[allow(unsafe_code)]
fn raw_call(number: nix::libc::c_long, [one, two, three]: [usize; 3]) -> io::Result<()> {
    // SAFETY: the pointers among the arguments are C strings without end of life, and the sandbox denies every call.
    let result = unsafe { nix::libc::syscall(number, one, two, three, 0_usize, 0_usize) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
