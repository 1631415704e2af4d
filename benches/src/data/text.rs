//! What is in the files: programs, types, maps and descriptions out of a grammar, and machine code.

use super::random::Random;

const SYLLABLES: [&str; 40] = [
    "re", "act", "con", "text", "par", "ser", "node", "val", "ue", "get", "ter", "map", "list", "en", "er",
    "or", "in", "out", "put", "stream", "key", "path", "file", "load", "type", "check", "is", "to", "from",
    "str", "ing", "num", "ber", "func", "call", "back", "event", "hand", "ler", "ex",
];

/// `a` to `d` stand for identifiers, `s` for a sentence, `n` for a number and `h` for a digest.
const PROGRAM: [&str; 24] = [
    "const $a = require('$b');\n",
    "import { $a, $b } from './$c.js';\n",
    "  if ($a.$b === undefined) {\n    return $c;\n  }\n",
    "  if (!$a || typeof $a !== 'object') {\n    throw new TypeError('$s');\n  }\n",
    "function $a($b, $c) {\n  return $b.$d($c);\n}\n",
    "  const $a = $b.$c($d, $n);\n",
    "  this.$a = $b;\n",
    "/**\n * $s\n *\n * @param {Object} $a $s\n * @returns {string}\n */\n",
    "// $s\n",
    "  for (let i = 0; i < $a.length; i++) {\n    $b.push($a[i].$c);\n  }\n",
    "exports.$a = $a;\n",
    "Object.defineProperty(exports, '$a', { enumerable: true, get: function () { return $b.$a; } });\n",
    "  $a.$b = function $b($c) {\n    var self = this;\n    $d(self.$c, $n);\n  };\n",
    "  case '$a':\n    $b.$c = $n;\n    break;\n",
    "    return $a.map(($b) => $b.$c).filter(Boolean);\n",
    "  } else if ($a.$b($c)) {\n    $d = $a;\n",
    "  try {\n    $a = await $b.$c($d);\n  } catch (err) {\n    $d.emit('error', err);\n  }\n",
    "class $a extends $b {\n  constructor($c) {\n    super($c);\n    this._$d = $n;\n  }\n}\n",
    "var $a=$b.$c,$d=function(e,t){return e.$a(t)};",
    "e.exports=function(t){var n=$n,r=t.$a;return r&&r.$b?r.$b(n):$c(t,$d)};",
    "  assert.strictEqual($a.$b($n), $n);\n",
    "  '$a': '$b',\n",
    "  [$n, $n, $n, $n],\n",
    "\n",
];
const TYPES: [&str; 8] = [
    "export declare function $a($b: $c, $d?: number): Promise<$c>;\n",
    "export interface $a {\n    $b: string;\n    $c?: $d;\n}\n",
    "    /**\n     * $s\n     */\n    $a($b: string): $c;\n",
    "export type $a = $b | $c | '$d';\n",
    "import { $a } from './$b';\n",
    "    readonly $a: $b<$c>;\n",
    "declare const $a: unique symbol;\n",
    "export { $a, $b } from './$c';\n",
];
const DESCRIPTION: [&str; 6] = [
    "  \"$a\": \"^$n.$n.0\",\n",
    "  \"$a\": {\n    \"$b\": \"$c\",\n    \"version\": \"$n.$n.$n\"\n  },\n",
    "  \"description\": \"$s\",\n",
    "  \"resolved\": \"https://registry.npmjs.org/$a/-/$a-$n.tgz\",\n  \"integrity\": \"sha512-$h\",\n",
    "  \"$a\": [\"$b\", \"$c\", \"$d\"],\n",
    "  \"$a\": true,\n",
];
const PROSE: [&str; 5] =
    ["# $a\n\n", "$s. $s.\n\n", "```js\nconst $a = require('$b')\n```\n\n", "- `$a`: $s\n", "## $a $b\n\n"];
const SEGMENTS: [&str; 24] = [
    "AAAA", "CAAC", "EAAE", "GAAG", "IAAI", "KAAK", "MAAM", "OAAO", "QAAQ", "SAAS", "UAAU", "WAAW", "YAAY",
    "aAAa", "AACA", "AADA", "CACC", "GACG", "IACI", "MACM", "QACQ", "KACA", "EADE", "cAAc",
];
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Program,
    Types,
    Map,
    Description,
    Prose,
    MachineCode,
}

/// Writes the contents of files, out of a vocabulary.
pub(super) struct Writer {
    random: Random,
    words: Vec<String>,
    /// The words of the package that is being written.
    package: Vec<usize>,
}

impl Writer {
    pub(super) fn new(seed: u64) -> Self {
        // The language is everybody's; what is said in it is not.
        let mut language = Random::new(0);
        let words = (0..6000).map(|_| identifier(&mut language)).collect();
        let mut writer = Self { random: Random::new(seed), words, package: Vec::new() };
        writer.begin_package();
        writer
    }

