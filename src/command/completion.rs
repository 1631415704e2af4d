//! `longshore completion SHELL`.

use clap::CommandFactory;

/// Which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell to complete for
    shell: clap_complete::Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = super::Arguments::command();
    clap_complete::generate(arguments.shell, &mut command, "longshore", &mut std::io::stdout());
    Ok(())
}
