use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::layer::{Ownership, ParentOwnership, build};
use crate::{BlobSink, ManifestFormat};

const LAYER: &str = "acme/web:deps";

/// A layer's directory and an index, both on disk.
struct Fixture {
    root: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir_all(fixture.path("layer/bin")).unwrap();
        fs::write(fixture.path("layer/bin/a"), "one").unwrap();
        std::os::unix::fs::symlink("bin/a", fixture.path("layer/link")).unwrap();
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn source(&self) -> LayerSource {
        self.source_at("layer")
    }

    fn source_at(&self, name: &str) -> LayerSource {
        let parents = ParentOwnership::Fixed { uid: 0, gid: 0, mode: 0o755 };
        let ownership = Ownership { uid: 1, gid: 2, parents };
        LayerSource::directory(&self.path(name), Path::new("/layers/acme_web/deps"), ownership).unwrap()
    }

    fn index(&self) -> StatIndex {
        StatIndex::open(&self.path("index"), false)
    }

    /// An index of a build that begins when the clock of the file system has gone on since all that was done before.
    fn later(&self) -> StatIndex {
        loop {
            let index = self.index();
            if index.begun > newest(&self.path("layer")) + 30_000_000 {
                return index;
            }
        }
    }

    /// A build that reads the layer and leaves its index.
    fn build(&self) -> LayerDigest {
        let index = self.later();
        let digest = index.digest(LAYER, &self.source()).unwrap();
        index.save().unwrap();
        digest
    }

    fn find(&self) -> Finding {
        self.index().find(LAYER, &self.source()).unwrap()
    }
}

fn newest(path: &Path) -> Moment {
    let metadata = fs::symlink_metadata(path).unwrap();
    let own = moment(Stat::of(&metadata).changed);
    if !metadata.is_dir() {
        return own;
    }
    let children = fs::read_dir(path).unwrap().map(|child| newest(&child.unwrap().path()));
    children.max().unwrap_or(own).max(own)
}

#[test]
fn an_unchanged_directory_is_known() {
    let fixture = Fixture::new();
    assert_eq!(fixture.find(), Finding::Unknown);
    let digest = fixture.build();
    assert_eq!(digest, layer::digest(&fixture.source()).unwrap());
    assert_eq!(fixture.find(), Finding::Unchanged(digest));
    let paranoid = StatIndex::open(&fixture.path("index"), true);
    assert_eq!(paranoid.find(LAYER, &fixture.source()).unwrap(), Finding::Similar);
    assert_eq!(paranoid.digest(LAYER, &fixture.source()).unwrap(), digest);
}

#[test]
fn a_directory_that_was_moved_is_known_and_a_copy_is_similar() {
    let fixture = Fixture::new();
    let digest = fixture.build();
    fs::create_dir(fixture.path("kept")).unwrap();
    fs::rename(fixture.path("layer"), fixture.path("kept/moved")).unwrap();
    let find = |name: &str| fixture.index().find(LAYER, &fixture.source_at(name)).unwrap();
    assert_eq!(find("kept/moved"), Finding::Unchanged(digest));
    let mut copy = std::process::Command::new("cp");
    copy.arg("-a").arg(fixture.path("kept/moved")).arg(fixture.path("copy"));
    assert!(copy.status().unwrap().success());
    assert_eq!(find("copy"), Finding::Similar);
}

/// Fault row 44: a file that is edited in place, with the size and the times of modification that it had.
#[test]
fn an_edit_that_keeps_size_and_time_is_detected() {
    let fixture = Fixture::new();
    let before = fixture.build();
    let path = fixture.path("layer/bin/a");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "two").unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let found = fixture.find();
    assert_eq!(found, Finding::Similar, "only the time of the change tells");
    assert_ne!(fixture.build().diff_id, before.diff_id);
}

/// A fresh clone, or a buildpack that installs the same again, was compressed again for having other times.
#[test]
fn what_was_written_anew_may_be_the_same_and_an_edit_is_not() {
    let fixture = Fixture::new();
    fs::write(fixture.path("layer/b"), "more").unwrap();
    let touch = |name: &str, seconds| {
        let file = File::options().write(true).open(fixture.path(name)).unwrap();
        file.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
    };
    touch("layer/bin/a", 1_000_000_000);
    touch("layer/b", 1_000_000_001);
    fixture.build();
    touch("layer/b", 1_000_000_002);
    assert_eq!(fixture.find(), Finding::Changed, "one of two files");
    touch("layer/bin/a", 1_000_000_003);
    assert_eq!(fixture.find(), Finding::Similar, "both");
    fs::write(fixture.path("layer/b"), "longer").unwrap();
    assert_eq!(fixture.find(), Finding::Changed, "another size");
}

