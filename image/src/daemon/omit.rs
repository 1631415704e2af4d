//! Layers that a daemon has and need not be sent: Docker's own storage looks a layer up before it reads its file, so the
//! file may be empty.

use std::collections::BTreeSet;
use std::io::Read as _;

use super::DaemonStore;
use crate::{Config, DiffId, Digest, ImageStore as _, Manifest, Reference, StoreError};

impl DaemonStore {
    /// The blobs of the first layers of an image, as far as another image of the daemon has the same.
    pub(super) fn omittable(
        &self,
        reference: &Reference,
        manifest: &Manifest,
    ) -> Result<BTreeSet<Digest>, StoreError> {
        let Some(image) = manifest.as_image() else { return Ok(BTreeSet::new()) };
        let mut bytes = Vec::new();
        let read = self.open_blob(reference, &image.config)?.read_to_end(&mut bytes);
        read.map_err(StoreError::file(self.address.to_string()))?;
        let Ok(config) = Config::parse(bytes) else { return Ok(BTreeSet::new()) };
        let diff_ids = config.diff_ids();
        let count = common_prefix(&super::lock(&self.known), &diff_ids);
        if diff_ids.len() != image.layers.len() || count == 0 || !self.looks_layers_up() {
            return Ok(BTreeSet::new());
        }
        let (omitted, sent) = image.layers.split_at(count);
        let sent: BTreeSet<_> = sent.iter().map(|layer| layer.digest).collect();
        Ok(omitted.iter().map(|layer| layer.digest).filter(|digest| !sent.contains(digest)).collect())
    }

    /// Whether this is Docker with its own storage: neither Podman nor Docker with containerd's looks layers up.
    fn looks_layers_up(&self) -> bool {
        *self.looks_layers_up.get_or_init(|| {
            let version = self.handle.block_on(self.docker.version());
            let components = version.ok().and_then(|version| version.components).unwrap_or_default();
            let is_docker = components.iter().any(|component| component.name == "Engine");
            let Ok(information) = self.handle.block_on(self.docker.info()) else { return false };
            let mut status = information.driver_status.iter().flatten().flatten();
            is_docker && !status.any(|word| word.contains("containerd"))
        })
    }
}

/// How many of the first layers are also the first of one of the known images.
fn common_prefix(known: &[Vec<DiffId>], wanted: &[DiffId]) -> usize {
    let common =
        |image: &Vec<DiffId>| image.iter().zip(wanted).take_while(|(one, other)| one == other).count();
    known.iter().map(common).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_common_beginning_counts() {
        let [a, b, c] = ["a", "b", "c"].map(|text| DiffId::of(text.as_bytes()));
        for (known, wanted, expected) in [
            (vec![], vec![a], 0),
            (vec![vec![a]], vec![b, a], 0),
            (vec![vec![a], vec![a, b, c]], vec![a, b], 2),
            (vec![vec![a, c], vec![a]], vec![a, b], 1),
            (vec![vec![a, b]], vec![a, b, c], 2),
        ] {
            assert_eq!(common_prefix(&known, &wanted), expected, "{known:?} {wanted:?}");
        }
    }
}
