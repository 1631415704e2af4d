//! The programs of the lifecycle and their names.

use std::path::Path;

/// A phase of the lifecycle, which is a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Phase {
    Analyze,
    Detect,
    Restore,
    Extend,
    Build,
    Export,
    Create,
    Rebase,
}

/// Every phase: the name of its program, and its name after `lifecycle`.
const NAMES: &[(Phase, &str, &str)] = &[
    (Phase::Detect, "detector", "detect"),
    (Phase::Analyze, "analyzer", "analyze"),
    (Phase::Restore, "restorer", "restore"),
    (Phase::Extend, "extender", "extend"),
    (Phase::Build, "builder", "build"),
    (Phase::Export, "exporter", "export"),
    (Phase::Rebase, "rebaser", "rebase"),
    (Phase::Create, "creator", "create"),
];

impl Phase {
    /// By the path of the program.
    pub(super) fn of_program(program: &str) -> Option<Self> {
        let name = Path::new(program).file_stem()?;
        NAMES.iter().find(|(_, known, _)| name == *known).map(|(phase, ..)| *phase)
    }

    /// By the first argument of `lifecycle`, which may be a path.
    pub(super) fn of_subcommand(name: &str) -> Option<Self> {
        let name = Path::new(name).file_name()?;
        NAMES.iter().find(|(_, _, known)| name == *known).map(|(phase, ..)| *phase)
    }

    pub(super) fn subcommands() -> String {
        NAMES.iter().map(|(_, _, name)| *name).collect::<Vec<_>>().join(", ")
    }

    /// How many positional arguments are allowed.
    pub(super) fn takes(self, arguments: usize) -> bool {
        match self {
            Self::Analyze | Self::Create => arguments == 1,
            Self::Export | Self::Rebase => arguments >= 1,
            Self::Detect | Self::Restore | Self::Extend | Self::Build => arguments == 0,
        }
    }

    pub(super) fn program(self) -> &'static str {
        NAMES.iter().find(|(phase, ..)| *phase == self).map_or("lifecycle", |(_, program, _)| program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_have_the_noun_and_subcommands_the_verb() {
        for (phase, program, subcommand) in NAMES {
            assert_eq!(Phase::of_program(program), Some(*phase));
            assert_eq!(Phase::of_program(&format!("/cnb/lifecycle/{program}.exe")), Some(*phase));
            assert_eq!(Phase::of_program(subcommand), None);
            assert_eq!(Phase::of_subcommand(subcommand), Some(*phase));
            assert_eq!(Phase::of_subcommand(&format!("./{subcommand}")), Some(*phase));
            assert_eq!(Phase::of_subcommand(program), None);
        }
    }
}
