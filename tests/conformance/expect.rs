//! Comparing what a step left behind with what is expected. Every difference becomes a line of the report.

use std::collections::BTreeMap;

use longshore_test_support::pulled::Content;
use longshore_test_support::{Outcome, PulledImage};
use serde_json::Value;

use super::case::{Expect, ImageExpect};
use super::world::World;

/// The differences after a step; `requests` is how many the registry had before.
pub(super) fn check(world: &World<'_>, expect: &Expect, outcome: &Outcome, requests: usize) -> Vec<String> {
    let mut found = Differences { world, list: Vec::new() };
    if outcome.code != Some(expect.exit) {
        found.add(format!("exit code {:?} instead of {}", outcome.code, expect.exit));
    }
    found.output(expect, outcome);
    found.files(expect);
    for (name, image) in &expect.images {
        found.image(name, image);
    }
    found.requests(expect, requests);
    found.list
}

struct Differences<'a> {
    world: &'a World<'a>,
    list: Vec<String>,
}

impl Differences<'_> {
    fn add(&mut self, difference: String) {
        self.list.push(difference);
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: &T, expected: &T) {
        if found != expected {
            self.add(format!("{what} is\n{found:#?}\ninstead of\n{expected:#?}"));
        }
    }

    fn text(&mut self, what: &str, found: &str, expected: &str) {
        if found != expected {
            self.add(format!("{what} is\n{found}\ninstead of\n{expected}"));
        }
    }

    fn output(&mut self, expect: &Expect, outcome: &Outcome) {
        if let Some(expected) = &expect.stdout {
            self.text("standard output", &outcome.stdout, &self.world.expand(expected));
        }
        let said = |text: &str| outcome.stdout.contains(text) || outcome.stderr.contains(text);
        for text in expect.says.iter().map(|text| self.world.expand(text)) {
            if !said(&text) {
                self.add(format!("`{text}` is not said"));
            }
        }
        for text in expect.silent.iter().map(|text| self.world.expand(text)) {
            if said(&text) {
                self.add(format!("`{text}` is said"));
            }
        }
    }

    fn files(&mut self, expect: &Expect) {
        for path in &expect.exists {
            if self.world.path(path).symlink_metadata().is_err() {
                self.add(format!("{path} does not exist"));
            }
        }
        for path in &expect.absent {
            if self.world.path(path).symlink_metadata().is_ok() {
                self.add(format!("{path} exists"));
            }
        }
        for (path, expected) in &expect.files {
            if let Some(found) = self.read(path) {
                self.text(path, &found, &self.world.expand(expected));
            }
        }
        for (path, parts) in &expect.contains {
            let found = self.read(path).unwrap_or_default();
            for part in parts.iter().map(|part| self.world.expand(part)) {
                if !found.contains(&part) {
                    self.add(format!("{path} has no `{part}`:\n{found}"));
                }
            }
        }
        for (path, expected) in &expect.toml {
            if let Some(found) = self.read(path) {
                self.toml(path, &found, &self.world.expand(expected));
            }
        }
    }

    fn read(&mut self, path: &str) -> Option<String> {
        match std::fs::read(self.world.path(path)) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => {
                self.add(format!("{path} cannot be read: {error}"));
                None
            }
        }
    }

    fn toml(&mut self, path: &str, found: &str, expected: &str) {
        let wanted: toml::Table =
            expected.parse().unwrap_or_else(|error| panic!("the case's text for {path}: {error}"));
        match found.parse::<toml::Table>() {
            Ok(table) => {
                if !same_toml(&without_nothing(table.into()), &without_nothing(wanted.into())) {
                    self.add(format!("{path} is\n{found}\ninstead of\n{expected}"));
                }
            }
            Err(error) => self.add(format!("{path} is not TOML: {error}\n{found}")),
        }
    }

    fn requests(&mut self, expect: &Expect, before: usize) {
        let requests = self.world.registry.requests();
        let made = |request: &str| {
            let (method, path) = request.split_once(' ').expect("METHOD path");
            requests[before..]
                .iter()
                .any(|made| made.method == method && format!("{}?{}", made.path, made.query).contains(path))
        };
        for request in expect.requests.iter().map(|request| self.world.expand(request)) {
            if !made(&request) {
                self.add(format!("there was no request {request}"));
            }
        }
        for request in expect.no_requests.iter().map(|request| self.world.expand(request)) {
            if made(&request) {
                self.add(format!("there was a request {request}"));
            }
        }
    }

    fn image(&mut self, name: &str, expect: &ImageExpect) {
        let Some(image) = self.world.image(name) else {
            if !expect.missing {
                self.add(format!("there is no image {name}"));
            }
            return;
        };
        if expect.missing {
            self.add(format!("there is an image {name}"));
        }
        self.config(name, expect, &image);
        self.labels(name, expect, &image);
        self.contents(name, expect, &image);
        let digest = |other: &str| self.world.image(other).map(|other| other.digest);
        let (same, other) = (expect.same_as.as_deref().map(digest), expect.other_than.as_deref().map(digest));
        if same.is_some_and(|same| same.as_ref() != Some(&image.digest)) {
            self.add(format!("{name} is not the same image as {:?}", expect.same_as));
        }
        if other.is_some_and(|other| other.as_ref() == Some(&image.digest)) {
            self.add(format!("{name} is the same image as {:?}", expect.other_than));
        }
    }

    fn config(&mut self, name: &str, expect: &ImageExpect, image: &PulledImage) {
        let inner = &image.config["config"];
        let list = |value: &Value| -> Vec<String> {
            let texts = value.as_array().into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        for (key, expected) in [("Entrypoint", &expect.entrypoint), ("Cmd", &expect.cmd)] {
            if let Some(expected) = expected {
                self.same(&format!("{key} of {name}"), &list(&inner[key]), expected);
            }
        }
        for (what, found, expected) in [
            ("WorkingDir", &inner["WorkingDir"], &expect.working_dir),
            ("User", &inner["User"], &expect.user),
            ("created", &image.config["created"], &expect.created),
            ("architecture", &image.config["architecture"], &expect.architecture),
            ("variant", &image.config["variant"], &expect.variant),
        ] {
            if let Some(expected) = expected {
                let found = found.as_str().unwrap_or_default();
                self.text(&format!("{what} of {name}"), found, &self.world.expand(expected));
            }
        }
        let found = list(&inner["Env"]);
        for variable in expect.env.iter().map(|variable| self.world.expand(variable)) {
            if !found.contains(&variable) {
                self.add(format!("{name} has no variable {variable}: {found:#?}"));
            }
        }
        if !expect.history.is_empty() {
            let history = image.config["history"].as_array().cloned().unwrap_or_default();
            let history: Vec<String> = history
                .iter()
                .map(|entry| entry["created_by"].as_str().unwrap_or_default().to_owned())
                .collect();
            let tail = history.len().saturating_sub(expect.history.len());
            self.same(&format!("the history of {name}"), &history[tail..].to_vec(), &expect.history);
        }
    }

    fn labels(&mut self, name: &str, expect: &ImageExpect, image: &PulledImage) {
        let labels = &image.config["config"]["Labels"];
        for (label, expected) in &expect.labels {
            let found = labels[label].as_str().unwrap_or("(nothing)");
            self.text(&format!("label {label} of {name}"), found, &self.world.expand(expected));
        }
        for label in &expect.no_labels {
            if labels.get(label).is_some() {
                self.add(format!("{name} has the label {label}"));
            }
        }
        for (label, expected) in &expect.label_json {
            let text = labels[label].as_str().unwrap_or("null");
            let found: Value = serde_json::from_str(text).unwrap_or_default();
            let expected = self.world.expand(expected);
            let wanted = serde_json::from_str(&expected)
                .unwrap_or_else(|error| panic!("the case's JSON for {label}: {error}"));
            if !has_json(&found, &wanted) {
                self.add(format!("label {label} of {name} is\n{found:#}\ninstead of\n{expected}"));
            }
        }
    }

    fn contents(&mut self, name: &str, expect: &ImageExpect, image: &PulledImage) {
        if let Some(expected) = expect.layers {
            self.same(&format!("the number of layers of {name}"), &image.layers.len(), &expected);
        }
        let diff_ids: Vec<_> = image.layers.iter().map(|layer| Value::from(layer.diff_id.clone())).collect();
        if image.config["rootfs"]["diff_ids"] != Value::from(diff_ids) {
            self.add(format!("the DiffIDs of {name} are not those of its layers"));
        }
        for (path, expected) in self.expanded(&expect.files) {
            let found = file(image, &path);
            self.same(&format!("{path} in {name}"), &found, &Some(expected));
        }
        for (path, expected) in self.expanded(&expect.contains) {
            let found = file(image, &path).unwrap_or_default();
            if !found.contains(&expected) {
                self.add(format!("{path} in {name} has no `{expected}`:\n{found}"));
            }
        }
        for (path, expected) in self.expanded(&expect.links) {
            let found = image.entry(&path).map(|entry| entry.content.clone());
            self.same(&format!("{path} in {name}"), &found, &Some(Content::Link(expected)));
        }
        self.entries(name, expect, image);
        for path in expect.absent.iter().map(|path| self.world.expand(path)) {
            if image.entry(&path).is_some() {
                self.add(format!("{name} has {path}"));
            }
        }
        for paths in &expect.together {
            let paths: Vec<String> = paths.iter().map(|path| self.world.expand(path)).collect();
            let has_all =
                image.layers.iter().any(|layer| paths.iter().all(|path| layer.entries.contains_key(path)));
            if !has_all {
                self.add(format!("no layer of {name} has all of {paths:?}"));
            }
        }
        if let Some(first) = expect.layer_paths.first() {
            let root = self.world.expand("{root}");
            let layer = image.layer_with(&self.world.expand(first));
            let paths = layer.into_iter().flat_map(|layer| layer.entries.keys());
            let paths: Vec<_> = paths.filter(|path| !root.starts_with(path.as_str())).cloned().collect();
            let expected: Vec<_> = expect.layer_paths.iter().map(|path| self.world.expand(path)).collect();
            let mut sorted = expected;
            sorted.sort_unstable();
            self.same(&format!("the layer of {name} with {first}"), &paths, &sorted);
        }
    }

    fn entries(&mut self, name: &str, expect: &ImageExpect, image: &PulledImage) {
        for (path, expected) in self.expanded(&expect.modes) {
            let found = image.entry(&path).map(|entry| format!("{:04o}", entry.mode));
            self.same(&format!("the mode of {path} in {name}"), &found, &Some(expected));
        }
        let (uid, gid) = self.world.owner();
        for path in expect.normalised.iter().map(|path| self.world.expand(path)) {
            let found = image.entry(&path).map(|entry| (entry.owner, entry.modified));
            let expected = Some(((u64::from(uid), u64::from(gid)), 315_532_801));
            self.same(&format!("owner and time of {path} in {name}"), &found, &expected);
        }
    }

    fn expanded(&self, texts: &BTreeMap<String, String>) -> Vec<(String, String)> {
        texts.iter().map(|(path, text)| (self.world.expand(path), self.world.expand(text))).collect()
    }
}

