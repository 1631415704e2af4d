//! Runs a program and stops it, or lets its disk be full, at any call that changes files.
//!
//! The kernel's own debugging interface is used, so that the program needs no cooperation, links nothing, and is killed
//! as hard as it can be. Only the program's own process is watched, not those that it starts; they end with it.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What happens to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: its calls are only noted.
    None,
    /// It is killed before its call of this number, counted from 0.
    KillBefore(usize),
    /// From its call of this number on there is no space for anything.
    FullFrom(usize),
}

/// A call that changes files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its name without `at` and numbers: `write`, `sync`, `sync-all`, `rename`, `exchange`, `create`, ...
    pub name: &'static str,
    /// The file or directory; of a rename or link the old one.
    pub path: PathBuf,
    /// The new name of a rename or link.
    pub new_path: Option<PathBuf>,
}

/// Who is told of each call that changed files, while no other is under way.
pub type Observer<'a> = &'a mut dyn FnMut(&Call);

/// How a program ended.
#[derive(Debug)]
pub struct Faulted {
    /// The exit code; `None` when it was killed.
    pub code: Option<i32>,
    /// What it wrote to standard error.
    pub stderr: String,
    /// Its calls that change files, as far as it came.
    pub calls: Vec<Call>,
}

/// Runs `command` with a fault among its calls that change files in the folder `within`.
///
/// # Panics
/// When the program cannot be started or watched.
#[must_use]
pub fn run(command: &Command, within: &Path, fault: Fault) -> Faulted {
    watch(command, within, fault, None)
}

/// Runs `command` and tells an observer of its calls that change files in the folder `within`.
///
/// # Panics
/// When the program cannot be started or watched.
#[must_use]
pub fn observe(command: &Command, within: &Path, observer: Observer<'_>) -> Faulted {
    watch(command, within, Fault::None, Some(observer))
}

fn watch<'a>(command: &Command, within: &'a Path, fault: Fault, observer: Option<Observer<'a>>) -> Faulted {
    let mut stderr = tempfile::tempfile().expect("a file for standard error");
    // The shell waits until it is watched, and then becomes the program.
    let mut shell = Command::new("sh");
    shell.args(["-c", "read go; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    shell.env_clear();
    shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        shell.current_dir(directory);
    }
    shell.stdin(Stdio::piped()).stdout(Stdio::null());
    shell.stderr(stderr.try_clone().expect("standard error"));
    #[expect(clippy::zombie_processes, reason = "who watches a process also waits for it")]
    let mut child = shell.spawn().expect("a shell");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let options = Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACESYSGOOD;
    ptrace::seize(pid, options).expect("the right to watch a process; gdb and strace need it too");
    ptrace::interrupt(pid).expect("a process that is watched");
    child.stdin.take().expect("a pipe").write_all(b"go\n").expect("a shell that reads");
    let mut watch = Watch {
        pid,
        within,
        fault,
        observer,
        calls: Vec::new(),
        inside: HashMap::new(),
        changing: None,
        waiting: VecDeque::new(),
    };
    let code = watch.run();
    let mut text = String::new();
    stderr.seek(SeekFrom::Start(0)).and_then(|_| stderr.read_to_string(&mut text)).expect("standard error");
    Faulted { code, stderr: text, calls: watch.calls }
}

struct Watch<'a> {
    pid: Pid,
    within: &'a Path,
    fault: Fault,
    observer: Option<Observer<'a>>,
    calls: Vec<Call>,
    /// The threads that are inside of a call, and whether it is to fail.
    inside: HashMap<Pid, bool>,
    /// The thread that is inside of a call that changes files, and the number of the call.
    changing: Option<(Pid, usize)>,
    /// The threads that are about to change files when it is done, so that the calls have an order.
    waiting: VecDeque<Pid>,
}

