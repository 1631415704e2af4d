//! What registries do wrong, or in their own way, one test for each. Names have the row of the table of faults.

mod credentials;
mod downloads;
mod hostile;
mod listing;
mod requests;
mod streams;
mod uploads;

use std::sync::Arc;

use longshore_image::{
    BlobOpener, BlobSource, ImageStore as _, Keychain, LocalStore, Reference, Registry, StoreError,
};
use longshore_test_support::registry::{Fault, FaultyRegistry};

use crate::samples::{Sample, pull, read, reference, registry, text};

const MIB: usize = 1 << 20;
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn anonymous() -> Registry {
    registry(Keychain::empty())
}

fn status(method: &'static str, path: &'static str, status: u16, times: u32) -> Fault {
    Fault::Status { method, path, status, retry_after: None, times }
}

/// Pushes an image through the faults, and pulls it without them.
fn push_through(faults: impl IntoIterator<Item = Fault>, length: usize) -> FaultyRegistry {
    let server = FaultyRegistry::start(faults);
    let registry = anonymous();
    let app = reference(&server.host(), "team/app:v1");
    let sample = Sample::new(length as u64, length);
    sample.push(&registry, &app).unwrap_or_else(|error| panic!("{}\n{:#?}", text(&error), server.requests()));
    server.assert_tags_are_complete();
    server.set_faults([]);
    assert_eq!(pull(&registry, &app).1, sample.layer);
    server
}

/// Pushes an image that the faults forbid; the error.
fn push_refused(faults: impl IntoIterator<Item = Fault>) -> (FaultyRegistry, String) {
    let server = FaultyRegistry::start(faults);
    let error = Sample::new(1, MIB).push(&anonymous(), &reference(&server.host(), "app:v1")).unwrap_err();
    assert!(server.tags("app").is_empty());
    (server, text(&error))
}

/// Downloads a layer into a local store.
fn download(
    registry: &Arc<Registry>,
    app: &Reference,
    sample: &Sample,
    store: &LocalStore,
) -> Result<(), StoreError> {
    let layer = sample.layer_descriptor();
    let source = BlobSource::Lazy(BlobOpener::of(registry.clone(), app.clone(), layer.clone()));
    store.write_blob(app, &layer, &source, None).map(drop)
}

/// Pulls an image through the faults.
fn pull_through(faults: impl IntoIterator<Item = Fault>) -> FaultyRegistry {
    let server = FaultyRegistry::start([]);
    let registry = anonymous();
    let app = reference(&server.host(), "team/app:v1");
    let sample = Sample::new(7, 3 * MIB);
    sample.push(&registry, &app).unwrap();
    server.set_faults(faults);
    assert_eq!(read(&registry, &app, &sample.layer_descriptor()).unwrap(), sample.layer);
    server
}
