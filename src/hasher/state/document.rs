//! Signing requests that hold a hash state in place of a file: one JSON document a line, in Signstar's published format
//! (<https://signstar.archlinux.page/signing-api/request.html>, version 1).
//!
//! The filter that stands when this runs forbids to ask the system for memory, and the heap has a little to spare. Therefore each value
//! is taken by [`At`], which keeps a few numbers of it: serde's own ready-made types quote what they do not like in errors, at six times
//! its length, and copy what they look ahead at. Of a document there is at most one string in memory, and only if it has escapes.

use crate::hash_state::{HashAlgorithm, HashState};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// The longest document in bytes. That of a state and a file's name has less than two thousand.
pub const MAX_DOCUMENT: usize = 16 * 1024;

/// How much of a file's name is kept, in bytes.
pub const MAX_FILE_NAME: usize = 4000;

/// Why a document is no signing request that can be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DocumentError {
    /// Longer than [`MAX_DOCUMENT`].
    #[error("is longer than 16 KiB")]
    Long,
    /// Not UTF-8, not JSON, or without what a request must have, or with it twice or of a wrong type.
    #[error("is not a signing request")]
    Malformed,
    /// Another major version than 1, or what is no released version at all.
    #[error("has a version other than 1")]
    Version,
    /// Something is required that this does not know.
    #[error("requires what is not known here")]
    Unknown,
    /// An input that is not a state of SHA-512 or SHA-256.
    #[error("has an unknown type of input")]
    Input,
    /// An output that is not a version 4 signature.
    #[error("asks for an unknown type of output")]
    Output,
    /// A state that has not the length of its algorithm's.
    #[error("has a state of a wrong length")]
    Length,
}

/// A request to sign what a state has taken in. Whether anybody could have got to that state by hashing is for others to say.
pub struct Document<'a> {
    /// The state's hash.
    pub algorithm: HashAlgorithm,
    state: [u8; HashState::MAX],
    length: usize,
    /// The file's name as the client tells it, cut to [`MAX_FILE_NAME`]; empty when there is none.
    pub file_name: Cow<'a, str>,
}

impl<'a> Document<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// Any [`DocumentError`].
    pub fn decode(line: &'a [u8]) -> Result<Document<'a>, DocumentError> {
        if line.len() > MAX_DOCUMENT {
            return Err(DocumentError::Long);
        }
        let text = std::str::from_utf8(line).map_err(|_| DocumentError::Malformed)?;
        let mut json = serde_json::Deserializer::from_str(text);
        let mut parts = Parts::default();
        let read = At { place: Place::Document, parts: &mut parts }.deserialize(&mut json);
        read.and_then(|()| json.end()).map_err(|_| DocumentError::Malformed)?;
        parts.check()
    }

    /// The state's bytes, as many as the algorithm's has.
    pub fn state(&self) -> &[u8] {
        self.state.get(..self.length).unwrap_or_default()
    }
}

/// Where in a document a value stands.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Document,
    Version,
    Required,
    Input,
    InputType,
    Content,
    Byte,
    Output,
    OutputType,
    Optional,
    FileName,
}

impl Place {
    /// Those that must be there, each once.
    const MEMBERS: [Place; 8] = [
        Place::Version,
        Place::Required,
        Place::Input,
        Place::InputType,
        Place::Content,
        Place::Output,
        Place::OutputType,
        Place::Optional,
    ];

    fn member(self, name: &str) -> Option<Place> {
        match (self, name) {
            (Place::Document, "version") => Some(Place::Version),
            (Place::Document, "required") => Some(Place::Required),
            (Place::Document, "optional") => Some(Place::Optional),
            (Place::Required, "input") => Some(Place::Input),
            (Place::Required, "output") => Some(Place::Output),
            (Place::Input, "type") => Some(Place::InputType),
            (Place::Input, "content") => Some(Place::Content),
            (Place::Output, "type") => Some(Place::OutputType),
            (Place::Optional, "file-name") => Some(Place::FileName),
            _ => None,
        }
    }

    /// Whether anything may stand there: "any changes in the `optional` category are allowed".
    fn is_open(self) -> bool {
        matches!(self, Place::Optional | Place::FileName)
    }
}

/// What was found.
struct Parts<'a> {
    /// A bit for each [`Place`].
    seen: u16,
    unknown: bool,
    version: bool,
    algorithm: Option<HashAlgorithm>,
    state: [u8; HashState::MAX],
    /// How many bytes the state would have, if there were room.
    length: usize,
    output: bool,
    file_name: Cow<'a, str>,
}

