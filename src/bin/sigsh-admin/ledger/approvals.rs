//! `sigsh-admin ledger verify --approvals`: judges once more what builds have endorsed and people approved, by what the ledger has of it.
//! The texts that people signed are rebuilt from the fields of the intent.

mod known;

use crate::AdminError;
use crate::check::Findings;
use base64ct::{Base64, Encoding};
use known::{Known, Verdict};
use sigsh::audit::ledger::chain::Seen;
use sigsh::audit::ledger::line::Line;
use sigsh::config::Config;
use sigsh::config::values::SshFingerprint;
use sigsh::hash_state::HashAlgorithm;
use sigsh::request::{Bytes, Digest, Moment, Statement};
use sigsh::warrant::approval::Requester;
use sigsh::warrant::{Place, Subject};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// More pieces of evidence than any intent has.
const MAX_PIECES: usize = 64;

/// How much later than the time at which it was judged an intent may be recorded: for so long a session waits for its turn.
const LATER: Duration = Duration::from_secs(30);

/// What is wrong, and in which line.
type Faults = Vec<(u64, String)>;

/// What is known of keys, and what was found so far.
pub(super) struct Vouched {
    keys: HashMap<String, Known>,
    /// Where there is no configuration: what is known of any key.
    any: Option<Known>,
    /// Whom clients are, as approvers.
    people: HashMap<String, String>,
    place: Option<Place>,
    pieces: Vec<Line>,
    /// By session: what the token was asked for.
    intents: HashMap<String, Line>,
    /// How often what is counted was used, and how often it may be.
    used: HashMap<String, (u64, Option<u64>)>,
    intents_seen: u64,
    verified: [u64; 2],
    macs: u64,
    over_bytes: u64,
    unknown: u64,
    /// Intents by keys of which no configured certificate is.
    strange: u64,
}

impl Vouched {
    /// By the lists that the configuration's keys name, or this one for all of them.
    pub(super) fn open(list: Option<&Path>, config: Option<&Config>) -> Result<Vouched, AdminError> {
        let list =
            list.map(|path| std::fs::read(path).map(|bytes| (path, bytes)).map_err(|error| AdminError::File(path.into(), error)));
        let list = list.transpose()?;
        let list = list.as_ref().map(|(path, bytes)| (*path, bytes.as_slice()));
        let mut keys = HashMap::new();
        if let Some(config) = config {
            for (name, key) in config.keys() {
                keys.insert(name.to_string(), Known::of(config, key, list)?);
            }
        }
        let any = match (config, list) {
            (None, Some(list)) => Some(Known::by_list(list)?),
            (None, None) => {
                return Err(AdminError::Ledger("without a configuration, people are told by --approvals=FILE".to_owned()));
            }
            _ => None,
        };
        let clients = config.iter().flat_map(|config| config.clients());
        let people = clients.filter_map(|(name, client)| Some((name.to_string(), client.person.as_ref()?.to_string()))).collect();
        let place = config.map(|config| Place { host: config.host().to_owned(), fleet: config.fleet().map(str::to_owned) });
        Ok(Vouched {
            keys,
            any,
            people,
            place,
            pieces: Vec::new(),
            intents: HashMap::new(),
            used: HashMap::new(),
            intents_seen: 0,
            verified: [0; 2],
            macs: 0,
            over_bytes: 0,
            unknown: 0,
            strange: 0,
        })
    }

    /// Looks at the next line.
    pub(super) fn see(&mut self, seen: &Seen<'_>, findings: &mut Findings) {
        let mut faults = Vec::new();
        let Some((line, _)) = seen.record else { return self.pieces.clear() };
        match line.event() {
            "endorsement" | "approval" if self.pieces.len() < MAX_PIECES => self.pieces.push(line.clone()),
            "intent" => {
                let pieces = std::mem::take(&mut self.pieces);
                self.intent(line, &pieces, &mut faults, findings);
            }
            "signed" => self.signed(line, &mut faults),
            "endorsement" | "approval" => self.pieces.clear(),
            _ => {
                self.pieces.clear();
                self.intents.remove(line.field("session"));
            }
        }
        for (seq, fault) in faults {
            findings.error(&plain(&format!("line {seq}: {fault}")));
        }
    }

