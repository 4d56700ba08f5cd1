//! The people who may approve: an allowed_signers file (ALLOWED SIGNERS in ssh-keygen(1)), of which only what cannot be misread is
//! taken. What is taken means what it means to `ssh-keygen -Y verify`.

use super::demands::Approvals;
use super::who::Person;
use super::{ConfigError, Location};
use crate::identity::certificate::Certificate;
use crate::request::Moment;
use crate::trusted::{self, Trusted};
use crate::warrant::sshsig::plain_key;
use base64ct::{Base64, Encoding};
use ssh_key::PublicKey;
use ssh_key::public::KeyData;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The longest list in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Who may approve.
#[derive(Debug)]
pub struct Approvers {
    lines: Vec<Approver>,
    source: Option<Trusted>,
}

/// One person's key. A person may have several.
#[derive(Debug)]
pub struct Approver {
    /// Whose it is.
    pub person: Person,
    /// It.
    pub key: KeyData,
    namespaces: Option<Vec<String>>,
    valid_after: Option<Moment>,
    valid_before: Option<Moment>,
}

impl Approvers {
    /// Reads the list that a key's table names, and keeps its file open. `namespace` is what its people sign for.
    ///
    /// # Errors
    /// [`ConfigError::Trust`]; [`ConfigError::Wrong`], also where there are not as many people as must approve.
    pub fn of(table: &Approvals, namespace: &str) -> Result<Approvers, ConfigError> {
        let path = table.approvers.get_ref();
        let approvers = Approvers::open(path)?;
        let people = approvers.able(table, namespace).map(|line| &*line.person).collect::<BTreeSet<_>>().len();
        if people < table.need() {
            let message = format!("by this list {people} can approve, and {} must", table.need());
            return Err(ConfigError::Wrong { at: Location::new(path, "", 0), message });
        }
        Ok(approvers)
    }

    /// Reads a list, and keeps its file open.
    ///
    /// # Errors
    /// [`ConfigError::Trust`], [`ConfigError::Wrong`].
    pub fn open(path: &Path) -> Result<Approvers, ConfigError> {
        let opened = trusted::open(path)?;
        let bytes = opened.read(path, MAX_FILE)?;
        let wrong = |(line, message)| ConfigError::Wrong { at: Location { file: path.to_owned(), line, column: 1 }, message };
        let mut approvers = Approvers::parse(&bytes).map_err(wrong)?;
        approvers.source = Some(opened);
        Ok(approvers)
    }

    /// Reads the text of a list.
    ///
    /// # Errors
    /// The number of a line that is not understood, and why.
    pub fn parse(bytes: &[u8]) -> Result<Approvers, (usize, String)> {
        let (mut lines, mut seen, mut people) = (Vec::new(), BTreeMap::new(), BTreeMap::<String, Person>::new());
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            let wrong = |message: &str| (number, message.to_owned());
            let line = std::str::from_utf8(line).map_err(|_| wrong("the line is not UTF-8"))?;
            if line.contains(|c: char| c.is_control() && c != '\t') {
                return Err(wrong("the line has a control character; a line ends with a line feed alone"));
            }
            let line = line.trim_matches(BLANKS);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let approver = Approver::parse(line).map_err(wrong)?;
            if let Some(other) = seen.insert(approver.key.clone(), number) {
                return Err((number, format!("this key is on line {other}, too: one key is one person's")));
            }
            let person = people.entry(approver.person.to_ascii_lowercase()).or_insert_with(|| approver.person.clone());
            if *person != approver.person {
                return Err((number, format!("this principal stands above as {person}: one person has one name")));
            }
            lines.push(approver);
        }
        Ok(Approvers { lines, source: None })
    }

    /// Those keys by which somebody can approve for this table, at some time.
    pub fn able<'a>(&'a self, table: &'a Approvals, namespace: &'a str) -> impl Iterator<Item = &'a Approver> {
        self.lines.iter().filter(move |line| line.is_for(namespace) && (line.is_hardware() || !table.hardware_only))
    }

    /// Whose key this is.
    pub fn by_key(&self, key: &KeyData) -> Option<&Approver> {
        self.lines.iter().find(|line| line.key == *key)
    }

    /// All keys of a person.
    pub fn keys_of<'a>(&'a self, person: &'a Person) -> impl Iterator<Item = &'a KeyData> {
        self.lines.iter().filter(move |line| line.person == *person).map(|line| &line.key)
    }

    /// How many keys there are.
    pub fn entries(&self) -> usize {
        self.lines.len()
    }

    /// Whether the file is still what was read: nobody has written to it, nor put another one in its place.
    pub fn is_unchanged(&self) -> bool {
        self.source.as_ref().is_none_or(Trusted::is_unchanged)
    }
}

/// What stands between words.
const BLANKS: [char; 2] = [' ', '\t'];

