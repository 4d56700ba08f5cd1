//! `sigsh-admin ledger verify`: walks over all lines, compares with what others have kept, and says in words what that proves.

use super::approvals::Vouched;
use super::{as_account, failed, parts};
use crate::check::Findings;
use crate::{AdminError, account, journald};
use nix::unistd::{Uid, geteuid};
use sigsh::audit::ledger::chain::{Seen, Walk, WalkError};
use sigsh::audit::ledger::line::Hash;
use sigsh::config::Config;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// How many torn lines are named; the rest is counted.
const NAMED: u64 = 20;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Compare with the journal's records of the account
    #[arg(long)]
    journal: bool,
    /// Compare with what 'ledger head' printed, kept on another host; may stand several times
    #[arg(long, value_name = "SEQ:HASH", value_parser = head)]
    head: Vec<(u64, Hash)>,
    /// The same with all heads in a file, a line each; '-' is standard input
    #[arg(long, value_name = "FILE")]
    heads: Option<PathBuf>,
    /// Judge approvals and endorsements once more; with FILE, an allowed_signers file, by that one in place of the configured lists
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    approvals: Option<Option<PathBuf>>,
    /// Files of one chain, in order; by default those of the configured ledger
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn head(text: &str) -> Result<(u64, Hash), String> {
    let parse = || {
        let (seq, digits) = text.trim().split_once(':')?;
        let mut hash = [0; 32];
        hex::decode_to_slice(digits, &mut hash).ok()?;
        Some((seq.parse().ok()?, hash))
    };
    parse().ok_or_else(|| "a head is SEQ:HASH, as 'sigsh-admin ledger head' prints it".to_owned())
}

/// All heads to compare with.
fn heads(options: &Options) -> Result<Vec<(u64, Hash)>, AdminError> {
    let Some(path) = &options.heads else { return Ok(options.head.clone()) };
    let failed = |error| AdminError::File(path.clone(), error);
    let input = if path.as_os_str() == "-" { "/dev/stdin".into() } else { path.clone() };
    let text = std::fs::read_to_string(input).map_err(failed)?;
    let kept = text.lines().map(|line| head(line).map_err(|error| failed(std::io::Error::other(error))));
    let kept = kept.collect::<Result<Vec<_>, _>>()?;
    if kept.is_empty() {
        return Err(failed(std::io::Error::other("no head is in it")));
    }
    Ok([options.head.clone(), kept].concat())
}

pub(super) fn run(options: &Options, path: &Path) -> Result<bool, AdminError> {
    let heads = heads(options)?;
    // On another host there may be nothing but the files.
    let alone = !options.files.is_empty() && !options.journal && !geteuid().is_root();
    let config = if alone { None } else { Some(Config::for_admin(path, false)?) };
    let user = config.as_ref().map(account::find).transpose()?.flatten();
    let vouched = options.approvals.as_ref().map(|list| Vouched::open(list.as_deref(), config.as_ref())).transpose()?;
    let mut journal = match &config {
        Some(config) if options.journal => Some(journalctl(config, user.as_ref().map_or(geteuid(), |user| user.uid))?),
        _ => None,
    };
    let pipe = journal.as_mut().and_then(|child| child.stdout.take()).map(OwnedFd::from);
    let keep = pipe.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>();
    let good = as_account(user.as_ref(), &keep, |_| {
        let mut findings = Findings::default();
        let journal = pipe.as_ref().map(|pipe| pipe.try_clone().map(File::from));
        // The journal first: what is appended meanwhile is in neither.
        let records = journal
            .transpose()
            .map_err(|error| AdminError::File("journalctl".into(), error))
            .and_then(|pipe| pipe.map(|pipe| records(pipe, &mut findings)).transpose());
        match records.and_then(|records| walk(options, heads, config.as_ref(), records, vouched, &mut findings)) {
            Ok(()) => !findings.errors(),
            Err(error) => failed(&error),
        }
    });
    drop(pipe);
    let complete = journal.is_none_or(|mut child| child.wait().is_ok_and(|status| status.success()));
    if matches!(good, Ok(true)) && !complete {
        return Err(AdminError::Ledger("journalctl failed, so the journal was not compared".to_owned()));
    }
    good
}

