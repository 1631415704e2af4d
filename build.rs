//! Puts the launcher into the program, so that one file is all there is to install.
//!
//! `LONGSHORE_LAUNCHER` names the launcher's executable, which is built before. Without it, the program looks for a
//! `launcher` beside itself when it needs one.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=LONGSHORE_LAUNCHER");
    let launcher = env::var("LONGSHORE_LAUNCHER").ok().filter(|path| !path.is_empty());
    let expression = match &launcher {
        Some(path) => {
            let path = fs::canonicalize(path)?;
            println!("cargo::rerun-if-changed={}", path.display());
            format!("Some(include_bytes!({:?}))", path.display().to_string())
        }
        None => "None".to_owned(),
    };
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    fs::write(Path::new(&out).join("launcher.rs"), expression)
}
