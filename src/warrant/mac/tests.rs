use super::*;
use crate::config::values::Name;
use crate::hash_state::HashAlgorithm;
use crate::request::Digest;
use crate::warrant::Place;
use std::time::UNIX_EPOCH;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const NOT_BEFORE: u64 = 1_767_236_645; // 2026-01-01T03:04:05Z
const NOT_AFTER: u64 = 1_767_323_045; // 2026-01-02T03:04:05Z

fn subject() -> Subject {
    Subject {
        key: Name::try_from("release".to_owned()).unwrap(),
        fingerprint: "0123456789ABCDEF0123456789ABCDEF01234567".to_owned(),
        size: 3,
        digest: Digest { algorithm: HashAlgorithm::Sha256, bytes: vec![0xab; 32] },
        place: Place { host: "sign1.example.org".to_owned(), fleet: None },
        requester: Name::try_from("build1".to_owned()).unwrap(),
    }
}

fn line() -> String {
    format!("mac-v1 build-1234 2026-01-01T03:04:05Z 2026-01-02T03:04:05Z 64 {}\n", "0f".repeat(64))
}

/// Asked one hour before it ends.
fn asked(bytes: &[u8]) -> Result<(Question, Permit), String> {
    at(bytes, Duration::from_secs(NOT_AFTER - 3600))
}

fn at(bytes: &[u8], now: Duration) -> Result<(Question, Permit), String> {
    ask(&subject(), bytes, UNIX_EPOCH + now, DAY, &Revoked::default()).map_err(|error| error.to_string())
}

#[test]
fn the_texts_are_rebuilt() {
    let (question, permit) = asked(line().as_bytes()).unwrap();
    let common = "key 0123456789ABCDEF0123456789ABCDEF01234567\nhost sign1.example.org\nid build-1234\n\
                  not-before 2026-01-01T03:04:05Z\nnot-after 2026-01-02T03:04:05Z\nmax 64\n";
    assert_eq!(question.permit, format!("permit-v1\n{common}"));
    assert_eq!(question.text, format!("endorse-v1\n{common}size 3\ndigest sha256:{}\n", "ab".repeat(32)));
    assert_eq!(question.mac, [0x0f; 64]);
    let expires = UNIX_EPOCH + Duration::from_secs(NOT_AFTER);
    let name = "mac:0123456789ABCDEF0123456789ABCDEF01234567:build-1234:1767236645:1767323045".to_owned();
    let quota = Quota { name, max: 64, since: UNIX_EPOCH + Duration::from_secs(NOT_BEFORE) };
    let (by, serial, id) = (String::new(), String::new(), "build-1234".to_owned());
    assert_eq!(permit, Permit { kind: "mac", by, serial, id, quota, expires });
}

