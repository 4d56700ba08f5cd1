//! The ledger's chain, judged by two verifiers that share no code: sigsh's own walk and `tests/ledger.py`.

use crate::ledger::{joined, lines};
use crate::world::{scratch, succeed, world};
use sigsh::audit::ledger::chain::{Walk, WalkError};
use sigsh::audit::ledger::line::{Line, hash};
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Both verifiers on many variants of one file: `None` when it is good, else the number of the first bad line; with and without the
/// head of the original.
fn opinions(variants: &[Vec<u8>], head: (u64, [u8; 32])) -> Vec<[Option<u64>; 2]> {
    opinions_of_files(variants, usize::MAX, head)
}

/// The same where a second file begins after this many bytes. Its lines are counted from 1001.
fn opinions_of_files(variants: &[Vec<u8>], split: usize, head: (u64, [u8; 32])) -> Vec<[Option<u64>; 2]> {
    const PYTHON: &str = "import os, sys; sys.path.insert(0, 'tests'); sys.stdout, out = open('/dev/null', 'w'), sys.stdout\n\
        import ledger; d, n, head = sys.argv[1], int(sys.argv[2]), (int(sys.argv[3]), sys.argv[4])\n\
        for i in range(n):\n    files = [f for f in (f'{d}/{i}', f'{d}/{i}+') if os.path.exists(f)]\n\
        \x20   print(*(ledger.verify(files, h) for h in (None, head)), sep='\\t', file=out)";
    let directory = scratch();
    let path = |number: usize| format!("{directory}/{number}");
    let files = |variant: &'_ Vec<u8>| match variant.split_at_checked(split) {
        Some((first, second)) => (first.to_vec(), Some(second.to_vec())),
        None => (variant.clone(), None),
    };
    for (number, variant) in variants.iter().enumerate() {
        let (first, second) = files(variant);
        fs::write(path(number), first).unwrap();
        if let Some(second) = second {
            fs::write(path(number) + "+", second).unwrap();
        }
    }
    let mut python = Command::new("python3");
    python.env("PYTHONDONTWRITEBYTECODE", "1").args(["-c", PYTHON, &directory, &variants.len().to_string()]);
    let output = succeed(python.args([head.0.to_string(), hex::encode(head.1)]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), variants.len());
    let theirs = text.lines().enumerate().map(|(number, line)| {
        let line_of = |rest: &str| rest.split_once(':').unwrap().0.parse::<u64>().unwrap();
        let parse = |text: &str| match text.strip_prefix(&path(number)) {
            None if text == "None" => None,
            None => Some(0),
            Some(rest) => Some(rest.strip_prefix(':').map_or_else(|| 1000 + line_of(&rest[2..]), line_of)),
        };
        let (alone, anchored) = line.split_once('\t').unwrap();
        [parse(alone), parse(anchored)]
    });
    let ours = variants.iter().map(|variant| {
        let (mut met, mut walk) = (Some(0), Walk::default());
        let (first, second) = files(variant);
        let outcomes = [Some(first), second].into_iter().flatten().zip([0, 1000]).map(|(file, before)| {
            let outcome = walk.file(&file[..], |seen| {
                if seen.seq == head.0 {
                    met = (seen.hash != head.1).then_some(before + seen.number);
                }
            });
            match outcome {
                Ok(()) => None,
                Err(WalkError::Line(number, _)) => Some(before + number),
                Err(WalkError::Read(error)) => panic!("{error}"),
            }
        });
        let alone = outcomes.fold(None, Option::or);
        // What breaks the chain is named, even where the head would break later.
        [alone, alone.or(met)]
    });
    let both = theirs.zip(ours).enumerate();
    let opinions = both.map(|(number, (theirs, ours))| {
        let differ =
            [0, 1].into_iter().find(|which| theirs[*which] != ours[*which] && (theirs[*which].is_none() || ours[*which].is_none()));
        assert_eq!(differ, None, "{number}: {theirs:?} {ours:?} {:?}", String::from_utf8_lossy(&variants[number]));
        assert_eq!(theirs[0], ours[0], "{number}: {:?}", String::from_utf8_lossy(&variants[number]));
        ours
    });
    opinions.collect()
}

/// A small ledger: each line of these fields, chained.
fn small(events: &[&[(&str, &str)]]) -> Vec<u8> {
    let (mut bytes, mut prev) = (Vec::new(), [0; 32]);
    for (seq, fields) in (1..).zip(events) {
        let line = Line::new(seq, prev, SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seq), fields.iter().copied())
            .unwrap()
            .1;
        prev = hash(&line);
        bytes.extend([&line[..], b"\n"].concat());
    }
    bytes
}

const EVENTS: [&[(&str, &str)]; 5] = [
    &[("event", "init")],
    &[("event", "intent"), ("session", "a"), ("name", "x\"\\\t\u{1}ü")],
    &[("event", "intent"), ("session", "b")],
    &[("event", "signed"), ("session", "b")],
    &[("event", "signed"), ("session", "a")],
];

fn head_of(bytes: &[u8]) -> (u64, [u8; 32]) {
    let lines = lines(bytes);
    (lines.len() as u64, hash(lines[lines.len() - 1]))
}

