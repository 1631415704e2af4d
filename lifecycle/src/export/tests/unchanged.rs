//! Exports with a stat index: what is unchanged is not read, and what is read is read once.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longshore_image::DiffId;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use super::*;
use crate::cache::{Cache as _, DirectoryCache};

/// Counts how often files are opened, by their names.
struct Watch {
    inotify: OwnedFd,
    folders: BTreeMap<i32, String>,
}

impl Watch {
    const FOLDERS: [&str; 6] = [
        "layers/acme_web/deps/bin",
        "layers/acme_web/cached",
        "layers/sbom/launch/acme_web",
        "layers/config",
        "app",
        "app/static",
    ];

    fn new(fixture: &Fixture) -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        // Closing is watched as well, because the kernel makes one event of two openings that follow each other.
        let flags = WatchFlags::OPEN | WatchFlags::CLOSE_NOWRITE;
        let add =
            |name: &str| (inotify::add_watch(&inotify, fixture.path(name), flags).unwrap(), name.to_owned());
        let folders = Self::FOLDERS.into_iter().map(add).collect();
        Self { inotify, folders }
    }

    fn opened(&self) -> BTreeMap<String, usize> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut opened = BTreeMap::new();
        while let Ok(event) = events.next() {
            let flags = event.events();
            let (Some(folder), Some(name)) = (self.folders.get(&event.wd()), event.file_name()) else {
                continue;
            };
            if flags.contains(ReadFlags::OPEN) && !flags.contains(ReadFlags::ISDIR) {
                *opened.entry(format!("{folder}/{}", name.to_str().unwrap())).or_default() += 1;
            }
        }
        // Reading a build's own metadata is no reading of a layer.
        opened.remove("layers/config/metadata.toml");
        opened
    }
}

fn youngest(path: &Path) -> Duration {
    let metadata = fs::symlink_metadata(path).unwrap();
    let own = Duration::new(metadata.ctime() as u64, metadata.ctime_nsec() as u32);
    if !metadata.is_dir() {
        return own;
    }
    let children = fs::read_dir(path).unwrap().map(|child| youngest(&child.unwrap().path()));
    children.max().unwrap_or(own).max(own)
}

impl Fixture {
    /// The index of a build that begins when the clock has gone on since anything was written.
    fn index(&self, is_paranoid: bool) -> StatIndex {
        let places = ["layers", "app", "launcher"].map(|name| youngest(&self.path(name)));
        let youngest = places.into_iter().max().unwrap() + Duration::from_millis(40);
        while SystemTime::now().duration_since(UNIX_EPOCH).unwrap() < youngest {}
        StatIndex::open(&self.path("index"), is_paranoid)
    }

    fn input_with<'a>(&'a self, index: &'a StatIndex, images: &'a [String]) -> ExportInput<'a> {
        ExportInput { index: Some(index), ..self.input(images) }
    }

    fn build(&self, is_paranoid: bool) -> ExportOutput {
        let index = self.index(is_paranoid);
        let output = export(&self.input_with(&index, &["app:1".to_owned()])).unwrap();
        index.save().unwrap();
        output
    }

    /// As after a build that left image and index.
    fn built() -> (Self, ExportOutput) {
        let mut fixture = Self::new();
        let output = fixture.build(false);
        assert_eq!(output.unread_layers, 0);
        fixture.analyze("app:1");
        (fixture, output)
    }
}

#[test]
fn an_unchanged_build_reads_no_file() {
    let (fixture, first) = Fixture::built();
    let watch = Watch::new(&fixture);
    let second = fixture.build(false);
    assert_eq!((second.unread_layers, second.reused_layers, second.added_layers), (7, 7, 0));
    assert_eq!(second.manifest.digest(), first.manifest.digest());
    assert_eq!(watch.opened(), BTreeMap::new());
}

#[test]
fn paranoid_builds_read_all_and_make_the_same() {
    let (fixture, first) = Fixture::built();
    let watch = Watch::new(&fixture);
    let second = fixture.build(true);
    assert_eq!((second.unread_layers, second.reused_layers), (0, 7));
    assert_eq!(second.manifest.digest(), first.manifest.digest());
    let opened = watch.opened();
    assert!(opened.values().all(|times| *times == 1) && opened.len() == 4, "{opened:?}");
}

/// A changed layer was read for its DiffID, and then again to be compressed.
#[test]
fn a_changed_layer_is_read_once_and_the_others_not_at_all() {
    let (fixture, _) = Fixture::built();
    fs::write(fixture.path("layers/acme_web/deps/bin/tool"), "longer").unwrap();
    let watch = Watch::new(&fixture);
    let output = fixture.build(false);
    assert_eq!((output.unread_layers, output.added_layers), (6, 1));
    assert_eq!(watch.opened(), BTreeMap::from([("layers/acme_web/deps/bin/tool".to_owned(), 1)]));
}

/// Fault row 44: an edit that keeps the size and puts the time of modification back.
#[test]
fn an_edit_that_keeps_size_and_time_is_exported() {
    let (fixture, first) = Fixture::built();
    let path = fixture.path("layers/acme_web/deps/bin/tool");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "TOOL").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let second = fixture.build(false);
    assert_eq!((second.unread_layers, second.added_layers), (6, 1));
    assert_ne!(second.manifest.digest(), first.manifest.digest());
}