fn journalctl(config: &Config, uid: Uid) -> Result<std::process::Child, AdminError> {
    // What was sent just now. Where it cannot be done, lines only seem to be unrecorded.
    let _ = journald::journalctl(config.audit.journal()).arg("--sync").stderr(Stdio::null()).status();
    let mut command = journald::journalctl(config.audit.journal());
    command.args(["--quiet", "--output=json", "--all", "--no-pager", "SYSLOG_IDENTIFIER=sigsh", &format!("_UID={uid}")]);
    command.arg("--output-fields=SIGSH_SEQ,SIGSH_LEDGER");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|error| AdminError::File("journalctl".into(), error))
}

/// What the journal says of the ledger's lines: their hashes, by their places.
fn records(journal: impl Read, findings: &mut Findings) -> Result<HashMap<u64, String>, AdminError> {
    let mut found = HashMap::new();
    for line in BufReader::new(journal).lines() {
        let line = line.map_err(|error| AdminError::File("journalctl".into(), error))?;
        let Ok(record) = serde_json::from_str::<serde_json::Value>(&line) else {
            findings.error("journalctl prints a line that is no record");
            continue;
        };
        let field = |name: &str| record.get(name).and_then(serde_json::Value::as_str);
        let Some(seq) = record.get("SIGSH_SEQ") else { continue };
        match (seq.as_str().and_then(|seq| seq.parse().ok()), field("SIGSH_LEDGER")) {
            (Some(seq), Some(hash)) => {
                if let Some(other) = found.insert(seq, hash.to_owned()).filter(|other| other != hash) {
                    findings.error(&format!("the journal knows two lines {seq}, of hashes {} and {}", shown(&other), shown(hash)));
                }
            }
            _ => findings.error("the journal has a record whose SIGSH_SEQ or SIGSH_LEDGER is none"),
        }
    }
    Ok(found)
}

/// What another may have written, for a terminal.
fn shown(text: &str) -> String {
    text.chars().filter(char::is_ascii_hexdigit).take(64).collect()
}

/// What others have kept of the lines, and what has been found of it so far.
struct Kept {
    heads: BTreeMap<u64, Vec<Hash>>,
    journal: HashMap<u64, String>,
    recorded: usize,
    unrecorded: u64,
    first: u64,
    torn: u64,
}

fn walk(
    options: &Options,
    heads: Vec<(u64, Hash)>,
    config: Option<&Config>,
    journal: Option<HashMap<u64, String>>,
    mut vouched: Option<Vouched>,
    findings: &mut Findings,
) -> Result<(), AdminError> {
    let last_recorded = journal.as_ref().map(|journal| journal.keys().max().copied());
    let last_head = heads.iter().map(|(seq, _)| *seq).max();
    let journal = journal.unwrap_or_default();
    let mut by_place: BTreeMap<u64, Vec<Hash>> = BTreeMap::new();
    for (seq, hash) in heads {
        by_place.entry(seq).or_default().push(hash);
    }
    let mut kept = Kept { heads: by_place, recorded: journal.len(), journal, unrecorded: 0, first: 0, torn: 0 };
    let mut walk = Walk::default();
    for (path, input) in parts(&options.files, config)? {
        let each = |seen: &Seen<'_>| {
            kept.compare(seen, &path, findings);
            if let Some(vouched) = &mut vouched {
                vouched.see(seen, findings);
            }
        };
        match walk.file(input, each) {
            Ok(()) => {}
            Err(WalkError::Line(number, error)) => {
                findings.error(&format!("{}:{number}: {error}", path.display()));
                return Ok(());
            }
            Err(WalkError::Read(error)) => return Err(AdminError::File(path, error)),
        }
    }
    let before = kept.missing(&walk, last_recorded.is_some(), findings);
    if !findings.errors()
        && options.files.is_empty()
        && let Some(Err(error)) = config.map(super::last_line)
    {
        findings.error(&format!("sessions are refused by it: {error}"));
    }
    if let Some(vouched) = &vouched {
        vouched.conclude(findings);
    }
    if !findings.errors() {
        kept.conclude(before, &walk, last_head, last_recorded, findings);
    }
    Ok(())
}