fn file(image: &PulledImage, path: &str) -> Option<String> {
    match &image.entry(path)?.content {
        Content::File(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        other => Some(format!("({other:?})")),
    }
}

/// Without empty lists and tables: those are the same as none.
fn without_nothing(value: toml::Value) -> toml::Value {
    let is_nothing = |value: &toml::Value| match value {
        toml::Value::Array(list) => list.is_empty(),
        toml::Value::Table(table) => table.is_empty(),
        _ => false,
    };
    match value {
        toml::Value::Array(list) => toml::Value::Array(list.into_iter().map(without_nothing).collect()),
        toml::Value::Table(table) => {
            let fields = table.into_iter().map(|(key, value)| (key, without_nothing(value)));
            toml::Value::Table(fields.filter(|(_, value)| !is_nothing(value)).collect())
        }
        other => other,
    }
}

/// Equal, where the text `*` stands for anything but an empty text.
fn same_toml(found: &toml::Value, wanted: &toml::Value) -> bool {
    match (found, wanted) {
        (found, toml::Value::String(wanted)) if wanted == "*" => found.as_str() != Some(""),
        (toml::Value::Table(found), toml::Value::Table(wanted)) => {
            found.len() == wanted.len()
                && wanted
                    .iter()
                    .all(|(key, wanted)| found.get(key).is_some_and(|found| same_toml(found, wanted)))
        }
        (toml::Value::Array(found), toml::Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(found, wanted)| same_toml(found, wanted))
        }
        _ => found == wanted,
    }
}

/// Whether `found` has all that `wanted` has; lists have the same length, and the text `*` stands for anything but
/// nothing.
fn has_json(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (found, Value::String(wanted)) if wanted == "*" => !found.is_null(),
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| has_json(found, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len()
                && found.iter().zip(wanted).all(|(found, wanted)| has_json(found, wanted))
        }
        _ => found == wanted,
    }
}
