//! `make bench`: each row runs Longshore and a peer in turn on the same data, and says whether it reached what it must.

mod app;
mod bench;
mod contest;
mod data;
mod document;
mod machine;
mod measure;
mod options;
mod profile;
mod registry;
mod report;
mod rows;
mod series;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::bench::Bench;
use crate::options::Options;

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|argument| argument == measure::SUBCOMMAND).is_some() {
        return measure::child(&arguments.collect::<Vec<OsString>>());
    }
    let options = Options::parse();
    if options.list {
        for row in rows::ALL {
            println!("{:20} {}", row.id, row.scenario);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(code) = in_scratch(&options)? {
        return Ok(code);
    }
    let wanted = rows::wanted(&options.rows)?;
    let bench = Bench::new(options)?;
    println!("{}", bench.machine.describe());
    let mut failed = Vec::new();
    for row in wanted {
        let report = rows::run(row, &bench);
        print!("{}", report.for_terminal());
        bench.keep(&report)?;
        if report.failure.is_some() {
            failed.push(row.id);
        }
    }
    if bench.options.quick {
        println!("These were quick runs on little data: no row is judged by them.");
    } else {
        document::write(&bench)?;
        println!("Written to {}", bench.options.document().display());
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    // A row that does not reach what it must is a finding; one that could not run is none.
    println!("These rows failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// Starts the program again with the temporary folder in the scratch folder: servers and programs keep their data there.
fn in_scratch(options: &Options) -> anyhow::Result<Option<ExitCode>> {
    let temporary = options.scratch().join("tmp");
    if std::env::temp_dir() == temporary {
        return Ok(None);
    }
    // What a run that was ended left.
    bench::remove(&temporary)?;
    fs_err::create_dir_all(&temporary)?;
    let status = std::process::Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env("TMPDIR", &temporary)
        .status()
        .context("cannot start the benchmark again")?;
    Ok(Some(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))))
}
