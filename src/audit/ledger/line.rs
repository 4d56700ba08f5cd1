//! One line of the ledger: canonical JSON, so that whoever parses it and writes it again gets the very same bytes.

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// The longest record in bytes, without its newline. A longer line is none.
pub const MAX_LINE: usize = 16 << 10;

/// The least year that `time` may have: humantime knows none before.
const EPOCH: &str = "1970";

/// SHA-256 of a line without its newline.
pub type Hash = [u8; 32];

/// Hashes a line.
pub fn hash(line: &[u8]) -> Hash {
    Sha256::digest(line).into()
}

/// A line that is a record: one JSON object with sorted keys and no blanks, all values strings but `seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its place in the chain, from 1.
    pub seq: u64,
    /// The hash of the line before; zeros in the first.
    pub prev: Hash,
    fields: BTreeMap<String, Value>,
}

impl Line {
    /// Makes a record of these fields, at this time; `None` when it would be too long.
    pub fn new<'a>(
        seq: u64,
        prev: Hash,
        time: SystemTime,
        fields: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Option<(Line, Vec<u8>)> {
        let mut fields = fields.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect::<BTreeMap<_, _>>();
        fields.insert("seq".to_owned(), seq.into());
        fields.insert("prev".to_owned(), hex::encode(prev).into());
        fields.insert("time".to_owned(), humantime::format_rfc3339_nanos(time).to_string().into());
        let bytes = serde_json::to_vec(&fields).ok()?;
        (bytes.len() <= MAX_LINE).then_some((Line { seq, prev, fields }, bytes))
    }

    /// Parses a line, without its newline, that anybody may have written; `None` when it is no record.
    pub fn parse(bytes: &[u8]) -> Option<Line> {
        if bytes.len() > MAX_LINE {
            return None;
        }
        let fields: BTreeMap<String, Value> = serde_json::from_slice(bytes).ok()?;
        let proper =
            |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let texts = fields.iter().all(|(name, value)| proper(name) && (value.is_string() || name == "seq"));
        if !texts || serde_json::to_vec(&fields).ok()? != bytes {
            return None;
        }
        let seq = fields.get("seq")?.as_u64().filter(|seq| (1..1 << 63).contains(seq))?;
        let mut prev = [0; 32];
        hex::decode_to_slice(fields.get("prev")?.as_str()?, &mut prev).ok()?;
        let line = Line { seq, prev, fields };
        (hex::encode(prev) == line.field("prev") && !line.event().is_empty() && is_time(line.time())).then_some(line)
    }

    /// A field; empty when it is not there.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// What happened.
    pub fn event(&self) -> &str {
        self.field("event")
    }

    /// When it was written: RFC 3339 in UTC with nanoseconds, so that texts compare as times do.
    pub fn time(&self) -> &str {
        self.field("time")
    }
}

fn is_time(text: &str) -> bool {
    text >= EPOCH && humantime::parse_rfc3339(text).is_ok_and(|time| humantime::format_rfc3339_nanos(time).to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const TIME: &str = "1970-01-01T00:00:01.000000000Z";

    fn first() -> (Line, Vec<u8>) {
        Line::new(1, [0; 32], SystemTime::UNIX_EPOCH + Duration::from_secs(1), [("event", "init"), ("name", "a\"\u{1}ü")]).unwrap()
    }

    #[test]
    fn a_line_is_canonical() {
        let (line, bytes) = first();
        let zeros = "0".repeat(64);
        let text = format!(r#"{{"event":"init","name":"a\"\u0001ü","prev":"{zeros}","seq":1,"time":"{TIME}"}}"#);
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), text);
        assert_eq!((line.seq, line.event(), line.time(), line.field("name")), (1, "init", TIME, "a\"\u{1}ü"));
        assert_eq!(Line::parse(&bytes), Some(line));
        let long = "x".repeat(MAX_LINE);
        assert_eq!(Line::new(1, [0; 32], SystemTime::now(), [("event", long.as_str())]), None);
    }

    #[test]
    fn anything_else_is_no_record() {
        let text = String::from_utf8(first().1).unwrap();
        for (from, to) in [
            ("{", " {"),
            ("{", "{ "),
            ("}", ""),
            ("}", "}\r"),
            (":1,", ":1.0,"),
            (":1,", ":\"1\","),
            (":1,", ":0,"),
            (":1,", ":-1,"),
            (":1,", ":9223372036854775808,"),
            ("\"seq\":1", "\"seq\":1,\"seq\":1"),
            ("\"event\"", "\"Event\""),
            ("\"init\"", "\"\""),
            ("\"init\"", "1"),
            ("\"init\"", "null"),
            ("\"init\"", "\"\\u0069nit\""),
            ("\"prev\":\"00", "\"prev\":\"0"),
            ("\"prev\":\"00", "\"prev\":\"0A"),
            ("ü", "\\ud800"),
            ("-01-01T", "-13-01T"),
            ("-01-01T", "-02-30T"),
            (":01.0", ":60.0"),
            (".000000000Z", "Z"),
            ("1970-", "1969-"),
        ] {
            assert!(text.contains(from), "{from}");
            assert_eq!(Line::parse(text.replacen(from, to, 1).as_bytes()), None, "{from} {to}");
        }
        for bytes in [&b""[..], b"{}", b"[]", b"\xff", b"null", &b"[".repeat(MAX_LINE)] {
            assert_eq!(Line::parse(bytes), None);
        }
    }
}