#[test]
fn without_the_previous_image_blobs_of_the_store_are_used() {
    let (mut fixture, first) = Fixture::built();
    fixture.analyzed.previous_image = None;
    let watch = Watch::new(&fixture);
    let second = fixture.build(false);
    assert_eq!((second.unread_layers, second.reused_layers), (7, 0));
    assert_eq!(second.manifest.digest(), first.manifest.digest());
    let layer = first.manifest.as_image().unwrap().layers[1].digest;
    fs::remove_file(fixture.store.layout().blob_path(layer)).unwrap();
    assert_eq!(fixture.build(false).manifest.digest(), first.manifest.digest());
    assert_eq!(watch.opened(), BTreeMap::from([("layers/acme_web/deps/bin/tool".to_owned(), 1)]));
    assert!(fixture.store.layout().blob_path(layer).exists(), "a blob that went is made again");
}

#[test]
fn another_format_is_made_of_unchanged_layers_and_then_known_too() {
    let (fixture, first) = Fixture::built();
    let gzip = |fixture: &Fixture| {
        let (index, images) = (fixture.index(false), ["gzip:1".to_owned()]);
        let layer_format = Some(LayerFormat::TarGzip.into());
        let output = export(&ExportInput { layer_format, ..fixture.input_with(&index, &images) }).unwrap();
        index.save().unwrap();
        output
    };
    let second = gzip(&fixture);
    assert_eq!((second.unread_layers, second.added_layers), (0, 7));
    let third = gzip(&fixture);
    assert_eq!((third.unread_layers, third.manifest.digest()), (7, second.manifest.digest()));
    assert_eq!(fixture.build(false).manifest.digest(), first.manifest.digest());
}

impl Fixture {
    /// Writes the cache after the image.
    fn write_cache(&self, cache: &DirectoryCache, output: &ExportOutput, index: &StatIndex) {
        export_cache(&CacheInput {
            platform_api: PlatformApi::latest(),
            layers: self.mapped("layers", "/layers"),
            group: &self.group,
            cache,
            ownership: OWNERSHIP,
            layer_digests: &output.layer_digests,
            index: Some(index),
        })
        .unwrap();
    }
}

#[test]
fn the_cache_is_written_without_reading_what_is_unchanged() {
    let (fixture, output) = Fixture::built();
    fs::create_dir(fixture.path("cache")).unwrap();
    let write = || {
        let index = fixture.index(false);
        let cache = DirectoryCache::open(fixture.path("cache")).unwrap();
        fixture.write_cache(&cache, &output, &index);
        index.save().unwrap();
    };
    write();
    let watch = Watch::new(&fixture);
    write();
    assert_eq!(watch.opened(), BTreeMap::new());
}

/// A layer that is cached was read for the image, and for the cache again; one that is cached alone, for its DiffID and for
/// its tar.
#[test]
fn a_cached_layer_that_changed_is_read_once() {
    let mut fixture = Fixture::new();
    let types = "[types]\nlaunch = true\ncache = true\n";
    fs::write(fixture.path("layers/acme_web/deps.toml"), types).unwrap();
    fs::create_dir(fixture.path("cache")).unwrap();
    let images = ["app:1".to_owned()];
    let build = |fixture: &Fixture| {
        let index = fixture.index(false);
        let cache = DirectoryCache::open(fixture.path("cache")).unwrap();
        let watch = Watch::new(fixture);
        let tars = cache.tars();
        let output = export(&ExportInput { tars, ..fixture.input_with(&index, &images) }).unwrap();
        fixture.write_cache(&cache, &output, &index);
        index.save().unwrap();
        let mut opened = watch.opened();
        opened.retain(|path, _| path.starts_with("layers/acme_web"));
        opened
    };
    let (deps, cached) = ("layers/acme_web/deps/bin/tool".to_owned(), "layers/acme_web/cached/x".to_owned());
    let once = BTreeMap::from([(deps.clone(), 1), (cached.clone(), 1)]);
    assert_eq!(build(&fixture), once);
    fixture.analyze("app:1");
    fs::write(fixture.path(&deps), "longer").unwrap();
    fs::write(fixture.path(&cached), "longer").unwrap();
    assert_eq!(build(&fixture), once);
    assert_eq!(build(&fixture), BTreeMap::new());
    // Both are whole, and nothing else is left.
    let names = |path: &str| {
        let children = fs::read_dir(fixture.path(path)).unwrap();
        children.map(|child| child.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let mut around = names("cache");
    around.sort();
    assert_eq!(around, ["committed", "lock"]);
    let tars: Vec<_> = names("cache/committed").into_iter().filter(|name| name.ends_with(".tar")).collect();
    assert_eq!(tars.len(), 2);
    for name in tars {
        let bytes = fs::read(fixture.path("cache/committed").join(&name)).unwrap();
        assert_eq!(format!("{}.tar", DiffId::of(&bytes)), name);
    }
}

/// Digests depend neither on an index nor on what it knows.
#[test]
fn all_ways_lead_to_the_same_image() {
    let cold = Fixture::new().export().manifest.digest();
    let (fixture, first) = Fixture::built();
    let without = export(&fixture.input(&["app:1".to_owned()])).unwrap();
    fs::write(fixture.path("index/v2/index"), "damaged").unwrap();
    let damaged = fixture.build(false);
    for output in [first, without, damaged, fixture.build(false), fixture.build(true)] {
        assert_eq!(output.manifest.digest(), cold);
    }
}
