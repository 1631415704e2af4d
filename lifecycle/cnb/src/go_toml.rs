//! TOML as the Go library `BurntSushi/toml` writes it.
//!
//! `<layers>/config/metadata.toml` is the content of a layer of the app image, so its bytes decide the layer's DiffID,
//! and drop-in use means that a rebuild with the reference lifecycle, or with ours, gives the same one. The library's
//! rules: in every table first the keys with plain values, then the tables and arrays of tables, each group in the
//! order of the Go struct (or sorted, for maps); two spaces of indentation per level; an empty line before every
//! top-level table and every element of an array of tables; an absent slice is left out, an empty one is `[]`.

use std::fmt::Write as _;

/// A value of a TOML document.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A string.
    String(String),
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
    /// A boolean.
    Boolean(bool),
    /// Text that is written as it is: what Go's `MarshalTOML` returned, or a date.
    Raw(String),
    /// An array; one of tables only, and not empty, is written as `[[...]]`.
    Array(Vec<Value>),
    /// A table.
    Table(Table),
}

/// A table: its keys in the order of the Go struct. Keys of a Go map must be added sorted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    entries: Vec<(String, Value)>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.entries.push((key.to_owned(), value.into()));
        self
    }

    /// Adds a key when there is a value: Go's nil.
    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds a key unless its value is empty or false: Go's `omitempty`.
    #[must_use]
    pub fn with_filled(self, key: &str, value: impl Into<Value>) -> Self {
        let value = value.into();
        let empty = match &value {
            Value::String(text) | Value::Raw(text) => text.is_empty(),
            Value::Boolean(boolean) => !boolean,
            Value::Array(array) => array.is_empty(),
            Value::Table(table) => table.entries.is_empty(),
            Value::Integer(_) | Value::Float(_) => false,
        };
        if empty { self } else { self.with(key, value) }
    }

    /// Whether no key was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The document whose root is this table.
    #[must_use]
    pub fn to_document(&self) -> String {
        let mut encoder = Encoder::default();
        encoder.entries(&[], self);
        encoder.output
    }
}

impl From<Table> for Value {
    fn from(table: Table) -> Self {
        Self::Table(table)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::String(text.clone())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}

impl From<i64> for Value {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(values: Vec<T>) -> Self {
        Self::Array(values.into_iter().map(Into::into).collect())
    }
}

impl From<&[String]> for Value {
    fn from(values: &[String]) -> Self {
        Self::Array(values.iter().map(Self::from).collect())
    }
}

impl From<&toml::Value> for Value {
    /// Free-form data: a Go map, so with sorted keys.
    fn from(value: &toml::Value) -> Self {
        match value {
            toml::Value::String(text) => Self::String(text.clone()),
            toml::Value::Integer(integer) => Self::Integer(*integer),
            toml::Value::Float(float) => Self::Float(*float),
            toml::Value::Boolean(boolean) => Self::Boolean(*boolean),
            toml::Value::Datetime(datetime) => Self::Raw(datetime.to_string()),
            toml::Value::Array(array) => Self::Array(array.iter().map(Self::from).collect()),
            toml::Value::Table(table) => Self::Table(table.into()),
        }
    }
}

impl From<&toml::Table> for Table {
    fn from(table: &toml::Table) -> Self {
        let mut entries: Vec<_> = table.iter().map(|(key, value)| (key.clone(), value.into())).collect();
        entries.sort_by(|(left, _), (right, _)| left.cmp(right));
        Self { entries }
    }
}

impl From<&serde_json::Value> for Value {
    /// Free-form data of a label. TOML has no null: callers leave nulls out, and inside arrays they become "".
    fn from(value: &serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Self::String(String::new()),
            serde_json::Value::Bool(boolean) => Self::Boolean(*boolean),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Self::Integer(integer),
                (None, Some(float)) => Self::Float(float),
                (None, None) => Self::String(number.to_string()),
            },
            serde_json::Value::String(text) => Self::String(text.clone()),
            serde_json::Value::Array(array) => Self::Array(array.iter().map(Self::from).collect()),
            serde_json::Value::Object(object) => Self::Table(object.into()),
        }
    }
}

