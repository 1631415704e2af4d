//! Image configurations (image-spec `config.md`), lossless: what we do not know survives a rewrite.

mod history;
mod object;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use self::object::Object;
use self::schema::{CONFIG, HISTORY};
use crate::{DiffId, Fields, ImageId, Platform};
pub use history::History;
pub use jiff::Timestamp;

/// Bytes that are not an image configuration.
#[derive(Debug, thiserror::Error)]
#[error("it is not a JSON object with the fields of an image configuration")]
pub struct InvalidConfig(#[source] serde_json::Error);

/// An image configuration: its fields and, until it is changed, its very bytes.
///
/// A configuration that is only read and passed on keeps its bytes and thereby its [`ImageId`]. One that was changed is
/// written as other CNB tools write it: the known fields in the order of go-containerregistry and without empty values,
/// labels sorted, then the unknown fields of each object, with the text that they were read from.
#[derive(Debug, Clone)]
pub struct Config {
    fields: Object,
    raw: Option<::bytes::Bytes>,
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
    }
}

/// What is checked when a configuration is read, so that reading a field later cannot fail.
#[derive(Deserialize)]
struct Shape {
    #[serde(rename = "architecture")]
    _architecture: Option<String>,
    #[serde(rename = "os")]
    _os: Option<String>,
    #[serde(rename = "created")]
    _created: Option<String>,
    #[serde(rename = "rootfs")]
    _rootfs: Option<RootfsShape>,
    #[serde(rename = "history")]
    _history: Option<Vec<History>>,
    #[serde(rename = "config")]
    _config: Option<ExecutionShape>,
}

#[derive(Deserialize)]
struct RootfsShape {
    #[serde(rename = "diff_ids")]
    _diff_ids: Option<Vec<DiffId>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExecutionShape {
    #[serde(rename = "Env")]
    _env: Option<Vec<String>>,
    #[serde(rename = "Labels")]
    _labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "Entrypoint")]
    _entrypoint: Option<Vec<String>>,
    #[serde(rename = "Cmd")]
    _cmd: Option<Vec<String>>,
}

impl Config {
    /// The configuration of an image for a platform, with nothing in it.
    #[must_use]
    pub fn new(platform: &Platform) -> Self {
        let mut config = Self { fields: Object::default(), raw: None };
        config.set_platform(platform);
        config.set_diff_ids(&[]);
        config
    }

    /// Reads a configuration blob.
    ///
    /// # Errors
    /// When it is not a JSON object, or a field that is used here has another type than the spec says.
    pub fn parse(raw: impl Into<::bytes::Bytes>) -> Result<Self, InvalidConfig> {
        let raw = raw.into();
        let _: Shape = serde_json::from_slice(&raw).map_err(InvalidConfig)?;
        let text: &RawValue = serde_json::from_slice(&raw).map_err(InvalidConfig)?;
        let fields = Object::read(CONFIG, text.get()).map_err(InvalidConfig)?;
        Ok(Self { fields, raw: Some(raw) })
    }

    /// The bytes of the configuration blob: those that were read, when nothing was changed since.
    #[must_use]
    pub fn to_bytes(&self) -> ::bytes::Bytes {
        self.raw.clone().unwrap_or_else(|| self.fields.text(CONFIG).into())
    }

    /// The digest of [`Config::to_bytes`] (image-spec `config.md`, "ImageID").
    #[must_use]
    pub fn image_id(&self) -> ImageId {
        ImageId::of(&self.to_bytes())
    }

    /// The architecture in Go's words, empty when there is none.
    #[must_use]
    pub fn architecture(&self) -> &str {
        self.text("architecture").unwrap_or_default()
    }

    /// The operating system in Go's words, empty when there is none.
    #[must_use]
    pub fn os(&self) -> &str {
        self.text("os").unwrap_or_default()
    }

    /// The variant of the architecture.
    #[must_use]
    pub fn variant(&self) -> Option<&str> {
        self.text("variant")
    }

    /// The version of the operating system (Windows).
    #[must_use]
    pub fn os_version(&self) -> Option<&str> {
        self.text("os.version")
    }

