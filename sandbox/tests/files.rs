//! Layers, mounts, and what is left of writes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use longshore_sandbox::{IdMapping, Mount, give_tree};

use crate::Test;
use crate::support::{GID, Machine, UID, mapping, output, text};

pub(crate) const TESTS: &[Test] = &[
    ("files::writes_outside_mounts_are_discarded", writes_outside_mounts_are_discarded),
    ("files::later_layers_hide_earlier_ones", later_layers_hide_earlier_ones),
    ("files::many_layers", many_layers),
    ("files::mounts", mounts),
    ("files::mount_targets_stay_inside", mount_targets_stay_inside),
    ("files::nothing_is_left", nothing_is_left),
];

/// Row 50 of the fault table.
fn writes_outside_mounts_are_discarded() {
    let machine = Machine::new();
    fs::create_dir(machine.path("layer/data")).unwrap();
    fs::write(machine.path("layer/data/file"), "old").unwrap();
    fs::set_permissions(machine.path("layer/data"), fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(machine.path("layer/data/file"), fs::Permissions::from_mode(0o666)).unwrap();
    give_tree(&machine.path("layer"), &IdMapping::detect(UID, GID), 0, 0).unwrap();
    let script = "echo new >/data/file; echo more >/data/other; cat /data/file /data/other; touch /tmp/x";
    assert_eq!(text(&machine.shell(script)), "new\nmore");
    assert_eq!(fs::read_to_string(machine.path("layer/data/file")).unwrap(), "old");
    assert!(!machine.path("layer/data/other").exists());
    assert_eq!(text(&machine.shell("cat /data/file; ls /data /tmp")), "old/data:\nfile\n\n/tmp:");
}

fn later_layers_hide_earlier_ones() {
    let machine = Machine::new();
    for (layer, contents) in [("layer", "lower"), ("upper-layer", "upper")] {
        fs::create_dir_all(machine.path(layer)).unwrap();
        fs::write(machine.path(layer).join("which"), contents).unwrap();
    }
    fs::write(machine.path("layer/gone"), "gone").unwrap();
    // A whiteout, which everybody may make.
    let device = nix::sys::stat::makedev(0, 0);
    nix::sys::stat::mknod(
        &machine.path("upper-layer/gone"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::empty(),
        device,
    )
    .unwrap();
    let mut spec = machine.shell("cat /which; [ -e /gone ] || echo ' gone'");
    spec.layers.push(machine.path("upper-layer"));
    assert_eq!(text(&spec), "upper gone");
}

/// Docker allows 127; options of a mount must fit into a page.
fn many_layers() {
    let machine = Machine::new();
    let mut spec = machine.shell("ls / | busybox grep -c file");
    for index in 0..200 {
        let layer = machine.path(&format!("layers/a-long-name-for-a-layer-as-digests-have-them/{index}"));
        fs::create_dir_all(&layer).unwrap();
        fs::write(layer.join(format!("file-{index}")), "").unwrap();
        spec.layers.push(layer);
    }
    assert_eq!(text(&spec), "200");
}

fn mounts() {
    let machine = Machine::new();
    for name in ["out", "in"] {
        fs::create_dir(machine.path(name)).unwrap();
    }
    fs::write(machine.path("in/file"), "input").unwrap();
    fs::write(machine.path("single"), "single").unwrap();
    let mut spec = machine.shell(
        "cat /deep/er/in/file /etc/single; echo output >/out/file; \
         touch /deep/er/in/x 2>/dev/null || echo denied; touch /etc/single 2>/dev/null || echo denied",
    );
    spec.mounts.push(Mount::read_only(machine.path("in"), "/deep/er/in"));
    spec.mounts.push(Mount::read_write(machine.path("out"), "/out"));
    spec.mounts.push(Mount::read_only(machine.path("single"), "/etc/single"));
    give_tree(&machine.path("out"), &mapping(&spec), spec.uid, spec.gid).unwrap();
    assert_eq!(text(&spec), "inputsingledenied\ndenied");
    assert_eq!(fs::read_to_string(machine.path("out/file")).unwrap(), "output\n");
}

/// CVE-2024-21626 and its family: an image whose mount point is a link out of it.
fn mount_targets_stay_inside() {
    let machine = Machine::new();
    let outside = machine.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::create_dir(machine.path("in")).unwrap();
    fs::write(machine.path("in/file"), "input").unwrap();
    symlink(&outside, machine.path("layer/link")).unwrap();
    symlink("../../../..", machine.path("layer/up")).unwrap();
    let mut spec = machine.shell("cat /link/made/file /up/other/file");
    spec.mounts.push(Mount::read_only(machine.path("in"), "/link/made"));
    spec.mounts.push(Mount::read_only(machine.path("in"), "/up/other"));
    assert_eq!(text(&spec), "inputinput");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

/// Row 56: no mount and no directory is left, also when the command makes that hard.
fn nothing_is_left() {
    let machine = Machine::new();
    let script = "mkdir -p /tmp/x; cd /; mkdir -p /left/a/b && busybox chmod 000 /left/a /left";
    let mut spec = machine.shell(script);
    (spec.uid, spec.gid) = (0, 0);
    give_tree(&machine.path("layer"), &mapping(&spec), 0, 0).unwrap();
    spec.working_directory = "/tmp".into();
    assert!(output(&spec).status.success());
    assert_eq!(fs::read_dir(machine.path("scratch")).unwrap().count(), 0);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(machine.directory.path().to_str().unwrap()));
}
