use super::*;
use std::io::Write;
use std::time::Duration;

const NAME: &str = "ssh:SHA256:abc:7";
const MINUTE: Duration = Duration::from_secs(60);

fn quota(max: u64, since: SystemTime) -> Quota {
    Quota { name: NAME.to_owned(), max, since }
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn line(time: SystemTime, fields: &[(&str, &str)]) -> Vec<u8> {
    let (_, mut bytes) = Line::new(2, [7; 32], time, fields.iter().copied()).unwrap();
    bytes.push(b'\n');
    bytes
}

fn used(bytes: &[u8]) -> u64 {
    let past = Past { complete: true, ..Past::default() };
    let count = Count::of(&[quota(u64::MAX, SystemTime::UNIX_EPOCH)], &file(bytes), bytes.len() as u64, &past).unwrap();
    count.quotas[0].1
}

#[test]
fn only_an_intent_that_bears_the_name_counts() {
    let long = format!("{NAME}1");
    let two = format!("break-glass:00 {NAME} mac:x:y:1");
    for (event, permits, name, counts) in [
        ("intent", NAME, "", true),
        ("intent", &two, "", true),
        ("intent", &two, NAME, true),
        ("intent", &long, NAME, false),
        ("intent", &NAME[1..], "", false),
        ("intent", "", NAME, false),
        ("signed", NAME, "", false),
        ("failed", NAME, "", false),
        ("endorsement", NAME, "", false),
        ("approval", NAME, "", false),
    ] {
        let line = line(SystemTime::now(), &[("event", event), ("permits", permits), ("name", name)]);
        assert_eq!(used(&line), u64::from(counts), "{event} {permits} {name}");
        // Whoever was killed leaves half a line, which is none; but a newline is no part of it.
        assert_eq!(used(&line[..line.len() - 2]), 0);
        assert_eq!(used(&[&line[..line.len() - 2], b"\n", &line].concat()), u64::from(counts));
        assert_eq!(used(&[&b"x"[..], &line].concat()), 0);
        // What is longer than any record is none either, wherever it is cut in pieces.
        for length in [MAX_LINE, PIECE - line.len(), PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            assert_eq!(used(&[&line[..], &vec![b'x'; length], b"\n", &line].concat()), 2 * u64::from(counts), "{length}");
        }
    }
}

/// However lines lie in pieces, and wherever the ledger ended when it was looked at first.
#[test]
fn each_is_counted_once() {
    let now = SystemTime::now();
    let mut bytes = Vec::new();
    let mut expected = 0;
    while bytes.len() < 6 * PIECE {
        let random = getrandom::u64().unwrap() as usize;
        let filler = "x".repeat(random % [100, 5000, MAX_LINE - 300][random % 3]);
        let permits = if random & 64 == 0 { NAME } else { "mac:other" };
        expected += u64::from(permits == NAME);
        bytes.extend(line(now, &[("event", "intent"), ("permits", permits), ("evidence", &filler)]));
    }
    let (ledger, past) = (file(&bytes), Past { complete: true, ..Past::default() });
    assert_eq!(used(&bytes), expected);
    for _ in 0..200 {
        let length = getrandom::u64().unwrap() % bytes.len() as u64;
        let mut count = Count::of(&[quota(u64::MAX, SystemTime::UNIX_EPOCH)], &ledger, length, &past).unwrap();
        count.go_on(&ledger, bytes.len() as u64).unwrap();
        assert_eq!(count.quotas[0].1, expected, "{length}");
    }
}

#[test]
fn at_most_as_often_as_it_may() {
    let intent = line(SystemTime::now(), &[("event", "intent"), ("permits", NAME)]);
    for before in 0..4 {
        for meanwhile in 0..3 {
            for max in 1..6 {
                let bytes = intent.repeat(before + meanwhile);
                let (ledger, past) = (file(&bytes), Past { complete: true, ..Past::default() });
                let quotas = [
                    Quota { name: "mac:other".to_owned(), ..quota(1, SystemTime::UNIX_EPOCH) },
                    quota(max, SystemTime::UNIX_EPOCH),
                ];
                let count = Count::of(&quotas, &ledger, (before * intent.len()) as u64, &past);
                let count = count.and_then(|mut count| count.go_on(&ledger, bytes.len() as u64));
                let refused = matches!(count, Err(LedgerError::UsedUp(limit)) if limit == max);
                assert_eq!(
                    (count.is_ok(), refused),
                    if (before + meanwhile) < max as usize { (true, false) } else { (false, true) }
                );
            }
        }
    }
}

#[test]
fn what_is_older_is_not_read_and_must_be_there() {
    let now = SystemTime::now();
    let intent = |age: u32| line(now - age * MINUTE, &[("event", "intent"), ("permits", NAME), ("evidence", &"x".repeat(4000))]);
    let bytes = (0..100).rev().flat_map(intent).collect::<Vec<_>>();
    let ledger = file(&bytes);
    let count = |age: u32, past: &Past| Count::of(&[quota(u64::MAX, now - age * MINUTE)], &ledger, bytes.len() as u64, past);
    // Nor counted, where it lies in one piece with what is.
    for age in [0, 1, 10, 50, 90] {
        assert_eq!(count(age, &Past::default()).unwrap().quotas[0].1, u64::from(age) + 1, "{age}");
    }
    // Its first record is 99 minutes old: what came before is in other files, if anywhere.
    assert!(count(98, &Past::default()).is_ok());
    assert!(matches!(count(99, &Past::default()), Err(LedgerError::Past)));
    assert_eq!(count(99, &Past { complete: true, ..Past::default() }).unwrap().quotas[0].1, 100);
    let older = [line(now - 300 * MINUTE, &[("event", "init")]), intent(200), intent(150)].concat();
    let past = |complete| Past { files: vec![(file(&older), older.len() as u64)], complete };
    assert_eq!(count(250, &past(false)).unwrap().quotas[0].1, 102);
    assert!(matches!(count(301, &past(false)), Err(LedgerError::Past)));
    assert_eq!(count(301, &past(true)).unwrap().quotas[0].1, 102);
    assert!(matches!(count(400, &Past::default()), Err(LedgerError::Past)));
}

#[test]
fn an_intent_must_bear_its_names() {
    let past = Past { complete: true, ..Past::default() };
    let other = Quota { name: "mac:other".to_owned(), ..quota(1, SystemTime::UNIX_EPOCH) };
    let count = Count::of(&[quota(1, SystemTime::UNIX_EPOCH), other], &file(b""), 0, &past).unwrap();
    let both = format!("{NAME} mac:other");
    for (event, permits, good) in
        [("intent", both.as_str(), true), ("signed", &both, false), ("intent", NAME, false), ("intent", "", false)]
    {
        assert_eq!(
            count.is_borne_by(&[&[("event", "signed")], &[("event", event), ("permits", permits)]]),
            good,
            "{event} {permits}"
        );
    }
    assert!(Count::default().is_borne_by(&[&[("event", "signed")]]));
}
