//! Signals of the caller's process, passed on to the command.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{SigSet, Signal};

use crate::run::{Running, Signals};

/// What people and service managers send to a command.
const PASSED_ON: &[Signal] = &[
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
];

/// Passes the signals of this process on to a sandbox.
#[derive(Debug, Clone)]
pub struct SignalForwarder {
    to: Arc<Mutex<Option<Signals>>>,
}

impl SignalForwarder {
    /// Takes over the signals of this process. Until a sandbox is [attached](Self::attach) they end the process, with
    /// exit code 128 and their number, as they would without this.
    ///
    /// Call it before the process has other threads: those would go on to be interrupted.
    ///
    /// # Errors
    /// When the signals cannot be blocked, or no thread can be started.
    pub fn start() -> io::Result<Self> {
        let signals: SigSet = PASSED_ON.iter().copied().collect();
        signals.thread_block()?;
        let forwarder = Self { to: Arc::default() };
        let inside = forwarder.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            while let Ok(signal) = signals.wait() {
                inside.pass_on(signal);
            }
        })?;
        Ok(forwarder)
    }

    /// From now on signals go to this sandbox.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn attach(&self, running: &Running) -> io::Result<()> {
        let signals = running.signals()?;
        *self.to.lock().unwrap_or_else(PoisonError::into_inner) = Some(signals);
        Ok(())
    }

    fn pass_on(&self, signal: Signal) {
        match &*self.to.lock().unwrap_or_else(PoisonError::into_inner) {
            // It fails when the command has just ended, and then there is nobody to tell.
            Some(signals) => drop(signals.send(signal as i32)),
            None if matches!(signal, Signal::SIGWINCH) => {}
            None => std::process::exit(128 + signal as i32),
        }
    }
}