    /// The configured key that signs by a line's fingerprint; of several, the one that demands something. Names a host could make up.
    fn by_fingerprint(&self, line: &Line) -> Option<&str> {
        let signs = |known: &Known| words(line, "fingerprint").any(|word| known.fingerprints.contains(word));
        let found = self.keys.iter().filter(|(_, known)| signs(known));
        Some(found.max_by_key(|(name, known)| (known.demands(), *name == line.field("key")))?.0)
    }

    fn intent(&mut self, line: &Line, pieces: &[Line], faults: &mut Faults, findings: &Findings) {
        let key = line.field("key");
        let signer = self.by_fingerprint(line).unwrap_or(key).to_owned();
        if signer != key {
            faults.push((line.seq, format!("its key is {key}, and its fingerprint that of key {signer}")));
        }
        self.strange += u64::from(self.any.is_none() && self.by_fingerprint(line).is_none());
        let Some(known) = self.keys.get_mut(&signer).or(self.any.as_mut()) else {
            if !pieces.is_empty() {
                faults.push((line.seq, format!("the configuration has no key {key}, so that nothing of this can be verified")));
            }
            return;
        };
        if pieces.is_empty() && !known.demands() {
            return;
        }
        self.intents_seen += 1;
        let emergency = line.field("break_glass") == "yes";
        let (mut people, mut names, mut endorsed) = (BTreeSet::new(), Vec::new(), 0);
        for piece in pieces {
            let Some((subject, bytes)) = subject(line, piece, self.place.as_ref()).zip(evidence(piece)) else {
                faults.push((piece.seq, "it is no evidence: size, digest, place or evidence is missing".to_owned()));
                continue;
            };
            if piece.field("session") != line.field("session") {
                faults.push((piece.seq, "it is of another session than the intent behind it".to_owned()));
            } else if piece.event() == "endorsement" {
                endorsed += 1;
                match known.endorsed(&subject, &bytes, line) {
                    Verdict::Good(quota, over_bytes) => {
                        self.verified[1] += 1;
                        self.over_bytes += u64::from(over_bytes);
                        names.push((quota.name, quota.max));
                    }
                    Verdict::Mac => self.macs += 1,
                    Verdict::Unknown => self.unknown += 1,
                    Verdict::Wrong(why) => faults.push((piece.seq, why)),
                }
            } else {
                let requester = requester(line, self.people.get(line.field("client")));
                match known.approved(emergency, requester, &subject, piece, bytes, &moments(line)) {
                    Ok((person, name)) => {
                        self.verified[0] += 1;
                        if !people.insert(person.clone()) {
                            faults.push((piece.seq, format!("{person} approved twice")));
                        }
                        names.extend(emergency.then_some((name, 1)));
                    }
                    Err(why) => faults.push((piece.seq, format!("an approval does not count: {why}"))),
                }
            }
        }
        let need = known.need(emergency);
        if people.len() < need {
            faults.push((line.seq, format!("{} of {need} approvals", people.len())));
        }
        if known.endorsement() && !emergency && endorsed != 1 {
            faults.push((line.seq, "it was not endorsed".to_owned()));
        }
        if let Some(name) = words(line, "approvers").find(|name| !people.contains(*name)) {
            faults.push((line.seq, format!("it says that {name} approved it, and shows nothing of it")));
        }
        self.count(line, names, faults);
        if emergency {
            let who = people.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            let [client, name] = [line.field("client"), line.field("name")];
            findings.warning(&plain(&format!("line {}: break-glass, by {who}: key {key}, client {client}, file {name}", line.seq)));
        }
        self.intents.insert(line.field("session").to_owned(), line.clone());
    }

    /// Counts what was used, by its names.
    fn count(&mut self, line: &Line, names: Vec<(String, u64)>, faults: &mut Faults) {
        for name in words(line, "permits") {
            self.used.entry(name.to_owned()).or_default().0 += 1;
        }
        for (name, max) in names {
            match self.used.get_mut(&name) {
                Some((used, known)) if words(line, "permits").any(|word| word == name) => {
                    *known = Some(max);
                    if *used > max {
                        faults.push((line.seq, format!("what permits it was good for {max}, and this is number {used}: {name}")));
                    }
                }
                _ => faults.push((line.seq, format!("what permits it is not counted: {name}"))),
            }
        }
    }