#[test]
fn each_value_is_written_in_one_way() {
    let good = line();
    let id = |id: &str| good.replace("build-1234", id);
    for good in [id("1"), id(&"x".repeat(64)), id("A.b_c-9"), good.replace(" 64 ", " 1 "), good.replace(" 64 ", " 1000000 ")] {
        assert!(asked(good.as_bytes()).is_ok(), "{good}");
    }
    let times = |times: [&str; 3]| {
        let time = |from: &str| times.map(|time| good.replace(from, time));
        [time("2026-01-01T03:04:05Z"), time("2026-01-02T03:04:05Z")].concat()
    };
    let max = |max: &str| good.replace(" 64 ", &format!(" {max} "));
    let mac = |mac: &str| good.replace(&"0f".repeat(64), mac);
    let all = [
        vec![good.trim_end().to_owned(), good.replace('\n', "\r\n"), format!("{good}\n"), format!("{good}x"), good.repeat(2)],
        vec![format!(" {good}"), good.replace(" 64", "  64"), good.replace(" 64", "\t64"), good.replace('\n', " \n")],
        vec![good.replace("mac-v1", "mac-v2"), good.replace("mac-v1", "MAC-v1"), good.replace("build-1234 ", "")],
        vec![id(""), id(&"x".repeat(65)), id("a/b"), id("a:b"), id("a b"), id("ä"), id("a\0"), id("a\n")],
        times(["2026-01-02T03:04:05", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05.0Z"]),
        times(["2026-01-02T03:04:05z", "2026-01-02T03:04:60Z", "1767323045"]),
        times(["20260102T030405Z", "", "2026-01-02T03:04:05Z 2026-01-02T03:04:05Z"]),
        vec![good.replace("2026-01-01T03:04:05Z ", ""), good.replace("2026-01-02T03:04:05Z ", "")],
        vec![max("0"), max("1000001"), max("064"), max("+64"), max("-1"), max("0x40"), max(""), max("18446744073709551680")],
        vec![mac(&"0F".repeat(64)), mac(&"0f".repeat(63)), mac(&"0f".repeat(65)), mac(&"0f".repeat(32)), mac("")],
        vec![mac(&format!("{}0", "0f".repeat(63))), mac(&format!("{}0g", "0f".repeat(63))), mac(&"=A".repeat(64))],
    ];
    let wrong = "the endorsement is not one line of mac-v1, ID, NOT-BEFORE, NOT-AFTER, MAX and HEX, with one blank between them";
    for line in all.concat() {
        assert_eq!(asked(line.as_bytes()).unwrap_err(), wrong, "{line}");
    }
    assert_eq!(asked(b"mac-v1 \xff\n").unwrap_err(), wrong);
}

#[test]
fn it_holds_from_its_first_second_to_its_last_and_no_longer_than_any_may() {
    let held = |now: Duration| at(line().as_bytes(), now).map(drop);
    let (begin, end) = (Duration::from_secs(NOT_BEFORE), Duration::from_secs(NOT_AFTER));
    let (second, instant) = (Duration::from_secs(1), Duration::from_nanos(1));
    for good in [end - second, end - instant, begin, begin + instant, begin + second] {
        assert_eq!(held(good), Ok(()), "{good:?}");
    }
    for late in [end, end + instant, end + second] {
        assert_eq!(held(late).unwrap_err(), "the endorsement has expired: it held until 2026-01-02T03:04:05Z", "{late:?}");
    }
    for early in [begin - instant, begin - second, Duration::ZERO] {
        let why = "the endorsement does not hold yet: it does from 2026-01-01T03:04:05Z on";
        assert_eq!(held(early).unwrap_err(), why, "{early:?}");
    }
    let lasting = |from: &str| at(line().replace("2026-01-01T03:04:05Z", from).as_bytes(), end - second).map(drop);
    assert_eq!(lasting("2026-01-01T03:04:06Z"), Ok(()));
    assert_eq!(lasting("2026-01-02T03:04:04Z"), Ok(()));
    for long in ["2026-01-01T03:04:04Z", "1970-01-01T00:00:00Z"] {
        assert_eq!(lasting(long).unwrap_err(), "the endorsement holds for longer than 1day, as none may", "{long}");
    }
    // One that ends before it begins never holds.
    for none in ["2026-01-02T03:04:05Z", "2026-01-03T03:04:05Z"] {
        assert!(lasting(none).unwrap_err().contains("does not hold yet"), "{none}");
    }
}

/// Whatever was configured when it was used first, and is now: it is refused, or what is counted begins no later than any use.
#[test]
fn another_max_age_forgets_no_use() {
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    let ask = |now: u64, max_age: u64| {
        let now = UNIX_EPOCH + Duration::from_secs(NOT_BEFORE) + hours(now);
        ask(&subject(), line().as_bytes(), now, hours(max_age), &Revoked::default()).map(|(_, permit)| (now, permit.quota))
    };
    let all = || (0..24).flat_map(|now| [1, 6, 23, 24, 25, 48].map(|max_age| ask(now, max_age))).flatten();
    assert_eq!(all().count(), 72);
    for (used, first) in all() {
        for (now, again) in all().filter(|(now, _)| *now >= used) {
            assert!(again.since <= used && again == first, "{used:?} {now:?}: {again:?}");
        }
    }
}
