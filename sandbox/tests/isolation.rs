//! What the command can neither see nor do.

use std::fs::{self, File};
use std::os::fd::AsRawFd;

use longshore_sandbox::{Mount, Network};

use crate::Test;
use crate::support::{Machine, output, text};

pub(crate) const TESTS: &[Test] = &[
    ("isolation::host_is_hidden", host_is_hidden),
    ("isolation::open_files_do_not_leak", open_files_do_not_leak),
    ("isolation::proc_is_masked", proc_is_masked),
    ("isolation::system_calls_are_denied", system_calls_are_denied),
    ("isolation::nested_sandboxes_are_refused", nested_sandboxes_are_refused),
    ("isolation::abstract_sockets_are_denied", abstract_sockets_are_denied),
    ("isolation::no_network_but_loopback", no_network_but_loopback),
    ("isolation::devices", devices),
];

fn host_is_hidden() {
    let machine = Machine::new();
    assert_eq!(text(&machine.spec(&["ls", "/"])), "bin\ndev\nproc\ntmp");
    let mounts = text(&machine.spec(&["cat", "/proc/self/mountinfo"]));
    let host = machine.directory.path().to_str().unwrap();
    for line in mounts.lines() {
        let point = line.split(' ').nth(4).unwrap();
        assert!(
            point == "/" || ["/dev", "/proc", "/tmp"].iter().any(|known| point.starts_with(known)),
            "unexpected mount {line}"
        );
        assert!(point == "/" || !line.contains(host), "{line} tells where the host keeps things");
    }
    let processes = text(&machine.shell("ls /proc | grep -c '^[0-9]'"));
    assert!(processes.parse::<u32>().unwrap() <= 4, "{processes} processes");
}

/// Row 51 of the fault table. A file that was opened without CLOEXEC, as other code in the caller's process may do.
fn open_files_do_not_leak() {
    let machine = Machine::new();
    fs::write(machine.path("secret"), "secret").unwrap();
    let secret = File::open(machine.path("secret")).unwrap();
    let inheritable = rustix_dup(&secret);
    assert_eq!(
        text(&machine.shell("ls /proc/self/fd; true")),
        "0\n1\n2\n3",
        "3 is the directory that ls reads"
    );
    drop(inheritable);
}

fn rustix_dup(file: &File) -> File {
    // A shell is the simplest way to an inheritable descriptor without unsafe code: `/proc` opens it anew, and the flag
    // is cleared through the descriptor's number.
    let copy = file.try_clone().unwrap();
    nix::fcntl::fcntl(&copy, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    assert!(copy.as_raw_fd() > 2);
    copy
}

fn proc_is_masked() {
    let machine = Machine::new();
    let script = "for file in kcore keys sysrq-trigger timer_list; do \
        if [ -e /proc/$file ]; then cat /proc/$file; fi; done; \
        echo 1 2>/dev/null >/proc/sys/kernel/printk || echo denied; \
        echo 1 2>/dev/null >/proc/sys/vm/drop_caches || echo denied";
    assert_eq!(text(&machine.shell(script)), "denied\ndenied");
}

fn system_calls_are_denied() {
    let machine = Machine::new();
    let table = [
        "busybox mount -t tmpfs none /tmp",
        "busybox unshare -U true",
        "busybox unshare -m true",
        "busybox nsenter -t 1 -m true",
        "busybox mknod /tmp/device b 8 0",
        "busybox chroot / true",
        "busybox hostname other",
        "busybox kill -9 1 && busybox sleep 0.2 && [ ! -d /proc/1 ]",
    ];
    for command in table {
        assert!(!output(&machine.shell(command)).status.success(), "{command}");
    }
    for name in
        ["mount", "unshare_user", "tiocsti", "clone3", "io_uring", "keyctl", "bpf", "vsock", "ptrace_pid_one"]
    {
        assert_eq!(crate::workers::try_inside(&machine, name), "denied", "{name}");
    }
}

/// Row 57 of the fault table: the inner sandbox says that a seccomp filter is in its way.
fn nested_sandboxes_are_refused() {
    let machine = Machine::new();
    let program = fs::read_link("/proc/self/exe").unwrap();
    let mut spec = machine.spec(&["/program", "--nested"]);
    spec.mounts.push(Mount::read_only(program, "/program"));
    assert_eq!(
        text(&spec),
        "cannot make a user namespace: a seccomp filter of the surrounding container forbids it; start the container \
         with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined` (Docker, Podman) or a \
         `seccompProfile` of type `Unconfined` (Kubernetes)"
    );
}

/// Row 51: session buses and container engines listen on abstract sockets, which no mount namespace hides.
fn abstract_sockets_are_denied() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let version: i64 = fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap()
        .split('.')
        .take(2)
        .map(|part| part.parse::<i64>().unwrap())
        .fold(0, |sum, part| sum * 1000 + part);
    assert!(version >= 6012, "the test needs Landlock's scopes, which Linux has since 6.12");
    let address = SocketAddr::from_abstract_name("longshore-sandbox-test").unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let machine = Machine::new();
    assert_eq!(crate::workers::try_inside(&machine, "abstract_socket"), "denied");
}

fn no_network_but_loopback() {
    let machine = Machine::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let accept = std::thread::spawn(move || listener.accept().map(drop));
    let reach = format!("busybox nc -w 2 127.0.0.1 {port} </dev/null");
    let mut spec = machine.shell(&reach);
    assert!(output(&spec).status.success(), "the host's network is there by default");
    accept.join().unwrap().unwrap();
    spec.network = Network::None;
    assert!(!output(&spec).status.success());
    let mut spec = machine.shell(
        "cat /proc/net/dev | busybox grep -c :; busybox ip addr show lo | busybox grep -c 'inet 127.0.0.1'",
    );
    spec.network = Network::None;
    assert_eq!(text(&spec), "1\n1");
}

fn devices() {
    let machine = Machine::new();
    let script = "ls /dev | busybox tr '\\n' ' '; echo; echo x >/dev/null; busybox head -c 3 /dev/zero | busybox wc -c; \
        busybox head -c 3 /dev/urandom | busybox wc -c; echo error >/dev/stderr; echo output >/dev/stdout; \
        touch /dev/shm/x /tmp/x; touch /dev/x 2>/dev/null || echo denied";
    let spec = machine.shell(script);
    assert_eq!(
        text(&spec),
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero \n3\n3\noutput\ndenied"
    );
    assert_eq!(output(&spec).error, b"error\n");
}
