//! The command line.

use std::path::{Path, PathBuf};

use longshore_test_support::repository;

/// Longshore's benchmark.
#[derive(Debug, clap::Parser)]
pub(crate) struct Options {
    /// The rows to run; all of them without any
    pub(crate) rows: Vec<String>,
    /// List the rows
    #[arg(long)]
    pub(crate) list: bool,
    /// Little data and few runs, to see whether everything still runs; nothing is judged or written
    #[arg(long)]
    pub(crate) quick: bool,
    /// How often each program runs [default: 9, 5 where a run takes more than 3 seconds, and 3 where it takes more than 10]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) runs: Option<u64>,
    /// The folder with the reference lifecycle's `creator` and `exporter`
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) lifecycle: Option<PathBuf>,
    /// Where data and results are kept, about 12 GB [default: target/bench]
    #[arg(long, value_name = "DIRECTORY")]
    scratch: Option<PathBuf>,
    /// The program that is measured [default: what scripts/build.sh builds]
    #[arg(long, value_name = "FILE")]
    longshore: Option<PathBuf>,
    /// The document that the table is written into [default: docs/performance.md]
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

impl Options {
    pub(crate) fn scratch(&self) -> PathBuf {
        absolute(self.scratch.as_deref(), "target/bench")
    }

    pub(crate) fn document(&self) -> PathBuf {
        absolute(self.document.as_deref(), "docs/performance.md")
    }

    /// The folders of Cargo's profiles are side by side.
    pub(crate) fn longshore(&self) -> anyhow::Result<PathBuf> {
        match &self.longshore {
            Some(path) => Ok(std::path::absolute(path)?),
            None => Ok(std::env::current_exe()?.with_file_name("../release/longshore")),
        }
    }
}

fn absolute(given: Option<&Path>, otherwise: &str) -> PathBuf {
    match given {
        Some(path) => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        None => repository::root().join(otherwise),
    }
}
