//! `rebaser`. Spec: platform.md "`rebaser`".

use std::path::Path;
use std::sync::Arc;

use longshore_image::BlobSink;

use super::connected::{self, Connection};
use super::failure::Failure;
use super::inputs::Inputs;
use super::privileges;
use crate::ExitCode;
use crate::export::log_images;
use crate::rebase::{RebaseError, RebaseInput, find_run_image, rebase};

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
    let scratch = connected::scratch(inputs)?;
    if inputs.run_image.is_none() && !inputs.daemon && privileges::are_given_up(inputs.uid) {
        // Only the app image says which registry the run image is on, and only root may have the credential for it.
        let input = input(inputs, &connection, scratch.path())?;
        let name = find_run_image(&input).map_err(|error| failure(&error))?;
        inputs.run_image = Some(name);
    }
    connected::give_up_privileges(inputs, &[])?;
    let output = rebase(&input(inputs, &connection, scratch.path())?).map_err(|error| failure(&error))?;
    if let Some(name) = inputs.images.first() {
        tracing::info!("Saving {name}...");
    }
    log_images(&connection.identify, &output.manifest, &inputs.images);
    connected::write(&inputs.report, &output.report.to_document())
        .map_err(|failure| Failure { code: ExitCode::Rebase, ..failure })
}

fn failure(error: &RebaseError) -> Failure {
    Failure::new(error.exit_code(), "rebase", error)
}

fn input<'a>(
    inputs: &'a Inputs,
    connection: &Connection,
    scratch: &Path,
) -> Result<RebaseInput<'a>, Failure> {
    let api = inputs.platform_api;
    Ok(RebaseInput {
        platform_api: api,
        images: &inputs.images,
        previous_image: inputs.previous_image.as_deref().filter(|_| api.has_rebase_previous_image()),
        run_image: inputs.run_image.as_deref(),
        force: inputs.force && api.has_force_rebase(),
        platform: connection.platform.clone(),
        target: Arc::clone(&connection.store),
        run_image_store: Arc::clone(&connection.store),
        identify: connection.identify.clone(),
        any_tag: false,
        keep_current: false,
        layer_format: connected::format("CNB_LAYER_FORMAT", inputs.layer_format.as_deref())?,
        readable: None,
        manifest_format: connected::format("CNB_MANIFEST_FORMAT", inputs.manifest_format.as_deref())?,
        sink: BlobSink::scratch(scratch),
    })
}