impl From<&serde_json::Map<String, serde_json::Value>> for Table {
    fn from(object: &serde_json::Map<String, serde_json::Value>) -> Self {
        let mut entries: Vec<_> = object
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), value.into()))
            .collect();
        entries.sort_by(|(left, _), (right, _)| left.cmp(right));
        Self { entries }
    }
}

impl Value {
    fn is_table_like(&self) -> bool {
        match self {
            Self::Table(_) => true,
            Self::Array(array) => is_array_of_tables(array),
            _ => false,
        }
    }
}

fn is_array_of_tables(array: &[Value]) -> bool {
    !array.is_empty() && array.iter().all(|value| matches!(value, Value::Table(_)))
}

#[derive(Default)]
struct Encoder {
    output: String,
}

impl Encoder {
    fn entries(&mut self, path: &[&str], table: &Table) {
        for tables in [false, true] {
            for (key, value) in table.entries.iter().filter(|(_, value)| value.is_table_like() == tables) {
                let path = [path, &[key.as_str()]].concat();
                match value {
                    Value::Table(inner) => self.table(&path, inner),
                    Value::Array(array) if tables => self.array_of_tables(&path, array),
                    plain => {
                        self.indent(&path);
                        let _ = write!(self.output, "{} = ", quoted_key(key));
                        self.element(plain);
                        self.output.push('\n');
                    }
                }
            }
        }
    }

    fn table(&mut self, path: &[&str], table: &Table) {
        if path.len() == 1 {
            self.blank_line();
        }
        self.indent(path);
        let _ = writeln!(self.output, "[{}]", quoted_path(path));
        self.entries(path, table);
    }

    fn array_of_tables(&mut self, path: &[&str], array: &[Value]) {
        for value in array {
            if let Value::Table(table) = value {
                self.blank_line();
                self.indent(path);
                let _ = writeln!(self.output, "[[{}]]", quoted_path(path));
                self.entries(path, table);
            }
        }
    }

    fn element(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.output.push_str(&quoted(text)),
            Value::Integer(integer) => {
                let _ = write!(self.output, "{integer}");
            }
            Value::Float(float) => self.output.push_str(&float_text(*float)),
            Value::Boolean(boolean) => {
                let _ = write!(self.output, "{boolean}");
            }
            Value::Raw(text) => self.output.push_str(text),
            Value::Array(array) => {
                self.output.push('[');
                for (index, value) in array.iter().enumerate() {
                    if index > 0 {
                        self.output.push_str(", ");
                    }
                    self.element(value);
                }
                self.output.push(']');
            }
            Value::Table(table) => self.inline_table(table),
        }
    }

    fn inline_table(&mut self, table: &Table) {
        self.output.push('{');
        let plain = table.entries.iter().filter(|(_, value)| !value.is_table_like());
        let tables = table.entries.iter().filter(|(_, value)| value.is_table_like());
        for (index, (key, value)) in plain.chain(tables).enumerate() {
            if index > 0 {
                self.output.push_str(", ");
            }
            let _ = write!(self.output, "{} = ", quoted_key(key));
            self.element(value);
        }
        self.output.push('}');
    }

    fn indent(&mut self, path: &[&str]) {
        for _ in 1..path.len() {
            self.output.push_str("  ");
        }
    }

    fn blank_line(&mut self) {
        if !self.output.is_empty() {
            self.output.push('\n');
        }
    }
}

/// Go's `strconv.FormatFloat(f, 'g', -1, 64)`, with at least one digit after the point.
fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        let Some((mantissa, exponent)) = text.split_once('e') else { return text };
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    let text = value.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

