//! `longshore image snapshot`.

use std::path::PathBuf;

use longshore_image::snapshot::{Scope, Snapshot};

use crate::output;

/// The arguments of `image snapshot`.
#[derive(Debug, clap::Args)]
pub(crate) struct SnapshotArguments {
    /// The directory; what is mounted below it is left out
    directory: PathBuf,
    /// The file that the snapshot is written to
    #[arg(short, long, value_name = "FILE", default_value = "longshore.snapshot")]
    output: PathBuf,
    /// A file or directory that is left out; may be given several times
    #[arg(long, value_name = "PATH")]
    exclude: Vec<PathBuf>,
}

/// Takes the snapshot.
pub(crate) fn run(arguments: &SnapshotArguments) -> anyhow::Result<()> {
    let mut excluded = arguments.exclude.clone();
    excluded.push(arguments.output.clone());
    let snapshot = Snapshot::take(&Scope::new(&arguments.directory, &excluded)?)?;
    snapshot.write(&arguments.output)?;
    tracing::info!("Wrote {} files to {}", snapshot.len(), output::symbol(arguments.output.display()));
    Ok(())
}