impl Default for Parts<'_> {
    fn default() -> Self {
        Parts {
            seen: 0,
            unknown: false,
            version: false,
            algorithm: None,
            state: [0; HashState::MAX],
            length: 0,
            output: false,
            file_name: Cow::Borrowed(""),
        }
    }
}

impl<'a> Parts<'a> {
    /// Whether it is seen for the first time.
    fn see(&mut self, place: Place) -> bool {
        let bit = 1 << place as u16;
        let first = self.seen & bit == 0;
        self.seen |= bit;
        first
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.state.get_mut(self.length) {
            *place = byte;
        }
        self.length += 1;
    }

    fn check(self) -> Result<Document<'a>, DocumentError> {
        let has = |place: &Place| self.seen & (1 << *place as u16) != 0;
        if has(&Place::Version) && !self.version {
            return Err(DocumentError::Version);
        }
        if self.unknown {
            return Err(DocumentError::Unknown);
        }
        if !Place::MEMBERS.iter().all(has) {
            return Err(DocumentError::Malformed);
        }
        let algorithm = self.algorithm.ok_or(DocumentError::Input)?;
        if !self.output {
            return Err(DocumentError::Output);
        }
        if self.length != HashState::new(algorithm).export(<[u8]>::len) {
            return Err(DocumentError::Length);
        }
        Ok(Document { algorithm, state: self.state, length: self.length, file_name: self.file_name })
    }
}

/// Takes whatever stands at a place.
struct At<'p, 'de> {
    place: Place,
    parts: &'p mut Parts<'de>,
}

impl<'de> At<'_, 'de> {
    fn text<E: Error>(self, text: &str, name: impl FnOnce() -> Cow<'de, str>) -> Result<(), E> {
        match self.place {
            Place::Version => self.parts.version = is_spoken(text),
            Place::InputType => self.parts.algorithm = algorithm(text),
            Place::OutputType => self.parts.output = text == "OpenPGPv4",
            Place::FileName => self.parts.file_name = name(),
            _ => return Err(wrong()),
        }
        Ok(())
    }

    /// For what is of no use anywhere.
    fn other<E: Error>(self) -> Result<(), E> {
        if self.place == Place::FileName { Ok(()) } else { Err(wrong()) }
    }
}

/// Nobody reads it.
fn wrong<E: Error>() -> E {
    E::custom("")
}

