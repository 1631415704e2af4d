//! The exit codes of the lifecycle's programs.

/// Why a lifecycle program ended, as its exit code.
///
/// Spec: platform.md, the "Outputs" of each phase. Where the spec gives a range (`62`: "Export-specific lifecycle
/// errors" are 60-69), the value is the one that the reference uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// Everything went well.
    Success = 0,
    /// A failure that has no code of its own.
    Failed = 1,
    /// A flag that does not exist, or a value that it cannot have.
    InvalidFlags = 2,
    /// Positional arguments, or inputs that do not go together.
    InvalidArguments = 3,
    /// `CNB_PLATFORM_API` is unset or unsupported.
    IncompatiblePlatformApi = 11,
    /// A buildpack or an extension declares an unsupported API.
    IncompatibleBuildpackApi = 12,
    /// No group passed detection.
    NoneDetected = 20,
    /// No group passed detection, and a buildpack ended with an error.
    NoneDetectedWithErrors = 21,
    /// Any other failure of detection.
    Detect = 22,
    /// No group passed detection among those that the platform has the buildpacks of. Ours: 20 to 29 are detection's.
    Undecided = 23,
    /// The platform does not have a buildpack that detection came to. Ours as well.
    NotThere = 24,
    /// Analysis failed.
    Analyze = 32,
    /// Restoration failed.
    Restore = 42,
    /// A buildpack's `bin/build` failed.
    BuildpackFailed = 51,
    /// Any other failure of the build.
    Build = 52,
    /// The export failed.
    Export = 62,
    /// The rebase failed.
    Rebase = 72,
    /// A process could not be launched.
    Launch = 82,
    /// An extension's `bin/generate` failed.
    ExtensionFailed = 91,
    /// Any other failure of the generation.
    Generate = 92,
    /// An image could not be extended.
    Extend = 102,
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> Self {
        code as Self
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(u8::from(code))
    }
}
