//! `rebaser`. Spec: platform.md "`rebaser`".

use std::sync::Arc;

use super::connected::{self, Connection};
use super::failure::Failure;
use super::inputs::Inputs;
use crate::ExitCode;
use crate::rebase::{RebaseInput, rebase};

pub(super) fn run(inputs: &mut Inputs) -> Result<(), Failure> {
    if let Some(name) = inputs.deprecated_run_image.take() {
        if inputs.has_run_image_flag {
            return Err(Failure::text(
                ExitCode::InvalidArguments,
                "failed to resolve inputs: supply only one of -run-image or (deprecated) -image",
            ));
        }
        inputs.run_image = Some(name);
    }
    let connection = Connection::open(inputs)?;
    connected::give_up_privileges(inputs, &[])?;
    let previous_image =
        inputs.previous_image.as_deref().filter(|_| inputs.platform_api.has_rebase_previous_image());
    let output = rebase(&RebaseInput {
        platform_api: inputs.platform_api,
        images: &inputs.images,
        previous_image,
        run_image: inputs.run_image.as_deref(),
        force: inputs.force && inputs.platform_api.has_force_rebase(),
        platform: connection.platform.clone(),
        target: Arc::clone(&connection.store),
        run_image_store: Arc::clone(&connection.store),
        identify: connection.identify.clone(),
    })
    .map_err(|error| Failure::new(error.exit_code(), "rebase", &error))?;
    connected::write(&inputs.report, &output.report.to_document())
        .map_err(|failure| Failure { code: ExitCode::Rebase, ..failure })
}
