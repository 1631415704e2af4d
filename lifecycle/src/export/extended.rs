//! The run image that image extensions have extended: the extender leaves its manifest, its configuration and the new
//! layers as a layout in `<extended>/run` (platform.md "`extender`", "Outputs"; image_extension.md).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use longshore_image::{Config, DiffId, History, ImageStore as _, Layout, LayoutName, Reference};

use super::base::Base;
use super::made::{Blob, Made};
use super::normalise;
use super::plan::Role;
use super::{ExportError, ExportInput};
use crate::image_layers;

const REBASABLE_LABEL: &str = "io.buildpacks.rebasable";

/// What extensions have made of the run image.
pub(super) struct Extended {
    /// The configuration of the extended image.
    pub(super) config: Config,
    /// The layers above the run image's own, lowest first.
    pub(super) layers: Vec<Made>,
}

impl Extended {
    /// The extended run image; `None` when nothing was extended.
    pub(super) fn find(input: &ExportInput<'_>, base: &Base) -> Result<Option<Self>, ExportError> {
        let extend = input.analyzed.run_image.as_ref().is_some_and(|run_image| run_image.extend);
        if !extend || !input.platform_api.has_run_image_extension() {
            return Ok(None);
        }
        let path = only_entry(&input.extended.join("run"))?;
        let failed = |reason: String| ExportError::Extended { path: path.clone(), reason };
        let place = base.reference.familiar();
        let layout = Layout::open(&path, LayoutName::Only).map_err(|error| failed(error.to_string()))?;
        let image = layout.resolve(&any_name(&base.reference), &input.platform);
        let image = image
            .map_err(|error| failed(error.to_string()))?
            .ok_or_else(|| failed("it does not have exactly one image".to_owned()))?;
        let (own, all) = (base.layers(), image_layers::pairs(&image));
        let same = |((diff_id, _), (other, _)): (&(DiffId, _), &(DiffId, _))| diff_id == other;
        if all.len() < own.len() || !own.iter().zip(&all).all(same) {
            return Err(failed(format!("it does not extend the run image `{place}`")));
        }
        let history = history(&image.config, all.len());
        let layers = all.into_iter().enumerate().skip(own.len());
        let layers = layers.map(|(index, (diff_id, descriptor))| {
            let blob = layout.blob_path(descriptor.digest);
            if !blob.is_file() {
                return Err(failed(format!("it does not have its layer {diff_id}")));
            }
            let created_by = history[index].created_by.clone().unwrap_or_default();
            let identifier = format!("{}:extended-layer-{index}", extension(&created_by));
            let (diff_id, descriptor, blob) = normalise::layer(&blob, diff_id, &descriptor, &input.sink)
                .map_err(|source| ExportError::Layer { layer: identifier.clone(), source })?;
            Ok(Made {
                identifier,
                created_by,
                role: Role::Extension,
                diff_id,
                descriptor,
                blob: Blob::File(blob),
                is_unread: false,
                tar: None,
                origin: None,
            })
        });
        let layers = layers.collect::<Result<_, _>>()?;
        let mut config = image.config;
        if config.label(REBASABLE_LABEL) != Some("true") {
            config.set_label(REBASABLE_LABEL, "false");
        }
        Ok(Some(Self { config, layers }))
    }
}

/// The layout is in a directory that is named by the digest of the image.
fn only_entry(directory: &Path) -> Result<PathBuf, ExportError> {
    let failed = |reason: String| ExportError::Extended { path: directory.to_owned(), reason };
    let entries: Result<Vec<_>, io::Error> = fs::read_dir(directory).and_then(Iterator::collect);
    match entries.map_err(|error| failed(error.to_string()))?.as_slice() {
        [only] => Ok(only.path()),
        entries => Err(failed(format!("it has {} entries instead of one layout", entries.len()))),
    }
}

/// A layout with one image is read by any name.
fn any_name(base: &Reference) -> Reference {
    base.with_tag("extended")
}

/// One entry for each layer; none where the configuration has more or fewer.
fn history(config: &Config, layers: usize) -> Vec<History> {
    let history: Vec<_> = config.history().into_iter().filter(|entry| !entry.empty_layer).collect();
    if history.len() == layers { history } else { vec![History::default(); layers] }
}

/// The extension that made a layer, as the extender writes it into the history.
fn extension(created_by: &str) -> &str {
    created_by.rsplit_once("Created by extension: ").map_or("from extensions", |(_, id)| id)
}

