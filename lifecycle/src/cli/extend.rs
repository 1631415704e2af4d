//! `extender`. Spec: platform.md "`extender`".

use std::ffi::OsString;

use longshore_image::{Config, Platform};

use super::connected;
use super::failure::Failure;
use super::inputs::Inputs;
use super::{local, privileges};
use crate::ExitCode;
use crate::extend::{ExtendError, ExtendInput, ExtendKind, duration, extend, run_command};

pub(super) fn run(inputs: &Inputs) -> Result<(), Failure> {
    let kind = match inputs.kind.as_str() {
        "build" => ExtendKind::Build,
        "run" => ExtendKind::Run,
        other => {
            let text = format!("failed to resolve inputs: '{other}' is no kind of image; it is build or run");
            return Err(Failure::text(ExitCode::InvalidArguments, text));
        }
    };
    let action = format!("extend {} image", kind.name());
    let failed = |error: ExtendError| Failure::new(error.exit_code(), &action, &error);
    let time_to_live = duration(&inputs.kaniko_cache_ttl).map_err(failed)?;
    let group = connected::group(inputs)?;
    let analyzed = connected::analyzed(inputs)?.unwrap_or_default();
    if !privileges::is_root() {
        return Err(failed(ExtendError::NotRoot));
    }
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let output = extend(&ExtendInput {
        platform_api: inputs.platform_api,
        kind,
        analyzed: &analyzed,
        group: &group,
        app: inputs.app.clone(),
        generated: inputs.generated.clone(),
        extended: inputs.extended.clone(),
        kaniko: inputs.kaniko.clone(),
        time_to_live,
        volumes: vec![inputs.layers.clone(), inputs.platform.clone()],
        root: "/".into(),
        platform: Platform::host(),
        run: &run_command,
        environment: variables.collect(),
    })
    .map_err(failed)?;
    tracing::info!("Extended the {} image by {} layer(s)", kind.name(), output.layers);
    match kind {
        ExtendKind::Run => Ok(()),
        ExtendKind::Build => {
            connected::give_up_privileges(inputs, &[Some(&inputs.layers)])?;
            local::build_in(inputs, environment(inputs, &output.config))
        }
    }
}

/// The environment of the build: that of the extended image over that of this process, and the home of the user.
fn environment(inputs: &Inputs, config: &Config) -> Vec<(OsString, OsString)> {
    let mut environment: Vec<_> = std::env::vars_os().collect();
    let home = privileges::home(inputs.uid).map(|home| ("HOME".into(), home.into_os_string()));
    let image = config.env().into_iter().map(|(name, value)| (name.into(), value.into()));
    let over: Vec<(OsString, OsString)> = image.chain(home).collect();
    environment.retain(|(name, _)| !over.iter().any(|(known, _)| known == name));
    environment.extend(over);
    environment
}