fn quoted_path(path: &[&str]) -> String {
    path.iter().map(|key| quoted_key(key)).collect::<Vec<_>>().join(".")
}

fn quoted_key(key: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { quoted(key) }
}

fn quoted(text: &str) -> String {
    let mut output = String::with_capacity(text.len() + 2);
    output.push('"');
    for character in text.chars() {
        match character {
            '"' => output.push_str("\\\""),
            '\\' => output.push_str("\\\\"),
            '\u{8}' => output.push_str("\\b"),
            '\t' => output.push_str("\\t"),
            '\n' => output.push_str("\\n"),
            '\u{c}' => output.push_str("\\f"),
            '\r' => output.push_str("\\r"),
            '\0'..='\u{1f}' | '\u{7f}' => {
                let _ = write!(output, "\\u{:04x}", u32::from(character));
            }
            other => output.push(other),
        }
    }
    output.push('"');
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_toml_has_the_reference_layout() {
        let process = Table::new()
            .with("type", "web")
            .with("command", Value::Raw(r#"["a", "\u003cb\u003e"]"#.to_owned()))
            .with("args", Vec::<String>::new())
            .with("direct", true)
            .with("buildpack-id", "acme/web");
        let document = Table::new()
            .with("buildpacks", vec![Table::new().with("id", "acme/web").with("version", "1.0")])
            .with("processes", vec![process])
            .with_some("slices", None::<Value>)
            .with_filled("buildpack-default-process-type", "web")
            .to_document();
        let expected = concat!(
            "buildpack-default-process-type = \"web\"\n",
            "\n[[buildpacks]]\n  id = \"acme/web\"\n  version = \"1.0\"\n",
            "\n[[processes]]\n  type = \"web\"\n  command = [\"a\", \"\\u003cb\\u003e\"]\n",
            "  args = []\n  direct = true\n  buildpack-id = \"acme/web\"\n",
        );
        assert_eq!(document, expected);
    }

    #[test]
    fn nested_tables_are_indented_without_blank_lines() {
        let inner = Table::new().with("deep", Table::new().with("x", 1)).with("a b", "c\"\u{1}");
        let document = Table::new().with("metadata", Table::new().with("entry", inner)).to_document();
        assert_eq!(
            document,
            "[metadata]\n  [metadata.entry]\n    \"a b\" = \"c\\\"\\u0001\"\n    [metadata.entry.deep]\n      x = 1\n"
        );
    }

    #[test]
    fn free_form_data_is_sorted_and_reads_back() {
        let text = "b = 1.0\na = [1, 2]\nd = 1979-05-27T07:32:00Z\n[t]\nz = [{ q = 1, b = true }, 3]\n";
        let table: toml::Table = toml::from_str(text).unwrap();
        let document = Table::from(&table).to_document();
        assert_eq!(
            document,
            "a = [1, 2]\nb = 1.0\nd = 1979-05-27T07:32:00Z\n\n[t]\n  z = [{b = true, q = 1}, 3]\n"
        );
        assert_eq!(toml::from_str::<toml::Table>(&document).unwrap(), table);
    }

    #[test]
    fn floats_are_never_integers() {
        for (value, expected) in
            [(1.0, "1.0"), (0.5, "0.5"), (1e21, "1e+21"), (1.5e-5, "1.5e-05"), (f64::INFINITY, "inf")]
        {
            assert_eq!(float_text(value), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_document_reads_back(pairs in proptest::collection::btree_map(".{0,8}", ".{0,12}", 0..6)) {
            let table: toml::Table =
                pairs.into_iter().map(|(key, value)| (key, toml::Value::String(value))).collect();
            let nested = toml::Table::from_iter([("t".to_owned(), toml::Value::Table(table))]);
            let document = Table::from(&nested).to_document();
            proptest::prop_assert_eq!(toml::from_str::<toml::Table>(&document).unwrap(), nested);
        }
    }
}
