//! Somebody who changes the tree while a layer is unpacked.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Place, Tar};

const ROUNDS: u32 = 100_000;

/// A directory and a link out of the root change places, in one step, 100,000 times.
#[test]
fn row_06_nobody_wins_a_race_with_the_unpacker() {
    let place = Place::new();
    let (root, outside) = (place.root(), place.outside());
    let mut tar = Tar::default();
    for index in 0..200 {
        // The names of the one and of the other: whatever is behind them is written to, given a mode, and removed.
        tar = tar
            .directory("d")
            .file(&format!("d/{index}"), "x")
            .file("d/.wh.secret", "")
            .file("d/secret", "x");
        tar = tar.raw(b'5', b"d/sub", 0o777, 0, 0, b"").hard_link("d/link", "d/secret");
    }
    let stream = tar.end();
    fs::create_dir(root.join("d")).unwrap();
    symlink(&outside, root.join("away")).unwrap();
    let done = AtomicBool::new(false);
    let unpacked = std::thread::scope(|scope| {
        scope.spawn(|| {
            let (one, other) = (root.join("d"), root.join("away"));
            let mut rounds = 0;
            while rounds < ROUNDS {
                // The unpacker may have removed one of them; the next layer, or this thread, puts it back.
                match renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE) {
                    Ok(()) => rounds += 1,
                    Err(_) => {
                        let _ = fs::create_dir(&one);
                        let _ = symlink(&outside, &other);
                    }
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut unpacked = 0;
        // Whether a layer can be unpacked meanwhile does not matter; `unpack_with` looks at what is outside each time.
        while !done.load(Ordering::Relaxed) || unpacked == 0 {
            let _ = place.unpack_with(&stream, &super::Policy::rootfs(super::Owner::Ignore));
            unpacked += 1;
        }
        unpacked
    });
    assert!(unpacked > 1, "the racer was over before the unpacker began");
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
}