#[test]
fn two_verifiers_agree_on_every_flipped_bit() {
    world();
    let good = small(&EVENTS);
    assert_eq!(opinions(std::slice::from_ref(&good), head_of(&good)), [[None, None]]);
    let flips = (0..good.len() * 8).map(|bit| {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    let flips = flips.collect::<Vec<_>>();
    let last_line = good.len() - lines(&good)[4].len() - 1;
    let opinions = opinions(&flips, head_of(&good));
    let mut unseen = 0;
    for (bit, [alone, anchored]) in opinions.iter().enumerate() {
        // But for the newline at the very end, without which the last line is the same.
        assert!(anchored.is_some() || bit / 8 == good.len() - 1, "{bit}");
        // Without the newline before it, it is torn, and so is the one before.
        assert!(alone.is_some() || bit / 8 >= last_line - 1, "{bit}");
        unseen += usize::from(alone.is_none());
    }
    // Nothing comes after the last line: what changes there shows only against a head.
    assert!(unseen > 100, "{unseen}");
}

#[test]
fn two_verifiers_agree_on_rotated_files() {
    world();
    let events: [&[(&str, &str)]; 7] =
        [EVENTS[0], EVENTS[2], EVENTS[3], &[("event", "rotate")], &[("event", "continue"), ("file", "f-4")], EVENTS[2], EVENTS[3]];
    let good = small(&events);
    let (head, split) = (head_of(&good), joined(&lines(&good)[..4]).len());
    assert_eq!(opinions_of_files(std::slice::from_ref(&good), split, head), [[None, None]]);
    let flips = (0..good.len()).map(|byte| {
        let mut bytes = good.clone();
        bytes[byte] ^= 1 << (byte % 8);
        bytes
    });
    let last_line = good.len() - lines(&good)[6].len() - 2;
    // At the end of a file a newline is not needed.
    let ends = [split - 1, good.len() - 1];
    for (byte, [alone, anchored]) in opinions_of_files(&flips.collect::<Vec<_>>(), split, head).iter().enumerate() {
        assert!(anchored.is_some() || ends.contains(&byte), "{byte}");
        assert!(alone.is_some() || byte >= last_line || ends.contains(&byte), "{byte}");
    }
    // Cut between any two lines but the right two, no chain is left.
    for count in 1..7 {
        let at = joined(&lines(&good)[..count]).len();
        let [[alone, _]] = opinions_of_files(std::slice::from_ref(&good), at, head)[..] else { panic!() };
        assert_eq!(alone.is_none(), count == 4, "{count}");
    }
    let [[alone, _]] = opinions(std::slice::from_ref(&good), head)[..] else { panic!() };
    assert_eq!(alone, Some(5));
}

#[test]
fn two_verifiers_agree_on_every_other_change() {
    world();
    let good = small(&EVENTS);
    let head = head_of(&good);
    let all = lines(&good);
    let without = |n: usize| joined(&[&all[..n], &all[n + 1..]].concat());
    let twice = |n: usize| joined(&[&all[..=n], &all[n..]].concat());
    let swapped = |n: usize| {
        let mut lines = all.clone();
        lines.swap(n, n + 1);
        joined(&lines)
    };
    let verdicts = |variants: Vec<Vec<u8>>| opinions(&variants, head);
    // The last line taken out is a cut tail: only the head knows.
    let [.., cut] = &verdicts((0..5).map(without).collect())[..] else { panic!() };
    assert_eq!(*cut, [None, Some(0)]);
    for [alone, anchored] in verdicts((0..4).map(without).collect()) {
        assert!(alone.is_some() && anchored.is_some());
    }
    for [alone, _] in verdicts((0..5).map(twice).chain((0..4).map(swapped)).collect()) {
        assert!(alone.is_some());
    }
    // Cut anywhere: what is left is torn, or whole; and never what the head knows. A file that does not even hold its first line is none.
    let first = all[0].len();
    for (length, [alone, anchored]) in
        verdicts((0..good.len() - 1).map(|length| good[..length].to_vec()).collect()).iter().enumerate()
    {
        assert_eq!((alone.is_none(), anchored.is_some()), (length >= first, true), "{length}");
    }
    // Every hash made anew after a change: consistent with itself, and only the head knows.
    let mut events = EVENTS;
    events[1] = &[("event", "intent"), ("session", "a"), ("name", "other")];
    assert_eq!(verdicts(vec![small(&events)]), [[None, Some(5)]]);
    // What no writer writes.
    let wrong: [&[&[(&str, &str)]]; 6] = [
        &[EVENTS[1]],
        &[EVENTS[0], EVENTS[0]],
        &[EVENTS[0], EVENTS[4]],
        &[EVENTS[0], EVENTS[1], EVENTS[4], EVENTS[4]],
        &[EVENTS[0], &[("event", "rotate")], EVENTS[1]],
        &[EVENTS[0], &[("event", "continue")]],
    ];
    let numbers = wrong.map(|events| verdicts(vec![small(events)])[0][0]);
    assert_eq!(numbers, [1, 2, 2, 4, 3, 2].map(Some));
    let mut late = small(&EVENTS[..1]);
    let line = Line::new(2, hash(lines(&late)[0]), SystemTime::UNIX_EPOCH, [("event", "intent")]).unwrap().1;
    late.extend(joined(&[&line]));
    assert_eq!(verdicts(vec![late]), [[Some(2), Some(2)]]);
}