#[test]
fn whatever_else_changes_is_detected() {
    type Edit = fn(&Path);
    let edits: [(&str, Edit); 7] = [
        ("mode", |root| fs::set_permissions(root.join("bin/a"), fs::Permissions::from_mode(0o600)).unwrap()),
        ("mode of the directory", |root| {
            fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("new file", |root| fs::write(root.join("b"), "").unwrap()),
        ("removed file", |root| fs::remove_file(root.join("bin/a")).unwrap()),
        ("renamed file", |root| fs::rename(root.join("bin/a"), root.join("bin/b")).unwrap()),
        ("link", |root| {
            fs::remove_file(root.join("link")).unwrap();
            std::os::unix::fs::symlink("bin/b", root.join("link")).unwrap();
        }),
        ("file for a directory", |root| {
            fs::remove_dir_all(root.join("bin")).unwrap();
            fs::write(root.join("bin"), "").unwrap();
        }),
    ];
    for (name, edit) in edits {
        let fixture = Fixture::new();
        fixture.build();
        edit(&fixture.path("layer"));
        assert_eq!(fixture.find(), Finding::Changed, "{name}");
    }
}

#[test]
fn the_owner_and_the_name_in_the_image_count() {
    let fixture = Fixture::new();
    fixture.build();
    let parents = ParentOwnership::Fixed { uid: 0, gid: 0, mode: 0o755 };
    let other = |name: &str, ownership| {
        let source = LayerSource::directory(&fixture.path("layer"), Path::new(name), ownership).unwrap();
        fixture.index().find(LAYER, &source).unwrap()
    };
    let ownership = Ownership { uid: 1, gid: 2, parents };
    let name = "/layers/acme_web/deps";
    assert!(matches!(other(name, ownership), Finding::Unchanged(_)));
    assert_eq!(other("/layers/acme_web/other", ownership), Finding::Changed);
    assert_eq!(other(name, Ownership { gid: 3, ..ownership }), Finding::Changed);
    let parents = ParentOwnership::Fixed { uid: 0, gid: 0, mode: 0o700 };
    assert_eq!(other(name, Ownership { parents, ..ownership }), Finding::Changed);
    assert_eq!(other(name, Ownership { parents: ParentOwnership::OnDisk, ..ownership }), Finding::Changed);
}

/// Git's "racy" entries: the file was written in the tick of the clock in which it was looked at.
#[test]
fn a_directory_that_was_written_just_now_is_read_again() {
    let fixture = Fixture::new();
    let index = fixture.index();
    fs::write(fixture.path("layer/bin/a"), "new").unwrap();
    index.digest(LAYER, &fixture.source()).unwrap();
    index.save().unwrap();
    assert_eq!(fixture.find(), Finding::Similar);
    let digest = fixture.build();
    assert_eq!(fixture.find(), Finding::Unchanged(digest));
}

/// Fault row 45: whatever the bytes were that were read of a file which changed meanwhile, no later build believes them.
#[test]
fn a_file_that_changes_while_it_is_read_is_never_indexed() {
    let fixture = Fixture::new();
    let index = fixture.later();
    let source = fixture.source();
    let fingerprint = source.fingerprint().unwrap();
    fs::write(fixture.path("layer/bin/a"), "two").unwrap();
    let digest = layer::digest(&source).unwrap();
    index.note(LAYER, fingerprint, digest, None);
    index.save().unwrap();
    assert_eq!(fixture.find(), Finding::Similar, "found before the change, and not believed");
    let index = fixture.index();
    fs::write(fixture.path("layer/bin/a"), "six").unwrap();
    index.read(LAYER, &source).unwrap();
    index.save().unwrap();
    assert_eq!(fixture.find(), Finding::Similar, "found after the change, and not believed");
}

#[test]
fn blobs_are_known_by_content_and_format() {
    let fixture = Fixture::new();
    let (index, blobs) = (fixture.later(), fixture.path("blobs"));
    fs::create_dir(&blobs).unwrap();
    let format = LayerFormat::TarZstd;
    let sink = BlobSink::new(&blobs);
    let made = build(&fixture.source(), format, ManifestFormat::Oci, &sink).unwrap();
    index.note_made(LAYER, &made, format);
    index.save().unwrap();
    let known = Some((made.descriptor.digest, made.descriptor.size));
    let index = fixture.later();
    assert_eq!(index.blob(LAYER, made.diff_id, format), known);
    assert_eq!(index.blob(LAYER, made.diff_id, LayerFormat::TarGzip), None);
    assert_eq!(index.blob(LAYER, DiffId::of(b"other"), format), None);
    assert_eq!(index.blob("other", made.diff_id, format), None);
    index.read(LAYER, &fixture.source()).unwrap();
    index.save().unwrap();
    assert_eq!(
        fixture.index().blob(LAYER, made.diff_id, format),
        known,
        "reading the same again forgets nothing"
    );
}

/// The second format of an image with both was compressed anew where its registry had lost it.
#[test]
fn blobs_of_other_formats_are_known_by_content() {
    let fixture = Fixture::new();
    let digest = fixture.build();
    let (zstd, gzip) = ((Digest::of(b"zstd"), 4), (Digest::of(b"gzip"), 5));
    let index = fixture.later();
    index.note_converted(digest.diff_id, LayerFormat::TarZstd, zstd);
    assert_eq!(index.blobs().len(), 0, "this build has not seen the layer");
    index.find(LAYER, &fixture.source()).unwrap();
    index.note_converted(digest.diff_id, LayerFormat::TarZstd, zstd);
    index.note_converted(digest.diff_id, LayerFormat::TarGzip, gzip);
    index.note_converted(DiffId::of(b"other"), LayerFormat::Tar, (Digest::of(b"tar"), 6));
    assert_eq!(index.blobs(), BTreeSet::from([zstd.0, gzip.0]));
    index.save().unwrap();
    let index = fixture.index();
    assert_eq!(index.blob_of(digest.diff_id, LayerFormat::TarZstd), Some(zstd));
    assert_eq!(index.blob_of(digest.diff_id, LayerFormat::TarGzip), Some(gzip));
    assert_eq!(index.blob_of(digest.diff_id, LayerFormat::Tar), None);
    assert_eq!(index.blob_of(DiffId::of(b"other"), LayerFormat::Tar), None);
}

/// Fault row 42, and a damaged index: neither is believed, and the newer one is left alone.
#[test]
fn damage_is_as_good_as_no_index_and_newer_formats_are_left_alone() {
    let fixture = Fixture::new();
    let digest = fixture.build();
    let newer = fixture.path("index/v3/index");
    fs::create_dir_all(newer.parent().unwrap()).unwrap();
    fs::write(&newer, "of the future").unwrap();
    let file = fixture.path("index/v2/index");
    let whole = fs::read(&file).unwrap();
    let abandoned = fixture.path("index/v2/.longshore-abandoned");
    fs::write(&abandoned, "of a killed process").unwrap();
    for bytes in
        [&whole[..whole.len() / 2], b"", b"something else entirely, which is long enough for a digest"]
    {
        fs::write(&file, bytes).unwrap();
        assert_eq!(fixture.find(), Finding::Unknown);
    }
    assert_eq!(fixture.build(), digest);
    assert_eq!(fs::read(&file).unwrap(), whole, "the first build again");
    assert_eq!(fs::read(&newer).unwrap(), b"of the future");
    assert!(!abandoned.exists());
}

#[test]
fn two_builds_at_once_leave_what_both_found() {
    let fixture = Fixture::new();
    let (one, two) = (fixture.later(), fixture.later());
    let digest = one.digest("one", &fixture.source()).unwrap();
    two.digest("two", &fixture.source()).unwrap();
    one.save().unwrap();
    two.save().unwrap();
    for layer in ["one", "two"] {
        let found = fixture.index().find(layer, &fixture.source()).unwrap();
        assert_eq!(found, Finding::Unchanged(digest), "{layer}");
    }
}

#[test]
fn an_index_that_cannot_be_written_says_where() {
    let fixture = Fixture::new();
    let index = StatIndex::open(&fixture.path("layer/bin/a"), false);
    let error = index.save().unwrap_err();
    assert_eq!(error.path, fixture.path("layer/bin/a/v2"));
}