    /// Files of one package have most of their words in common.
    pub(super) fn begin_package(&mut self) {
        self.package = (0..160).map(|_| self.random.skewed(self.words.len())).collect();
    }

    /// `size` bytes of a kind.
    pub(super) fn write(&mut self, kind: Kind, size: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(size + 512);
        // A file is about few things.
        let about: Vec<usize> = (0..32).map(|_| *self.random.pick(&self.package)).collect();
        if kind == Kind::Map {
            text.extend_from_slice(
                b"{\"version\":3,\"file\":\"index.js\",\"sources\":[\"../src/index.ts\"],\"mappings\":\"",
            );
        }
        while text.len() < size {
            match kind {
                Kind::Program => self.statement(&PROGRAM, &about, &mut text),
                Kind::Types => self.statement(&TYPES, &about, &mut text),
                Kind::Description => self.statement(&DESCRIPTION, &about, &mut text),
                Kind::Prose => self.statement(&PROSE, &about, &mut text),
                Kind::Map => self.mapping(&mut text),
                Kind::MachineCode => self.instruction(&mut text),
            }
        }
        text.truncate(size);
        text
    }

    fn statement(&mut self, templates: &[&str], about: &[usize], text: &mut Vec<u8>) {
        let template = templates[self.random.below(templates.len())];
        let names = [0; 4].map(|_: i32| about[self.random.skewed(about.len())]);
        let mut bytes = template.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'$' {
                text.push(byte);
                continue;
            }
            match bytes.next() {
                Some(letter @ b'a'..=b'd') => {
                    text.extend_from_slice(self.words[names[usize::from(letter - b'a')]].as_bytes());
                }
                Some(b's') => self.sentence(text),
                Some(b'n') => text.extend_from_slice(self.random.skewed(4096).to_string().as_bytes()),
                _ => text.extend((0..86).map(|_| BASE64[self.random.below(64)])),
            }
        }
    }

    fn sentence(&mut self, text: &mut Vec<u8>) {
        for index in 0..4 + self.random.below(8) {
            if index > 0 {
                text.push(b' ');
            }
            let word = self.random.skewed(self.words.len() / 4);
            text.extend_from_slice(self.words[word].to_ascii_lowercase().as_bytes());
        }
    }

    fn mapping(&mut self, text: &mut Vec<u8>) {
        if self.random.below(10) < 7 {
            text.extend_from_slice(SEGMENTS[self.random.skewed(SEGMENTS.len())].as_bytes());
        } else {
            text.extend((0..5).map(|_| BASE64[self.random.below(52)]));
        }
        text.push(if self.random.below(8) == 0 { b';' } else { b',' });
    }

    /// Instructions: a few bytes that come again and again, and addresses that do not.
    fn instruction(&mut self, text: &mut Vec<u8>) {
        const CODES: [&[u8]; 12] = [
            &[0x48, 0x89, 0xe5],
            &[0x48, 0x8b, 0x45],
            &[0xe8],
            &[0x0f, 0x84],
            &[0x48, 0x8d, 0x3d],
            &[0xc3, 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x55, 0x41, 0x57, 0x41, 0x56],
            &[0x31, 0xc0],
            &[0x48, 0x83, 0xec],
            &[0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
            &[0xff, 0xff, 0xff, 0xff],
            &[0x74, 0x65, 0x73, 0x74],
        ];
        text.extend_from_slice(CODES[self.random.skewed(CODES.len())]);
        let address = self.random.next().to_le_bytes();
        text.extend_from_slice(&address[..self.random.below(4)]);
    }
}

/// A digest as file names have it.
pub(super) fn hexadecimal(random: &mut Random, length: usize) -> String {
    (0..length).map(|_| char::from(HEX[random.below(16)])).collect()
}

/// A name as programmers give it.
pub(super) fn identifier(random: &mut Random) -> String {
    let mut name = String::new();
    for index in 0..1 + random.below(3) {
        let syllables = format!("{}{}", random.pick(&SYLLABLES), random.pick(&SYLLABLES));
        if index == 0 {
            name.push_str(&syllables);
        } else {
            name.push_str(&syllables[..1].to_uppercase());
            name.push_str(&syllables[1..]);
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_writes_the_same() {
        for kind in [Kind::Program, Kind::Types, Kind::Map, Kind::Description, Kind::Prose, Kind::MachineCode]
        {
            let one = Writer::new(7).write(kind, 10_000);
            assert_eq!(one.len(), 10_000);
            assert_eq!(one, Writer::new(7).write(kind, 10_000));
            assert_ne!(one, Writer::new(8).write(kind, 10_000));
        }
    }
}