    /// What was signed must be what was vouched for.
    fn signed(&mut self, line: &Line, faults: &mut Faults) {
        let Some(intent) = self.intents.remove(line.field("session")) else {
            let signer = self.by_fingerprint(line).and_then(|signer| self.keys.get(signer));
            if signer.is_some_and(Known::demands) {
                faults.push((line.seq, "its intent is another key's, or another signature's".to_owned()));
            }
            return;
        };
        const SAME: [&str; 8] = ["key", "fingerprint", "client", "size", "sha256", "sha384", "sha512", "mode"];
        if let Some(name) = SAME.iter().find(|name| line.field(name) != intent.field(name)) {
            faults.push((line.seq, format!("its {name} is not that of its intent, line {}", intent.seq)));
        }
    }

    /// Says what was found.
    pub(super) fn conclude(&self, findings: &Findings) {
        let [approvals, endorsements] = self.verified;
        let intents = self.intents_seen;
        findings.ok(&format!(
            "of {intents} requests for what is endorsed or approved, {approvals} approvals and {endorsements} endorsements verify"
        ));
        let warnings = [
            (
                self.over_bytes,
                "of these endorsements are OpenPGP signatures: that they are over the artifact, only its bytes can show",
            ),
            (self.macs, "endorsements are MACs, which nobody can verify without this host's secret"),
            (self.unknown, "endorsements were not looked at: that takes the configuration"),
            (
                self.strange,
                "requests are for keys whose fingerprints no configured certificate has: what they demand, only their names tell",
            ),
        ];
        for (count, what) in warnings.into_iter().filter(|(count, _)| *count > 0) {
            findings.warning(&format!("{count} {what}"));
        }
    }
}

/// What an intent is about, as those who vouch for it speak of it.
fn subject(line: &Line, piece: &Line, place: Option<&Place>) -> Option<Subject> {
    let of = |algorithm: HashAlgorithm| {
        hex::decode(line.field(algorithm.name())).ok().filter(|bytes| bytes.len() == algorithm.digest_len())
    };
    let digest = [HashAlgorithm::Sha512, HashAlgorithm::Sha384, HashAlgorithm::Sha256]
        .into_iter()
        .find_map(|algorithm| of(algorithm).map(|bytes| Digest { algorithm, bytes }))?;
    let recorded = || match piece.field("place").split_once(' ') {
        Some(("host", host)) => Some(Place { host: host.to_owned(), fleet: None }),
        Some(("fleet", fleet)) => Some(Place { host: String::new(), fleet: Some(fleet.to_owned()) }),
        _ => (piece.event() == "endorsement").then(|| Place { host: String::new(), fleet: None }),
    };
    Some(Subject {
        key: line.field("key").to_owned().try_into().ok()?,
        fingerprint: line.field("fingerprint").to_owned(),
        size: line.field("size").parse().ok()?,
        digest,
        place: place.cloned().or_else(recorded)?,
        requester: line.field("client").to_owned().try_into().ok()?,
    })
}

fn evidence(piece: &Line) -> Option<Bytes> {
    Base64::decode_vec(piece.field("evidence")).ok().map(Bytes::from)
}

/// The statement in a piece of evidence.
fn statement(piece: &Line, signature: Bytes) -> Option<Statement> {
    Some(Statement { not_after: Moment::parse(piece.field("not_after")).ok()?, signature })
}

/// Who had asked, as far as the record tells.
fn requester(line: &Line, person: Option<&String>) -> Requester {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let certificate = [line.field("cert_id")].into_iter().chain(line.field("principals").split(','));
    let names = certificate.filter(|name| !name.is_empty()).map(decoded);
    let names = names.chain([line.field("client").to_owned()]).chain(person.cloned()).collect();
    Requester { key: SshFingerprint::try_from(line.field("ssh_key").to_owned()).ok(), names }
}

/// When it was judged: shortly before it was recorded.
fn moments(line: &Line) -> Vec<SystemTime> {
    let [recorded, judged] = ["time", "date"].map(|name| humantime::parse_rfc3339(line.field(name)).ok());
    let near = judged.zip(recorded).filter(|(judged, recorded)| recorded.duration_since(*judged).is_ok_and(|later| later <= LATER));
    recorded.into_iter().chain(near.map(|(judged, _)| judged)).collect()
}

fn words<'a>(line: &'a Line, field: &str) -> impl Iterator<Item = &'a str> {
    line.field(field).split(' ').filter(|word| !word.is_empty())
}

/// Who could write the ledger must not reach the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect()
}
