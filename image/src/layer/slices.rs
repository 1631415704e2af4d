//! The application directory as one layer, or divided into slices (buildpack spec, "Slices"; `launch.toml`).
//!
//! Entries are sorted by their whole path, so `a-b` comes before `a/x`. The first slice that matches a file gets it; a
//! directory that matches brings all in it; directories above what a slice has are repeated in it; the last layer has
//! what remains, and may be empty.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::LayerSource;
use super::entry::{Entry, EntryKind, Ownership};
use super::error::LayerError;
use super::pattern::Pattern;
use super::walk;

/// The layers of directory `host`, named `name` in the image: one for each slice, and one for what remains. A slice is a
/// list of patterns relative to the directory, as in `launch.toml`.
///
/// # Errors
/// When the directory cannot be read or a pattern is malformed.
pub fn slices(
    host: &Path,
    name: &Path,
    slices: &[Vec<String>],
    ownership: &Ownership,
) -> Result<Vec<LayerSource>, LayerError> {
    let name = walk::plain_name(name)?;
    let parents = walk::parents(host, &name, ownership)?;
    let mut tree = Vec::new();
    walk::tree(host, &name, ownership, &mut |entry| {
        tree.push(entry);
        Ok(())
    })?;
    divide(&name, tree, slices)?
        .into_iter()
        .map(|entries| {
            let parents = if entries.is_empty() { &[] } else { parents.as_slice() };
            Ok(LayerSource::entries(parents.iter().cloned().chain(entries).collect()))
        })
        .collect()
}

/// Divides a tree (with its root directory `name`) into the entries of each slice and of the rest.
pub(super) fn divide(
    name: &Path,
    tree: Vec<Entry>,
    slices: &[Vec<String>],
) -> Result<Vec<Vec<Entry>>, LayerError> {
    let mut entries: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
    let mut children: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for entry in tree {
        if let Some(parent) = entry.path.parent() {
            children.entry(parent.to_owned()).or_default().push(entry.path.clone());
        }
        entries.insert(key(&entry.path), entry);
    }
    let mut taken = BTreeSet::new();
    let mut layers = Vec::new();
    for patterns in slices {
        let matched = matched(name, &entries, patterns, &taken)?;
        taken.extend(matched.iter().cloned());
        let parents = missing_parents(name, &matched);
        for parent in parents.iter().rev() {
            let all = children.get(parent).is_none_or(|all| all.iter().all(|child| taken.contains(child)));
            if all {
                taken.insert(parent.clone());
            }
        }
        let in_layer = |entry: &&Entry| matched.contains(&entry.path) || parents.contains(&entry.path);
        layers.push(entries.values().filter(in_layer).cloned().collect());
    }
    layers.push(entries.into_values().filter(|entry| !taken.contains(&entry.path)).collect());
    Ok(layers)
}

/// The paths that a slice matches, with all below them, without those that are taken.
fn matched(
    name: &Path,
    entries: &BTreeMap<Vec<u8>, Entry>,
    patterns: &[String],
    taken: &BTreeSet<PathBuf>,
) -> Result<BTreeSet<PathBuf>, LayerError> {
    let compile = |text: &String| Ok((text.starts_with('/'), Pattern::new(text)?));
    let patterns = patterns.iter().map(compile).collect::<Result<Vec<_>, LayerError>>()?;
    // Patterns are relative to the application directory, or absolute and then begin with it.
    let hit = |path: &Path, relative: &Path| {
        let (path, relative) = (path.to_string_lossy(), relative.to_string_lossy());
        patterns.iter().any(|(absolute, pattern)| pattern.matches(if *absolute { &path } else { &relative }))
    };
    let mut roots = BTreeSet::new();
    let mut found = BTreeSet::new();
    // A directory whose files were all taken before counts as taken, and then matches nothing.
    let free = entries.values().filter(|entry| !taken.contains(&entry.path));
    let mut by_component: Vec<&Entry> = free.collect();
    by_component.sort_unstable_by(|left, right| left.path.cmp(&right.path));
    for entry in by_component {
        let Ok(relative) = entry.path.strip_prefix(name) else { continue };
        let inherited = entry.path.parent().is_some_and(|parent| roots.contains(parent));
        if inherited || (!relative.as_os_str().is_empty() && hit(&entry.path, relative)) {
            if entry.kind == EntryKind::Directory {
                roots.insert(entry.path.clone());
            }
            found.insert(entry.path.clone());
        }
    }
    Ok(found)
}

/// The directories between the application directory (included) and what matched, which did not match themselves.
fn missing_parents(name: &Path, matched: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let above = matched.iter().flat_map(|path| path.ancestors().skip(1));
    above.filter(|path| path.starts_with(name) && !matched.contains(*path)).map(Path::to_owned).collect()
}

fn key(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn divided(paths: &[&str], slices: &[&[&str]]) -> Vec<Vec<String>> {
        let tree = paths.iter().map(|path| match path.strip_suffix('/') {
            Some(directory) => Entry::directory(directory, 0o755),
            None => Entry::file(*path, 0o644, ""),
        });
        let slices: Vec<Vec<String>> =
            slices.iter().map(|slice| slice.iter().map(|pattern| (*pattern).to_owned()).collect()).collect();
        let layers = divide(Path::new("/w"), tree.collect(), &slices).unwrap();
        let names =
            |layer: Vec<Entry>| layer.into_iter().map(|entry| entry.path.display().to_string()).collect();
        layers.into_iter().map(names).collect()
    }

    #[test]
    fn whole_paths_are_sorted() {
        assert_eq!(divided(&["/w/", "/w/a/", "/w/a/x", "/w/a-b"], &[]), [["/w", "/w/a", "/w/a-b", "/w/a/x"]]);
    }

    #[test]
    fn the_first_slice_wins_and_parents_are_repeated() {
        let tree = ["/w/", "/w/a/", "/w/a/x", "/w/a/y", "/w/b"];
        let layers = divided(&tree, &[&["a/x"], &["a", "missing"]]);
        assert_eq!(layers, [vec!["/w", "/w/a", "/w/a/x"], vec!["/w", "/w/a", "/w/a/y"], vec!["/w", "/w/b"]]);
    }

    #[test]
    fn patterns_may_be_absolute() {
        let tree = ["/w/", "/w/a/", "/w/a/x", "/w/b"];
        let layers = divided(&tree, &[&["/w/a"], &["/b", "/other/w/b"]]);
        assert_eq!(layers, [vec!["/w", "/w/a", "/w/a/x"], vec![], vec!["/w", "/w/b"]]);
    }

    #[test]
    fn nothing_remains_when_all_is_matched() {
        assert_eq!(divided(&["/w/", "/w/a"], &[&["*"]]), [vec!["/w", "/w/a"], vec![]]);
    }
}