#[cfg(test)]
mod tests {
    use longshore_cnb::analyzed::RunImage;
    use longshore_image::layer::{self, Entry, LayerSource};
    use longshore_image::{BlobSource, ImageManifest, LayerFormat, Manifest, ManifestFormat};

    use super::*;
    use crate::export::export;
    use crate::export::tests::Fixture;
    use crate::publish::Upload;

    /// What an extender leaves: the run image's layers by name alone, and one layer more.
    fn extend(fixture: &Fixture, rebasable: &str) -> DiffId {
        let base = fixture.image("run:1");
        let root = fixture.root.path().join("layers/extended/run/sha256:0");
        let layout = Layout::create(&root, LayoutName::Only).unwrap();
        let source = LayerSource::entries(vec![Entry::file("/extension", 0o644, "new")]);
        let family = ManifestFormat::Oci;
        let layer = layer::build(&source, LayerFormat::TarGzip, family, &layout.sink()).unwrap();
        let mut config = base.config.clone();
        let mut diff_ids = config.diff_ids();
        diff_ids.push(layer.diff_id);
        config.set_diff_ids(&diff_ids);
        let entry = History::new(crate::default_created(), "Layer: 'RUN x', Created by extension: acme/ext");
        config.set_history(&[History::default(), entry]);
        config.set_env("EXTENDED", "yes");
        config.set_label(REBASABLE_LABEL, rebasable);
        let (descriptor, _) = Upload::config(config.to_bytes(), family);
        let mut layers = base.manifest.as_image().unwrap().layers.clone();
        // Extenders leave the layers of the run image out; a layout is only written with all of them.
        for blob in &layers {
            let from = fixture.store.open_blob(&base.reference, blob).unwrap();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut { from }, &mut bytes).unwrap();
            layout.write_blob(&base.reference, blob, &BlobSource::Bytes(bytes.into()), None).unwrap();
        }
        let of_base = layers.clone();
        layers.push(layer.descriptor);
        let bytes = BlobSource::Bytes(config.to_bytes());
        layout.write_blob(&base.reference, &descriptor, &bytes, None).unwrap();
        let manifest = Manifest::image(ImageManifest::new(family, descriptor, layers));
        layout.put_manifest(&base.reference, &manifest).unwrap();
        for blob in of_base {
            fs::remove_file(layout.blob_path(blob.digest)).unwrap();
        }
        layer.diff_id
    }

    fn fixture() -> Fixture {
        let mut fixture = Fixture::new();
        let run_image = fixture.analyzed.run_image.take().unwrap();
        fixture.analyzed.run_image = Some(RunImage { extend: true, ..run_image });
        fixture
    }

    #[test]
    fn the_app_image_stands_on_what_the_extender_left() {
        for (rebasable, expected) in [("true", "true"), ("false", "false"), ("", "false")] {
            let fixture = fixture();
            let diff_id = extend(&fixture, rebasable);
            let base = fixture.image("run:1");
            fixture.export();
            let app = fixture.image("app:1");
            assert_eq!(app.config.diff_ids()[..2], [base.config.diff_ids()[0], diff_id]);
            assert_eq!(app.config.env_value("EXTENDED").as_deref(), Some("yes"));
            assert_eq!(app.config.label(REBASABLE_LABEL), Some(expected));
            let history = app.config.history();
            assert!(history[1].created_by.as_deref().unwrap().ends_with("acme/ext"));
            let label = app.config.label("io.buildpacks.lifecycle.metadata").unwrap();
            let top_layer = format!("\"topLayer\":\"{}\"", base.config.diff_ids()[0]);
            assert!(label.contains(&top_layer), "rebasing replaces the run image's own layers: {label}");
            let layer = &app.manifest.as_image().unwrap().layers[1];
            assert!(fixture.store.has_blob(&app.reference, layer.digest).unwrap());
        }
    }

    #[test]
    fn an_extended_image_that_is_missing_or_does_not_fit_is_refused() {
        let mut fixture = fixture();
        let images = ["app:1".to_owned()];
        let error = export(&fixture.input(&images)).unwrap_err();
        assert!(error.to_string().contains("extended"), "{error}");
        extend(&fixture, "true");
        crate::export::tests::base_image(&fixture.store, "run:2", "another", |_| {});
        fixture.analyzed.run_image =
            Some(RunImage { reference: "run:2".to_owned(), extend: true, ..RunImage::default() });
        let error = export(&fixture.input(&images)).unwrap_err();
        assert!(error.to_string().contains("does not extend the run image"), "{error}");
    }
}