/// The first word of a text, and what follows it.
fn word(text: &str) -> (&str, &str) {
    text.split_once(BLANKS).map_or((text, ""), |(word, rest)| (word, rest.trim_start_matches(BLANKS)))
}

impl Approver {
    /// Reads `PRINCIPAL [OPTIONS] TYPE BASE64 [COMMENT]`.
    fn parse(line: &str) -> Result<Approver, &'static str> {
        let (person, mut rest) = word(line);
        let person = Person::try_from(person.to_owned())?;
        let (mut namespaces, mut valid_after, mut valid_before) = (None, None, None);
        let (options, behind) = word(rest);
        if options.contains("cert-authority") {
            return Err("an approver's key is a plain one: a certificate's holder could be anybody");
        }
        if options.contains('=') {
            rest = behind;
            for (name, value) in split(options)? {
                let twice = match name {
                    "namespaces" => namespaces.replace(namespaces_of(value)?).is_some(),
                    "valid-after" => valid_after.replace(time(value)?).is_some(),
                    "valid-before" => valid_before.replace(time(value)?).is_some(),
                    _ => return Err("the options here are namespaces, valid-after and valid-before"),
                };
                if twice {
                    return Err("an option stands here twice");
                }
            }
        }
        if valid_after.zip(valid_before).is_some_and(|(after, before)| before <= after) {
            return Err("valid-before is not after valid-after");
        }
        Ok(Approver { person, key: key(rest)?, namespaces, valid_after, valid_before })
    }

    /// Whether it signs for this.
    pub fn is_for(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|own| own.iter().any(|own| own == namespace))
    }

    /// Whether its private half is in hardware: a security key.
    pub fn is_hardware(&self) -> bool {
        matches!(self.key, KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_))
    }

    /// Whether it may be used already.
    pub fn has_begun(&self, now: SystemTime) -> bool {
        self.valid_after.is_none_or(|first| first.time() <= now)
    }

    /// When it may no longer be used; `None` is never. ssh-keygen counts whole seconds, and the last one in.
    pub fn end(&self) -> Option<SystemTime> {
        self.valid_before.map(|last| last.time() + Duration::from_secs(1))
    }
}

/// `NAME="VALUE",…`
fn split(mut text: &str) -> Result<Vec<(&str, &str)>, &'static str> {
    let mut options = Vec::new();
    loop {
        let (name, rest) = text.split_once("=\"").ok_or("an option is NAME=\"VALUE\"")?;
        let (value, rest) = rest.split_once('"').ok_or("a quote is missing")?;
        options.push((name, value));
        match rest.strip_prefix(',') {
            Some(next) => text = next,
            None if rest.is_empty() => return Ok(options),
            None => return Err("a comma belongs between options, and a blank behind them"),
        }
    }
}

fn namespaces_of(text: &str) -> Result<Vec<String>, &'static str> {
    let good = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@._+-".contains(&byte));
    let names = text.split(',').map(|name| good(name).then(|| name.to_owned())).collect::<Option<_>>();
    names.ok_or("namespaces are names with commas between them, no patterns")
}

/// `YYYYMMDD[HHMM[SS]]Z`. Without the `Z` ssh-keygen takes the local time of wherever it runs.
fn time(text: &str) -> Result<Moment, &'static str> {
    const FORM: &str = "a time is YYYYMMDDZ, YYYYMMDDHHMMZ or YYYYMMDDHHMMSSZ, with Z for UTC";
    let digits = text.strip_suffix('Z').ok_or(FORM)?;
    let digits = match digits.len() {
        8 => format!("{digits}000000"),
        12 => format!("{digits}00"),
        _ => digits.to_owned(),
    };
    let part = |from: usize, to: usize| digits.get(from..to).ok_or(FORM);
    let [year, month, day] = [part(0, 4)?, part(4, 6)?, part(6, 8)?];
    let [hour, minute, second] = [part(8, 10)?, part(10, 12)?, part(12, digits.len())?];
    let moment = Moment::parse(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z")).map_err(|_| FORM)?;
    // ssh-keygen takes 1970 for none.
    if moment.0 > 0 { Ok(moment) } else { Err(FORM) }
}

/// `TYPE BASE64`, of a kind of which signatures can be verified.
fn key(text: &str) -> Result<KeyData, &'static str> {
    if Certificate::is_one(text) {
        return Err("this is a certificate; an approver's key is a plain one");
    }
    let ((kind, rest), none) = (word(text), "behind the principal belongs a public ssh key");
    let base64 = word(rest).0;
    PublicKey::from_openssh(&format!("{kind} {base64}")).map_err(|_| none)?;
    let blob = Base64::decode_vec(base64).map_err(|_| none)?;
    plain_key(&blob).ok_or("a key is of ed25519, uncompressed ecdsa, rsa of 2048 to 4096 bits, or a security key")
}

#[cfg(test)]
mod tests;