    /// The platform that the image is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture().to_owned(),
            os: self.os().to_owned(),
            os_version: self.os_version().map(str::to_owned),
            variant: self.variant().map(str::to_owned),
            other: Fields::default(),
        }
    }

    /// Sets the operating system, architecture, variant and version.
    pub fn set_platform(&mut self, platform: &Platform) {
        self.set_text("architecture", &platform.architecture);
        self.set_text("os", &platform.os);
        self.set_text("os.version", platform.os_version.as_deref().unwrap_or_default());
        self.set_text("variant", platform.variant.as_deref().unwrap_or_default());
    }

    /// Who made the image.
    #[must_use]
    pub fn author(&self) -> Option<&str> {
        self.text("author")
    }

    /// Sets who made the image.
    pub fn set_author(&mut self, author: &str) {
        self.set_text("author", author);
    }

    /// When the image was made, `None` when not stated or not RFC 3339.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        self.text("created").and_then(|text| text.parse().ok())
    }

    /// Sets when the image was made.
    pub fn set_created(&mut self, created: Timestamp) {
        self.set_text("created", &created.to_string());
    }

    /// The DiffIDs of the layers, lowest first.
    #[must_use]
    pub fn diff_ids(&self) -> Vec<DiffId> {
        let ids = self.fields.object("rootfs").and_then(|rootfs| rootfs.value("diff_ids"));
        let texts = ids.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        texts.filter_map(|text| text.parse().ok()).collect()
    }

    /// Sets the DiffIDs of the layers, lowest first.
    pub fn set_diff_ids(&mut self, diff_ids: &[DiffId]) {
        let rootfs = self.object("rootfs");
        rootfs.put("type", Value::from("layers"));
        let ids = diff_ids.iter().map(|diff_id| Value::from(diff_id.to_string())).collect();
        rootfs.put("diff_ids", Value::Array(ids));
    }

    /// The history, oldest first.
    #[must_use]
    pub fn history(&self) -> Vec<History> {
        let entries = self.fields.list("history").iter().map(|entry| entry.text(HISTORY));
        entries.filter_map(|entry| serde_json::from_str(&entry).ok()).collect()
    }

    /// Sets the history, oldest first.
    pub fn set_history(&mut self, history: &[History]) {
        self.raw = None;
        self.fields.set_list("history", history.iter().map(History::to_object).collect());
    }

    /// The names and values of the environment, in order. What has no `=` is a name with an empty value.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let split = |text: String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (text, String::new()),
        };
        self.execution_list("Env").into_iter().map(split).collect()
    }

    /// The value of an environment variable; of several with the same name the last counts, as in a container.
    #[must_use]
    pub fn env_value(&self, name: &str) -> Option<String> {
        self.env().into_iter().rev().find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Sets an environment variable: in its place if it is there, else at the end.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let mut list = self.execution_list("Env");
        let matches = |text: &str| text.split_once('=').map_or(text, |(known, _)| known) == name;
        let entry = format!("{name}={value}");
        match list.iter().position(|text| matches(text)) {
            Some(first) => {
                let mut index = 0;
                list.retain(|text| {
                    index += 1;
                    index <= first + 1 || !matches(text)
                });
                list[first] = entry;
            }
            None => list.push(entry),
        }
        self.set_execution("Env", list.into());
    }

    /// Removes an environment variable.
    pub fn remove_env(&mut self, name: &str) {
        let mut list = self.execution_list("Env");
        list.retain(|text| text.split_once('=').map_or(text.as_str(), |(known, _)| known) != name);
        self.set_execution("Env", list.into());
    }

    /// The labels, sorted by name.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.execution_map("Labels").into_iter().flatten();
        labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.execution_map("Labels")?.get(name)?.as_str()
    }

    /// Sets a label.
    pub fn set_label(&mut self, name: &str, value: &str) {
        self.object("config").map_mut("Labels").insert(name.to_owned(), Value::from(value));
    }

    /// Removes a label.
    pub fn remove_label(&mut self, name: &str) {
        self.object("config").map_mut("Labels").shift_remove(name);
    }

    /// The program and its first arguments.
    #[must_use]
    pub fn entrypoint(&self) -> Vec<String> {
        self.execution_list("Entrypoint")
    }

    /// Sets the program and its first arguments; empty removes them.
    pub fn set_entrypoint(&mut self, entrypoint: &[String]) {
        self.set_execution("Entrypoint", entrypoint.into());
    }

    /// The default arguments.
    #[must_use]
    pub fn cmd(&self) -> Vec<String> {
        self.execution_list("Cmd")
    }

    /// Sets the default arguments; empty removes them.
    pub fn set_cmd(&mut self, cmd: &[String]) {
        self.set_execution("Cmd", cmd.into());
    }

    /// The directory the program starts in, empty when not stated.
    #[must_use]
    pub fn working_dir(&self) -> &str {
        self.execution("WorkingDir").and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets the directory the program starts in.
    pub fn set_working_dir(&mut self, directory: &str) {
        self.set_execution("WorkingDir", directory.into());
    }

    /// The user and group, `USER[:GROUP]`, empty when not stated.
    #[must_use]
    pub fn user(&self) -> &str {
        self.execution("User").and_then(Value::as_str).unwrap_or_default()
    }

    /// Sets the user and group, `USER[:GROUP]`.
    pub fn set_user(&mut self, user: &str) {
        self.set_execution("User", user.into());
    }

    /// The ports that the program listens on, `PORT/PROTOCOL`, sorted.
    #[must_use]
    pub fn exposed_ports(&self) -> Vec<String> {
        let ports = self.execution_map("ExposedPorts").into_iter().flatten();
        let mut names: Vec<String> = ports.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// Adds ports that the program listens on, `PORT/PROTOCOL`.
    pub fn add_exposed_ports(&mut self, ports: impl IntoIterator<Item = String>) {
        self.add_names("ExposedPorts", ports);
    }

    /// Adds directories for data that lives longer than a container.
    pub fn add_volumes(&mut self, paths: impl IntoIterator<Item = String>) {
        self.add_names("Volumes", paths);
    }

    fn add_names(&mut self, field: &'static str, names: impl IntoIterator<Item = String>) {
        let nothing = || Value::Object(Map::new());
        self.object("config").map_mut(field).extend(names.into_iter().map(|name| (name, nothing())));
    }

    /// Sets the signal that ends the program.
    pub fn set_stop_signal(&mut self, signal: &str) {
        self.set_execution("StopSignal", signal.into());
    }

    /// Removes a field of the whole configuration (`container`: the id of a container it was committed from).
    pub fn remove_field(&mut self, name: &str) {
        if self.fields.remove(name) {
            self.raw = None;
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.fields.value(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn set_text(&mut self, name: &'static str, text: &str) {
        self.raw = None;
        self.fields.set(name, text.into());
    }

    fn execution(&self, name: &str) -> Option<&Value> {
        self.fields.object("config")?.value(name)
    }

    fn execution_map(&self, name: &str) -> Option<&Map<String, Value>> {
        self.fields.object("config")?.map(name)
    }

    fn execution_list(&self, name: &str) -> Vec<String> {
        let list = self.execution(name).and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    fn set_execution(&mut self, name: &'static str, value: Value) {
        self.object("config").set(name, value);
    }

    fn object(&mut self, name: &'static str) -> &mut Object {
        self.raw = None;
        self.fields.object_mut(name)
    }
}
