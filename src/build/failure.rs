//! A phase that failed, with the exit code of the lifecycle's program.

use longshore_lifecycle::ExitCode;
use longshore_lifecycle::analyze::AnalyzeError;
use longshore_lifecycle::export::ExportError;
use longshore_lifecycle::rebase::RebaseError;
use longshore_lifecycle::restore::RestoreError;

/// A phase that ran in the sandbox and has said itself why it failed.
#[derive(Debug, thiserror::Error)]
#[error("the {phase} failed: {}", meaning(*code))]
pub(crate) struct PhaseFailed {
    /// The program of the phase.
    pub(crate) phase: &'static str,
    /// Its exit code.
    pub(crate) code: u8,
}

/// What an exit code of the lifecycle says (platform spec, "Outputs" of each phase), for people.
fn meaning(code: u8) -> String {
    let text = match code {
        11 => "it does not know the Platform API version",
        12 => "a buildpack is for a Buildpack API version that is not known",
        20 => {
            "no group of buildpacks is for this app; run again with `--verbose` to see what each of them says, \
             or name buildpacks with `--buildpack`"
        }
        21 => "no group of buildpacks is for this app, and some could not tell; see above",
        51 => "a buildpack could not build the app; see above",
        52 => "what a buildpack wrote cannot be used; see above",
        other => return format!("exit code {other}; see above"),
    };
    format!("{text} (exit code {code})")
}

/// The exit code of the lifecycle that an error stands for, if a phase failed.
pub(crate) fn lifecycle_code(error: &(dyn std::error::Error + 'static)) -> Option<u8> {
    let code = |code: ExitCode| Some(u8::from(code));
    if let Some(failed) = error.downcast_ref::<PhaseFailed>() {
        return Some(failed.code);
    }
    if let Some(failed) = error.downcast_ref::<AnalyzeError>() {
        return code(failed.exit_code());
    }
    if let Some(failed) = error.downcast_ref::<RestoreError>() {
        return code(failed.exit_code());
    }
    if let Some(failed) = error.downcast_ref::<RebaseError>() {
        return code(failed.exit_code());
    }
    error.downcast_ref::<ExportError>().and_then(|failed| code(failed.exit_code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lifecycles_codes_are_found_in_a_chain_of_causes() {
        let failed = anyhow::Error::new(PhaseFailed { phase: "detector", code: 20 }).context("cannot build");
        assert_eq!(failed.chain().find_map(lifecycle_code), Some(20));
        assert!(format!("{failed:#}").contains("--buildpack"));
        assert_eq!(anyhow::anyhow!("other").chain().find_map(lifecycle_code), None);
    }
}
