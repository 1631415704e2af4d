//! What the index holds, and for how long.

use std::collections::BTreeMap;

use super::fingerprint::Fingerprint;
use crate::moment::Moment;
use crate::{DiffId, Digest};

/// Records that no build has asked for since as many builds go.
const BUILDS: u64 = 20;
/// As many records are kept; an app has as many layers as its buildpacks make.
const RECORDS: usize = 2_000;
/// As many blobs are remembered for a layer: formats, levels and versions.
const BLOBS: usize = 6;

/// What is known of one layer of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) exact: Digest,
    pub(super) shape: Digest,
    pub(super) outline: Digest,
    pub(super) oldest: Moment,
    /// Whether no file of it was as young as the record.
    pub(super) is_settled: bool,
    pub(super) diff_id: DiffId,
    pub(super) uncompressed_size: u64,
    /// The last build that asked for it.
    pub(super) build: u64,
    pub(super) blobs: Vec<KnownBlob>,
}

/// A blob of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownBlob {
    /// What compressed it, with the level and the version.
    pub(super) codec: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

impl Record {
    pub(super) fn new(
        fingerprint: &Fingerprint,
        taken: Moment,
        diff_id: DiffId,
        uncompressed_size: u64,
    ) -> Self {
        Self {
            exact: fingerprint.exact,
            shape: fingerprint.shape,
            outline: fingerprint.outline,
            oldest: fingerprint.oldest,
            is_settled: !fingerprint.is_racy(taken),
            diff_id,
            uncompressed_size,
            build: 0,
            blobs: Vec::new(),
        }
    }

    /// Whether the layer may have the same content although times have changed: it is a copy, or all of it was written
    /// anew with as many bytes in each file, as by a fresh clone or another run of an installer. An edit leaves the
    /// oldest file as old as it was.
    pub(super) fn is_similar(&self, fingerprint: &Fingerprint) -> bool {
        let was_written_anew = fingerprint.outline == self.outline && fingerprint.oldest != self.oldest;
        fingerprint.shape == self.shape || was_written_anew
    }

    pub(super) fn put_blob(&mut self, blob: KnownBlob) {
        self.blobs.retain(|known| known.codec != blob.codec);
        self.blobs.insert(0, blob);
        self.blobs.truncate(BLOBS);
    }
}

/// All records, by the names of their layers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Records {
    /// How many builds there were.
    pub(super) builds: u64,
    pub(super) layers: BTreeMap<String, Record>,
}

impl Records {
    /// Puts a record in the place of the one before. Blobs that are known of the same content stay known.
    pub(super) fn put(&mut self, layer: &str, mut record: Record, blob: Option<KnownBlob>) {
        if let Some(old) = self.layers.remove(layer)
            && old.diff_id == record.diff_id
        {
            record.blobs = old.blobs;
        }
        blob.into_iter().for_each(|blob| record.put_blob(blob));
        self.layers.insert(layer.to_owned(), record);
    }

    /// These records with those of a build that has just ended. Whoever ended meanwhile is not forgotten.
    pub(super) fn after(mut self, build: BTreeMap<String, Record>) -> Self {
        // One that failed before it came to its layers is none that did not ask for them.
        if build.is_empty() {
            return self;
        }
        self.builds += 1;
        for (layer, mut record) in build {
            record.build = self.builds;
            self.layers.insert(layer, record);
        }
        self.layers.retain(|_, record| record.build.saturating_add(BUILDS) > self.builds);
        while self.layers.len() > RECORDS {
            let oldest = self.layers.iter().min_by_key(|(_, record)| record.build);
            let Some(name) = oldest.map(|(name, _)| name.clone()) else { break };
            self.layers.remove(&name);
        }
        self
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn record(text: &str) -> Record {
        Record {
            exact: Digest::of(text.as_bytes()),
            shape: Digest::of(b"shape"),
            outline: Digest::of(b"outline"),
            oldest: -1,
            is_settled: true,
            diff_id: DiffId::of(text.as_bytes()),
            uncompressed_size: 1536,
            build: 0,
            blobs: Vec::new(),
        }
    }

    pub(crate) fn blob(codec: &str) -> KnownBlob {
        KnownBlob { codec: codec.to_owned(), digest: Digest::of(codec.as_bytes()), size: 7 }
    }

    fn build(layers: &[(&str, &str)]) -> BTreeMap<String, Record> {
        layers.iter().map(|(layer, text)| ((*layer).to_owned(), record(text))).collect()
    }

    #[test]
    fn layers_that_no_build_asks_for_are_forgotten() {
        let mut records = Records::default().after(build(&[("a", "1"), ("b", "1")]));
        for _ in 1..BUILDS {
            records = records.after(build(&[("a", "2")]));
        }
        assert_eq!(records.layers.keys().collect::<Vec<_>>(), ["a", "b"]);
        records = records.after(build(&[("a", "3")]));
        assert_eq!(records.layers.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(records.layers["a"].diff_id, DiffId::of(b"3"));
        for _ in 0..=BUILDS {
            records = records.after(BTreeMap::new());
        }
        assert_eq!(records.layers.len(), 1, "builds that failed before they asked");
    }

    #[test]
    fn the_number_of_records_has_a_bound() {
        let old = Records::default().after(build(&[("old", "")]));
        let names: Vec<String> = (0..RECORDS).map(|number| number.to_string()).collect();
        let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let records = old.after(build(&many));
        assert!(records.layers.len() == RECORDS && !records.layers.contains_key("old"));
    }

    #[test]
    fn blobs_belong_to_content() {
        let mut records = Records::default();
        records.put("a", record("1"), Some(blob("gzip")));
        records.put("a", record("1"), Some(blob("zstd")));
        records.put("a", record("1"), Some(blob("gzip")));
        assert_eq!(records.layers["a"].blobs, [blob("gzip"), blob("zstd")]);
        (0..9).for_each(|level| records.put("a", record("1"), Some(blob(&format!("gzip-{level}")))));
        assert_eq!(records.layers["a"].blobs.len(), BLOBS);
        records.put("a", record("2"), None);
        assert_eq!(records.layers["a"].blobs, []);
    }
}