impl Kept {
    fn compare(&mut self, seen: &Seen<'_>, path: &Path, findings: &mut Findings) {
        let at = || format!("{}:{}: line {}", path.display(), seen.number, seen.seq);
        if self.first == 0 {
            self.first = seen.seq;
        }
        if seen.record.is_none() {
            self.torn += 1;
            if self.torn <= NAMED {
                findings.warning(&format!("{} is torn: no record, but a part of the chain", at()));
            }
        }
        if self.heads.remove(&seen.seq).is_some_and(|hashes| hashes.iter().any(|hash| *hash != seen.hash)) {
            findings.error(&format!("{} is not the one of the head: it was rewritten", at()));
        }
        match self.journal.remove(&seen.seq) {
            Some(hash) if hash == hex::encode(seen.hash) => {}
            Some(_) => findings.error(&format!("{} is not the one that the journal knows", at())),
            None => self.unrecorded += u64::from(seen.record.is_some_and(|(line, _)| !line.field("session").is_empty())),
        }
    }

    /// Tells what was kept of lines that are not there, and returns how many the journal knows from before the first of them.
    fn missing(&mut self, walk: &Walk, with_journal: bool, findings: &mut Findings) -> usize {
        let first = self.first;
        let before = self.journal.extract_if(|seq, _| *seq < first).count();
        if let Some(seq) = self.journal.keys().min() {
            let lines = self.journal.len();
            findings.error(&format!("{lines} lines that the journal knows are missing, the first of them {seq}"));
        }
        let last = walk.place().map_or(0, |place| place.seq);
        if let Some(seq) = self.heads.keys().next() {
            findings.error(&format!("line {seq} of the head is missing: the lines are {first} to {last}"));
        }
        if with_journal && self.recorded == before && self.unrecorded > 0 {
            findings.error("the journal knows none of these lines: nothing could be compared");
        }
        before
    }

    /// Outer option of `last_recorded`: whether the journal was asked.
    fn conclude(self, before: usize, walk: &Walk, last_head: Option<u64>, last_recorded: Option<Option<u64>>, findings: &Findings) {
        let (last, time) = walk.place().map_or((0, ""), |place| (place.seq, place.time.as_str()));
        let first = self.first;
        findings.ok(&format!("lines {first} to {last}, the last of {time}, are one chain"));
        if last_recorded.is_some() {
            findings.ok(&format!("the journal knows {} of these lines by the same hashes", self.recorded - before));
        }
        let warnings = [
            (self.torn, "lines are torn, as a crash or a full disk leaves them"),
            (walk.open(), "intents have no end: their sessions were killed, run still, or could not write on"),
            (
                self.unrecorded * u64::from(last_recorded.is_some()),
                "lines of sessions have no record in the journal: it was not reached, or has deleted them",
            ),
            (first.saturating_sub(1), "lines stand before the first of these files, and were not looked at"),
        ];
        for (count, what) in warnings.into_iter().filter(|(count, _)| *count > 0) {
            findings.warning(&format!("{count} {what}"));
        }
        proved(last_head, last_recorded.flatten().filter(|seq| *seq >= first));
    }
}

/// What all this proves, and what it does not.
fn proved(head: Option<u64>, journal: Option<u64>) {
    if let Some(seq) = head {
        println!("proved: since the heads were kept, nothing up to their lines, the last of them {seq}, was rewritten or cut off");
    }
    if let Some(seq) = journal {
        println!("proved: since the journal has records of them, no line up to {seq} that it knows was rewritten or cut off");
    }
    match head.max(journal) {
        Some(seq) => println!("not proved: that nothing behind line {seq} was rewritten or cut off"),
        None => {
            println!("proved: the lines are consistent with each other, and no more than that");
            println!("not proved: that nothing was rewritten or cut off. Who can write the file could have made it all up:");
            println!("            compare with the journal (--journal) or with a head kept on another host (--head)");
        }
    }
}
