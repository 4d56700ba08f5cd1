//! `sigsh-admin ledger show`: the records, as a table for people or as they are.

use super::{as_account, failed, parts};
use crate::{AdminError, account};
use nix::unistd::geteuid;
use sigsh::audit::ledger::chain::{Walk, WalkError};
use sigsh::audit::ledger::line::Line;
use sigsh::config::Config;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The columns, their widths, and the fields of a line that they show: the first that there is. Together with the blanks between
/// them 100 characters.
const COLUMNS: [(&str, usize, &[&str]); 7] = [
    ("SEQ", 7, &[]),
    ("TIME", 19, &["time"]),
    ("EVENT", 11, &["event"]),
    ("CLIENT", 12, &["client"]),
    ("KEY", 12, &["key"]),
    ("DIGEST", 12, &["sha512", "sha384", "sha256"]),
    ("WHAT", 21, &["reason", "name", "file"]),
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only this client's
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// Only those of this key
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Only those of an artifact or a signature whose digest begins so
    #[arg(long, value_name = "HEX", value_parser = digest)]
    digest: Option<String>,
    /// Only this event: endorsement, approval, intent, signed, failed, refused, init, rotate, continue
    #[arg(long, value_name = "EVENT")]
    event: Option<String>,
    /// Only from this time on, such as '2026-11-21' or '2026-11-21 10:00:00', in UTC
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<String>,
    /// Only before this time
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<String>,
    /// The lines themselves, as they are in the ledger
    #[arg(long)]
    json: bool,
    /// Files of one chain, in order; by default those of the configured ledger
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

fn digest(text: &str) -> Result<String, String> {
    let digits = text.rsplit(':').next().unwrap_or_default().to_ascii_lowercase();
    let good = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if good { Ok(digits) } else { Err("a digest is at least 8 hexadecimal digits".to_owned()) }
}

/// As the ledger writes it, so that texts compare as times do.
fn time(text: &str) -> Result<String, String> {
    let whole = if text.len() == 10 { format!("{text} 00:00:00") } else { text.to_owned() };
    let time = humantime::parse_rfc3339_weak(&whole).map_err(|_| "a time is '2026-11-21' or '2026-11-21 10:00:00', in UTC")?;
    Ok(humantime::format_rfc3339_nanos(time).to_string())
}

pub(super) fn run(options: &Options, path: &Path) -> Result<bool, AdminError> {
    let alone = !options.files.is_empty() && !geteuid().is_root();
    let config = if alone { None } else { Some(Config::for_admin(path, false)?) };
    let user = config.as_ref().map(account::find).transpose()?.flatten();
    as_account(user.as_ref(), &[], |_| match print(options, config.as_ref()) {
        Ok(()) => true,
        Err(error) => failed(&error),
    })
}

fn print(options: &Options, config: Option<&Config>) -> Result<(), AdminError> {
    let parts = parts(&options.files, config)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut written = if options.json { Ok(()) } else { row(&mut out, |(name, ..)| (*name).to_owned()) };
    let mut walk = Walk::default();
    for (path, input) in parts {
        let outcome = walk.file(input, |seen| {
            if written.is_err() {
                return;
            }
            written = match seen.record {
                Some((line, bytes)) if options.wants(line) && options.json => {
                    out.write_all(bytes).and_then(|()| out.write_all(b"\n"))
                }
                Some((line, _)) if options.wants(line) => row(&mut out, |(_, _, fields)| cell(line, fields)),
                None if options.wants_all() && !options.json => {
                    writeln!(out, "{:>7} (torn: no record, but a part of the chain)", seen.seq)
                }
                _ => Ok(()),
            };
        });
        match outcome {
            Ok(()) => {}
            Err(WalkError::Line(number, error)) => {
                let _ = out.flush();
                return Err(AdminError::Ledger(format!("{}:{number}: {error}", path.display())));
            }
            Err(WalkError::Read(error)) => return Err(AdminError::File(path, error)),
        }
    }
    written.and_then(|()| out.flush()).map_err(|error| AdminError::File("standard output".into(), error))
}

impl Options {
    fn wants_all(&self) -> bool {
        let texts = [&self.client, &self.key, &self.digest, &self.event, &self.since, &self.until];
        texts.iter().all(|text| text.is_none())
    }

    fn wants(&self, line: &Line) -> bool {
        let is = |wanted: &Option<String>, field| wanted.as_ref().is_none_or(|wanted| line.field(field) == wanted);
        let digests = ["sha256", "sha384", "sha512", "signature_sha256"];
        is(&self.client, "client")
            && is(&self.key, "key")
            && is(&self.event, "event")
            && self.digest.as_ref().is_none_or(|wanted| digests.iter().any(|name| line.field(name).starts_with(wanted.as_str())))
            && self.since.as_ref().is_none_or(|since| line.time() >= since.as_str())
            && self.until.as_ref().is_none_or(|until| line.time() < until.as_str())
    }
}

fn cell(line: &Line, fields: &[&str]) -> String {
    let fields = match line.event() {
        "approval" if fields.contains(&"reason") => &["approvers"][..],
        "endorsement" if fields.contains(&"reason") => &["permit_id", "permit_serial", "endorsed"],
        _ => fields,
    };
    match fields.iter().map(|name| line.field(name)).find(|value| !value.is_empty()) {
        None if fields.is_empty() => line.seq.to_string(),
        None => String::new(),
        Some(value) if fields == ["time"] => value.get(..19).unwrap_or(value).replace('T', " "),
        // Who could write the ledger must not reach the terminal.
        Some(value) => value.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect(),
    }
}

/// One line of the table. The last column has no blanks behind it.
fn row(out: &mut impl Write, cell: impl Fn(&(&str, usize, &[&str])) -> String) -> std::io::Result<()> {
    let cells = COLUMNS.iter().map(|column| {
        let (width, text) = (column.1, cell(column));
        let cut = if text.len() > width { format!("{}…", text.chars().take(width - 1).collect::<String>()) } else { text };
        if column.0 == "SEQ" { format!("{cut:>width$}") } else { format!("{cut:<width$}") }
    });
    writeln!(out, "{}", cells.collect::<Vec<_>>().join(" ").trim_end())
}
