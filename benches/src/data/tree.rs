//! Folders of packages, as package managers leave them.

use std::collections::HashSet;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::random::Random;
use super::text::{Kind, Writer, hexadecimal, identifier};

/// What a tree has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TreeSpec {
    pub(super) seed: u64,
    pub(super) files: u64,
    pub(super) folders: u64,
    pub(super) links: u64,
    /// Of all files together.
    pub(super) bytes: u64,
    /// The standard deviation of the logarithm of sizes.
    pub(super) spread: f64,
    pub(super) largest: u64,
}

impl TreeSpec {
    /// A part of the tree.
    pub(super) const fn divided(self, by: u64) -> Self {
        Self {
            files: self.files.div_ceil(by),
            folders: self.folders.div_ceil(by),
            links: self.links / by,
            bytes: self.bytes.div_ceil(by),
            ..self
        }
    }

    pub(super) const fn seeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }
}

const INNER: [&str; 12] =
    ["lib", "dist", "src", "esm", "cjs", "types", "internal", "utils", "helpers", "test", "build", "fp"];

/// Writes a tree into a folder that does not exist.
pub(super) fn write(spec: &TreeSpec, root: &Path) -> anyhow::Result<()> {
    let mut random = Random::new(spec.seed);
    let folders = folders(spec, root, &mut random);
    for folder in &folders {
        fs_err::create_dir_all(folder)?;
    }
    let sizes = sizes(spec, &mut random);
    let mut writer = Writer::new(spec.seed);
    let mut written = Vec::new();
    for (index, size) in sizes.iter().enumerate() {
        // Files of a folder follow each other, as those of a package do.
        let folder = &folders[index * folders.len() / sizes.len()];
        if index % 24 == 0 {
            writer.begin_package();
        }
        let (kind, extension) = kind(*size, &mut random);
        let path = folder.join(format!("{}-{index}.{extension}", identifier(&mut random)));
        fs_err::write(&path, writer.write(kind, *size as usize))?;
        written.push(path);
    }
    let binaries = root.join(".bin");
    for index in 0..spec.links {
        fs_err::create_dir_all(&binaries)?;
        let target = random.pick(&written).strip_prefix(root)?;
        symlink(Path::new("..").join(target), binaries.join(format!("tool-{index}")))?;
    }
    Ok(())
}

/// Packages, some of a scope, some within others, with folders of their own.
fn folders(spec: &TreeSpec, root: &Path, random: &mut Random) -> Vec<PathBuf> {
    let (mut folders, mut known) = (Vec::new(), HashSet::new());
    let mut package = root.to_owned();
    while (folders.len() as u64) < spec.folders {
        let name = format!("{}-{}", identifier(random).to_ascii_lowercase(), folders.len());
        package = match random.below(10) {
            0 | 1 => root.join(format!("@{}", random.pick(&INNER))).join(name),
            2 if package.components().count() < root.components().count() + 6 => {
                package.join("node_modules").join(name)
            }
            _ => root.join(name),
        };
        folders.push(package.clone());
        let mut inner = package.clone();
        for _ in 0..random.below(7) {
            inner = if random.below(2) == 0 {
                package.join(*random.pick(&INNER))
            } else {
                inner.join(*random.pick(&INNER))
            };
            if known.insert(inner.clone()) {
                folders.push(inner.clone());
            }
        }
    }
    folders.truncate(spec.folders as usize);
    folders
}

/// Of the log-normal distribution, with the sum that is wanted.
fn sizes(spec: &TreeSpec, random: &mut Random) -> Vec<u64> {
    let shapes: Vec<f64> = (0..spec.files).map(|_| (random.normal() * spec.spread).exp()).collect();
    let largest = spec.largest as f64;
    let mut scale = spec.bytes as f64 / shapes.iter().sum::<f64>();
    // What the largest files lose, the others get.
    for _ in 0..4 {
        let sum: f64 = shapes.iter().map(|shape| (shape * scale).min(largest)).sum();
        scale *= spec.bytes as f64 / sum;
    }
    shapes.iter().map(|shape| (shape * scale).min(largest) as u64).collect()
}

fn kind(size: u64, random: &mut Random) -> (Kind, &'static str) {
    match random.below(100) {
        // Libraries of machine code are large.
        _ if size > 2 << 20 && random.below(3) == 0 => (Kind::MachineCode, "node"),
        0..50 => (Kind::Program, "js"),
        50..58 => (Kind::Program, "mjs"),
        58..76 => (Kind::Types, "d.ts"),
        76..86 => (Kind::Map, "js.map"),
        86..94 => (Kind::Description, "json"),
        _ => (Kind::Prose, "md"),
    }
}

/// A file of many kinds, as a database, a model or an archive of a program is.
pub(super) fn write_mixture(path: &Path, size: u64) -> anyhow::Result<()> {
    const PIECE: u64 = 1 << 20;
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    let (mut writer, mut random) = (Writer::new(3), Random::new(3));
    let mut file = std::io::BufWriter::new(fs_err::File::create(path)?);
    let mut left = size;
    while left > 0 {
        let count = left.min(PIECE) as usize;
        let bytes = match random.below(20) {
            0..10 => writer.write(Kind::Program, count),
            10..16 => writer.write(Kind::MachineCode, count),
            16 | 17 => hexadecimal(&mut random, count).into_bytes(),
            18 => vec![0; count],
            _ => (0..count).map(|_| random.next() as u8).collect(),
        };
        if random.below(8) == 0 {
            writer.begin_package();
        }
        file.write_all(&bytes)?;
        left -= count as u64;
    }
    Ok(file.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_add_up() {
        let spec = super::super::NPM;
        let sizes = sizes(&spec, &mut Random::new(1));
        let sum: u64 = sizes.iter().sum();
        assert_eq!(sizes.len() as u64, spec.files);
        assert!(sum.abs_diff(spec.bytes) < spec.bytes / 100, "{sum}");
        assert!(sizes.iter().all(|size| *size <= spec.largest));
    }

    #[test]
    fn a_tree_has_what_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let spec = super::super::NPM.divided(500);
        let root = directory.path().join("tree");
        write(&spec, &root).unwrap();
        let (mut files, mut bytes, mut waiting) = (0, 0, vec![root]);
        while let Some(folder) = waiting.pop() {
            for entry in fs_err::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    waiting.push(entry.path());
                } else if kind.is_file() {
                    files += 1;
                    bytes += entry.metadata().unwrap().len();
                }
            }
        }
        assert_eq!(files, spec.files);
        assert!(bytes.abs_diff(spec.bytes) < spec.bytes / 20, "{bytes}");
    }
}
