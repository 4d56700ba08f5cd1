//! `[audit]`.

use super::values::AbsolutePath;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::path::Path;

/// `[audit]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    journal: AbsolutePath,
    ledger: Ledger,
    state: AbsolutePath,
}

impl Default for Audit {
    fn default() -> Audit {
        Audit {
            journal: AbsolutePath(super::JOURNAL.into()),
            ledger: Ledger(Some(AbsolutePath("/var/lib/sigsh/ledger.jsonl".into()))),
            state: AbsolutePath("/var/lib/sigsh/state".into()),
        }
    }
}

impl Audit {
    /// journald's native socket.
    pub fn journal(&self) -> &Path {
        &self.journal
    }

    /// The ledger; `None` where the operator has said that there is none.
    pub fn ledger(&self) -> Option<&Path> {
        self.ledger.0.as_deref()
    }

    /// The account's own directory: markers and locks.
    pub fn state(&self) -> &Path {
        &self.state
    }
}

/// A path, or `false`.
#[derive(Debug)]
struct Ledger(Option<AbsolutePath>);

impl<'de> Deserialize<'de> for Ledger {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ledger, D::Error> {
        struct Value;
        impl Visitor<'_> for Value {
            type Value = Ledger;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path, or false")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Ledger, E> {
                AbsolutePath::try_from(text.to_owned()).map(|path| Ledger(Some(path))).map_err(E::custom)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Ledger, E> {
                if value { Err(E::custom("a ledger is a path, or false where there is none")) } else { Ok(Ledger(None)) }
            }
        }
        deserializer.deserialize_any(Value)
    }
}