impl Watch<'_> {
    fn run(&mut self) -> Option<i32> {
        // Other tests of this process have children of their own.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(None, Some(flags)).expect("a process to wait for") {
                WaitStatus::Exited(pid, code) if pid == self.pid => return Some(code),
                WaitStatus::Signaled(pid, ..) if pid == self.pid => return None,
                WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..) => self.forget(thread),
                WaitStatus::PtraceSyscall(thread) => self.call(thread),
                WaitStatus::PtraceEvent(thread, ..) => go_on(thread, None),
                WaitStatus::Stopped(thread, signal) => go_on(thread, Some(signal)),
                _ => {}
            }
        }
    }

    /// A thread is before a call, or behind it.
    fn call(&mut self, thread: Pid) {
        match self.inside.remove(&thread) {
            Some(fails) => self.leave(thread, fails),
            None => self.enter(thread),
        }
    }

    fn leave(&mut self, thread: Pid, fails: bool) {
        let registers = ptrace::getregs(thread).ok();
        if let (Some(mut registers), true) = (registers, fails) {
            registers.rax = (-i64::from(libc::ENOSPC)).cast_unsigned();
            let _ = ptrace::setregs(thread, registers);
        }
        if let Some((_, number)) = self.changing.take_if(|(changing, _)| *changing == thread) {
            let is_done = !fails && registers.is_some_and(|registers| registers.rax.cast_signed() >= 0);
            if let (true, Some(observer)) = (is_done, &mut self.observer) {
                observer(&self.calls[number]);
            }
        }
        go_on(thread, None);
        self.next();
    }

    /// Lets the threads that wait make their calls, until one changes files.
    fn next(&mut self) {
        while self.changing.is_none() {
            let Some(thread) = self.waiting.pop_front() else { return };
            self.enter(thread);
        }
    }

    fn forget(&mut self, thread: Pid) {
        self.inside.remove(&thread);
        self.waiting.retain(|waiting| *waiting != thread);
        self.changing.take_if(|(changing, _)| *changing == thread);
        self.next();
    }

    fn enter(&mut self, thread: Pid) {
        let Ok(mut registers) = ptrace::getregs(thread) else { return };
        let mut fails = false;
        if let Some((call, allocates)) = self.decode(thread, &registers) {
            if self.changing.is_some() {
                self.waiting.push_back(thread);
                return;
            }
            let number = self.calls.len();
            self.calls.push(call);
            self.changing = Some((thread, number));
            match self.fault {
                Fault::KillBefore(at) if at == number => {
                    let _ = kill(self.pid, Signal::SIGKILL);
                }
                Fault::FullFrom(from) if number >= from && allocates => {
                    fails = true;
                    registers.orig_rax = u64::MAX;
                    let _ = ptrace::setregs(thread, registers);
                }
                _ => {}
            }
        }
        self.inside.insert(thread, fails);
        go_on(thread, None);
    }

    /// The call, if it changes files in the folder, and whether it needs space on the disk.
    fn decode(&self, thread: Pid, registers: &libc::user_regs_struct) -> Option<(Call, bool)> {
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10];
        let fd = |index: usize| fs::read_link(format!("/proc/{thread}/fd/{}", arguments[index] as i32)).ok();
        let at = |directory: Option<usize>, name: usize| {
            let name = text(thread, arguments[name])?;
            let directory = match directory.map(|index| arguments[index] as i32) {
                None | Some(libc::AT_FDCWD) => fs::read_link(format!("/proc/{thread}/cwd")).ok(),
                Some(descriptor) => fs::read_link(format!("/proc/{thread}/fd/{descriptor}")).ok(),
            };
            Some(directory?.join(name))
        };
        let (name, path, new_path, allocates) = match registers.orig_rax.cast_signed() {
            libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev => ("write", fd(0), None, true),
            libc::SYS_copy_file_range => ("write", fd(2), None, true),
            libc::SYS_sendfile => ("write", fd(0), None, true),
            libc::SYS_ftruncate => ("truncate", fd(0), None, true),
            libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_syncfs => {
                // Bytes may get their place only now; names have theirs.
                let path = fd(0);
                let is_file = path.as_deref().is_some_and(Path::is_file);
                let is_all = registers.orig_rax.cast_signed() == libc::SYS_syncfs;
                (if is_all { "sync-all" } else { "sync" }, path, None, is_file)
            }
            libc::SYS_fchmod | libc::SYS_fchown => ("attributes", fd(0), None, false),
            libc::SYS_chmod | libc::SYS_chown | libc::SYS_lchown => ("attributes", at(None, 0), None, false),
            libc::SYS_fchmodat | libc::SYS_fchownat | libc::SYS_utimensat if arguments[1] != 0 => {
                ("attributes", at(Some(0), 1), None, false)
            }
            libc::SYS_utimensat => ("attributes", fd(0), None, false),
            libc::SYS_openat if arguments[2] as i32 & (libc::O_CREAT | libc::O_TRUNC) != 0 => {
                ("create", at(Some(0), 1), None, true)
            }
            libc::SYS_mkdir => ("create", at(None, 0), None, true),
            libc::SYS_mkdirat => ("create", at(Some(0), 1), None, true),
            libc::SYS_symlink => ("create", at(None, 1), None, true),
            libc::SYS_symlinkat => ("create", at(Some(1), 2), None, true),
            libc::SYS_link => ("link", at(None, 0), at(None, 1), true),
            libc::SYS_linkat => ("link", at(Some(0), 1), at(Some(2), 3), true),
            libc::SYS_rename => ("rename", at(None, 0), at(None, 1), false),
            libc::SYS_renameat2 if registers.r8 & u64::from(libc::RENAME_EXCHANGE) != 0 => {
                ("exchange", at(Some(0), 1), at(Some(2), 3), false)
            }
            libc::SYS_renameat | libc::SYS_renameat2 => ("rename", at(Some(0), 1), at(Some(2), 3), false),
            libc::SYS_unlink | libc::SYS_rmdir => ("remove", at(None, 0), None, false),
            libc::SYS_unlinkat => ("remove", at(Some(0), 1), None, false),
            _ => return None,
        };
        let path = path?;
        let is_within = |path: &Path| path.starts_with(self.within);
        (is_within(&path) || new_path.as_deref().is_some_and(is_within))
            .then_some((Call { name, path, new_path }, allocates))
    }
}

fn go_on(thread: Pid, signal: Option<Signal>) {
    // A thread that was killed meanwhile does not go on.
    let _ = ptrace::syscall(thread, signal);
}

/// A text in a stopped thread's memory.
fn text(thread: Pid, address: u64) -> Option<PathBuf> {
    let mut memory = File::open(format!("/proc/{thread}/mem")).ok()?;
    memory.seek(SeekFrom::Start(address)).ok()?;
    let mut bytes = Vec::new();
    let mut part = [0; 256];
    while !bytes.contains(&0) {
        let count = memory.read(&mut part).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
    }
    bytes.truncate(bytes.iter().position(|byte| *byte == 0)?);
    Some(std::ffi::OsString::from_vec(bytes).into())
}