impl<'de> DeserializeSeed<'de> for At<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_, 'de> {
    type Value = ();

    fn expecting(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if !matches!(self.place, Place::Document | Place::Required | Place::Input | Place::Output) && !self.place.is_open() {
            return Err(wrong());
        }
        while let Some(member) = map.next_key_seed(Name(self.place))? {
            match member {
                Some(place) if self.parts.see(place) => map.next_value_seed(At { place, parts: &mut *self.parts })?,
                Some(_) => return Err(wrong()),
                None => {
                    self.parts.unknown |= !self.place.is_open();
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        match self.place {
            Place::Content => while seq.next_element_seed(At { place: Place::Byte, parts: &mut *self.parts })?.is_some() {},
            Place::FileName => while seq.next_element::<IgnoredAny>()?.is_some() {},
            _ => return Err(wrong()),
        }
        Ok(())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        self.text(text, || Cow::Borrowed(cut(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.text(text, || Cow::Owned(cut(text).to_owned()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        match (self.place, u8::try_from(number)) {
            (Place::Byte, Ok(byte)) => {
                self.parts.push(byte);
                Ok(())
            }
            _ => self.other(),
        }
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.other()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.other()
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.other()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.other()
    }
}

/// Takes the name of a member.
struct Name(Place);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<Place>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Place>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<Place>;

    fn expecting(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<Place>, E> {
        Ok(self.0.member(name))
    }
}

/// Minor versions only add, and what they add is either optional or refused where it is used. A pre-release promises nothing.
fn is_spoken(version: &str) -> bool {
    let is_number =
        |text: &str| text == "0" || !text.starts_with('0') && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mut numbers = version.split('.');
    numbers.next() == Some("1")
        && [numbers.next(), numbers.next()].into_iter().all(|it| it.is_some_and(is_number))
        && numbers.next().is_none()
}

fn algorithm(name: &str) -> Option<HashAlgorithm> {
    match name {
        "sha2-0.11-SHA512-state" => Some(HashAlgorithm::Sha512),
        // Ours: Signstar has none but the other.
        "sha2-0.11-SHA256-state" => Some(HashAlgorithm::Sha256),
        _ => None,
    }
}

fn cut(text: &str) -> &str {
    (0..=text.len().min(MAX_FILE_NAME)).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `signstar-request-signature prepare` has written, version 0.3.0, and what of.
    const CLIENT: [(&str, usize, &[u8], &str); 6] = [
        (include_str!("../../../fuzz/corpus/state_document/client-empty"), 0, b"", "empty"),
        (include_str!("../../../fuzz/corpus/state_document/client-short"), 1, b"hello", "hello.txt"),
        (include_str!("../../../fuzz/corpus/state_document/client-block"), 128, b"\0", "block"),
        (include_str!("../../../fuzz/corpus/state_document/client-long"), 1000, b"x", "a \"b\" ü.pkg"),
        (include_str!("../../../fuzz/corpus/state_document/client-many-blocks"), 5_000_000, b"\0", "m"),
        (include_str!("../../../fuzz/corpus/state_document/client-no-name"), 1, b"hello", ""),
    ];

    const SHORT: &str = CLIENT[1].0;

    #[test]
    fn the_published_client_and_ours_mean_the_same_state() {
        for (text, times, bytes, name) in CLIENT {
            let document = Document::decode(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
            let mut state = HashState::new(HashAlgorithm::Sha512);
            state.update(&bytes.repeat(times));
            assert_eq!((document.algorithm, &*document.file_name), (HashAlgorithm::Sha512, name));
            state.export(|state| assert_eq!(document.state(), state, "{name}"));
            HashState::import(document.algorithm, document.state(), u64::MAX).unwrap();
        }
    }

    /// A request of our own making.
    fn request(input: &str, content: &str, optional: &str) -> String {
        format!(
            r#"{{"version":"1.0.0","required":{{"input":{{"type":"{input}","content":[{content}]}},"output":{{"type":"OpenPGPv4"}}}},"optional":{optional}}}"#
        )
    }

    fn numbers(bytes: &[u8]) -> String {
        bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn states_of_sha256_are_taken_too() {
        let mut state = HashState::new(HashAlgorithm::Sha256);
        state.update(b"data");
        let text = request("sha2-0.11-SHA256-state", &state.export(numbers), "{}");
        let document = Document::decode(text.as_bytes()).unwrap();
        assert_eq!((document.algorithm, &*document.file_name), (HashAlgorithm::Sha256, ""));
        state.export(|state| assert_eq!(document.state(), state));
    }

    fn decode(text: &str) -> Result<String, DocumentError> {
        Document::decode(text.as_bytes()).map(|document| document.file_name.into_owned())
    }

    #[test]
    fn versions() {
        use DocumentError::{Malformed, Version};
        for (version, expected) in [
            (r#""1.0.0""#, None),
            (r#""1.0.1""#, None),
            (r#""1.10.0""#, None),
            (r#""\u0031.0.0""#, None),
            (r#""0.1.0""#, Some(Version)),
            (r#""2.0.0""#, Some(Version)),
            (r#""10.0.0""#, Some(Version)),
            (r#""01.0.0""#, Some(Version)),
            (r#""1.00.0""#, Some(Version)),
            (r#""1.0""#, Some(Version)),
            (r#""1""#, Some(Version)),
            (r#""1.0.0.0""#, Some(Version)),
            (r#""1.0.0-rc.1""#, Some(Version)),
            (r#""1.0.0+1""#, Some(Version)),
            (r#""1.0.x""#, Some(Version)),
            (r#""1..0""#, Some(Version)),
            (r#""1.0.-1""#, Some(Version)),
            (r#"" 1.0.0""#, Some(Version)),
            (r#""""#, Some(Version)),
            ("1", Some(Malformed)),
            ("1.0", Some(Malformed)),
            ("null", Some(Malformed)),
            ("[1,0,0]", Some(Malformed)),
            (r#"{"major":1}"#, Some(Malformed)),
        ] {
            assert_eq!(decode(&SHORT.replace(r#""1.0.0""#, version)).err(), expected, "{version}");
        }
        // Which version it is, is said before what is wrong with it.
        let other = SHORT.replace("1.0.0", "2.0.0").replace(r#""output""#, r#""outcome""#);
        assert_eq!(decode(&other), Err(Version));
    }

    #[test]
    fn hostile_documents_are_refused() {
        use DocumentError::{Input, Length, Long, Malformed, Output, Unknown};
        let (input, output) = (r#""sha2-0.11-SHA512-state""#, r#""OpenPGPv4""#);
        for (from, to, expected) in [
            // Not JSON.
            ("", "x", Malformed),
            ("", "\u{feff}", Malformed),
            ("", "\0", Malformed),
            ("", "[", Malformed),
            (r#"{"version""#, r#"{version"#, Malformed),
            (r#"{"version""#, r#"{'version'"#, Malformed),
            (r#"{"version""#, r#"{/**/"version""#, Malformed),
            (r#""optional""#, r#","optional""#, Malformed),
            ("hello.txt", "hello\n.txt", Malformed),
            ("hello.txt", "\\ud800", Malformed),
            ("hello.txt", "\\x", Malformed),
            ("104,101", "104,,101", Malformed),
            ("104,101", "104 101", Malformed),
            ("104,101", "0104,101", Malformed),
            // Not a request.
            (r#""version":"1.0.0","#, "", Malformed),
            (r#""version""#, r#""Version""#, Unknown),
            (r#""version""#, r#""version\u0000""#, Unknown),
            (r#""version":"#, r#""version":"1.0.0","version":"#, Malformed),
            (r#""version":"#, r#""version":"1.0.0","\u0076ersion":"#, Malformed),
            (r#""version":"#, r#""versions":["1.0.0"],"version":"#, Unknown),
            (r#""required":{"#, r#""required":{"notation":{},"#, Unknown),
            (r#""required":{"#, r#""required":[{"#, Malformed),
            (r#""input":{"#, r#""input":{"salt":[],"#, Unknown),
            (r#""input":{"#, r#""input":{},"input":{"#, Malformed),
            (r#""output":{"#, r#""output":{"notation":"x","#, Unknown),
            (r#""output":{"type":"OpenPGPv4"}"#, r#""output":{}"#, Malformed),
            (r#""output":{"type":"OpenPGPv4"}"#, r#""output":null"#, Malformed),
            (r#""output":{"type":"OpenPGPv4"}"#, r#""output":"OpenPGPv4""#, Malformed),
            (r#","output":{"type":"OpenPGPv4"}"#, "", Malformed),
            // Signstar demands it as well.
            (r#""optional":{"#, r#""options":{"#, Unknown),
            (r#""optional":{"#, r#""optional":{},"optional":{"#, Malformed),
            (r#""file-name":"#, r#""file-name":"x","file-name":"#, Malformed),
            // Types.
            (input, r#""sha2-0.11-SHA384-state""#, Input),
            (input, r#""sha2-0.10-SHA512-state""#, Input),
            (input, r#""sha2-0.11-sha512-state""#, Input),
            (input, r#""sha2-0.11-SHA512-state ""#, Input),
            (input, r#""""#, Input),
            (input, "null", Malformed),
            (input, "[]", Malformed),
            (input, "{}", Malformed),
            (input, "true", Malformed),
            (output, r#""OpenPGPv6""#, Output),
            (output, r#""openpgpv4""#, Output),
            (output, r#""""#, Output),
            (output, "4", Malformed),
            (output, r#"["OpenPGPv4"]"#, Malformed),
            // The state.
            (input, r#""sha2-0.11-SHA256-state""#, Length),
            ("[8,201,", "[201,", Length),
            ("[8,201,", "[0,8,201,", Length),
            ("[8,201,", "[256,201,", Malformed),
            ("[8,201,", "[-0,201,", Malformed),
            ("[8,201,", "[-1,201,", Malformed),
            ("[8,201,", "[8.0,201,", Malformed),
            ("[8,201,", "[8e0,201,", Malformed),
            ("[8,201,", "[1e999,201,", Malformed),
            ("[8,201,", "[18446744073709551624,201,", Malformed),
            ("[8,201,", "[\"8\",201,", Malformed),
            ("[8,201,", "[null,201,", Malformed),
            ("[8,201,", "[[8],201,", Malformed),
            (r#""content":["#, r#""content":[],"content":["#, Malformed),
        ] {
            assert!(SHORT.contains(from), "{from}");
            assert_eq!(decode(&SHORT.replacen(from, to, 1)), Err(expected), "{from} {to}");
        }
        for (text, expected) in [
            (String::new(), Malformed),
            ("null".to_owned(), Malformed),
            ("{}".to_owned(), Malformed),
            ("[]".to_owned(), Malformed),
            (r#""1.0.0""#.to_owned(), Malformed),
            ("[".repeat(MAX_DOCUMENT), Malformed),
            (r#"{"":"#.repeat(3000), Malformed),
            (SHORT.to_owned() + "}", Malformed),
            (SHORT.to_owned() + " null", Malformed),
            (SHORT.to_owned() + "\0", Malformed),
            (SHORT.to_owned() + SHORT, Malformed),
            (SHORT.to_owned() + &" ".repeat(MAX_DOCUMENT), Long),
            (request("sha2-0.11-SHA512-state", "", "{}"), Length),
            (request("sha2-0.11-SHA512-state", &numbers(&[0; 4000]), "{}"), Length),
            (request("sha2-0.11-SHA512-state", &numbers(&[0; 208]), "null"), Malformed),
            (request("sha2-0.11-SHA512-state", &numbers(&[0; 208]), "[]"), Malformed),
            (request("sha2-0.11-SHA512-state", &numbers(&[0; 208]), r#""""#), Malformed),
        ] {
            assert_eq!(decode(&text), Err(expected), "{text}");
        }
        for end in 0..SHORT.len() {
            assert_eq!(decode(&SHORT[..end]), Err(Malformed), "{end}");
        }
        let latin =
            SHORT.replace("https", "\u{0}").into_bytes().iter().map(|b| if *b == 0 { 0xff } else { *b }).collect::<Vec<_>>();
        assert_eq!(Document::decode(&latin).err(), Some(Malformed), "in a string that is passed over");
    }

    #[test]
    fn what_is_optional_is_ignored_but_for_the_files_name() {
        let state = HashState::new(HashAlgorithm::Sha512).export(numbers);
        let long = "ü".repeat(MAX_FILE_NAME / 2);
        let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(7000), "]".repeat(7000));
        let many = (0..1400).map(|it| format!(r#""{it:x}":{{}}"#)).collect::<Vec<_>>().join(",");
        for (optional, name) in [
            ("{}", ""),
            (r#"{"file-name":null}"#, ""),
            (r#"{"file-name":7}"#, ""),
            (r#"{"file-name":-7.5}"#, ""),
            (r#"{"file-name":-7}"#, ""),
            (r#"{"file-name":true}"#, ""),
            (r#"{"file-name":["a",{"b":1}]}"#, ""),
            (r#"{"file-name":{"file-name":"a"}}"#, ""),
            (r#"{"file-name":""}"#, ""),
            (r#"{"file-name":"a\u0000\n\ud83d\ude00"}"#, "a\0\n\u{1f600}"),
            (r#"{"x":"a","x":"b","file-name":"c","y":1e999}"#, "c"),
            (&deep, ""),
            (&format!("{{{many}}}"), ""),
            (&format!(r#"{{"file-name":"{long}"}}"#), &long),
            (&format!(r#"{{"file-name":"{long}a"}}"#), &long),
            (&format!(r#"{{"file-name":"a{long}"}}"#), &format!("a{}", &long[2..])),
            (&format!(r#"{{"file-name":"\t{long}"}}"#), &format!("\t{}", &long[2..])),
        ] {
            let text = request("sha2-0.11-SHA512-state", &state, optional);
            assert_eq!(decode(&text).as_deref(), Ok(name), "{optional}");
        }
    }

    #[test]
    fn the_order_of_members_and_blanks_do_not_matter() {
        let content = HashState::new(HashAlgorithm::Sha512).export(numbers);
        let text = format!(
            "\r\t {{ \"optional\":{{}},\"required\":{{\"output\":{{\"type\":\"OpenPGPv4\"}},\"input\":{{\"content\": [ {content}\t] ,\
             \"type\":\"sha2-0.11-SHA512-state\"}}}}, \"version\" : \"1.0.0\" }} \r"
        );
        assert_eq!(decode(&text).as_deref(), Ok(""));
    }

    #[test]
    fn sixteen_kib_and_not_a_byte_more() {
        let text = |length: usize| SHORT.to_owned() + &" ".repeat(length - SHORT.len());
        assert_eq!(decode(&text(MAX_DOCUMENT)).as_deref(), Ok("hello.txt"));
        assert_eq!(decode(&text(MAX_DOCUMENT + 1)), Err(DocumentError::Long));
    }
}
