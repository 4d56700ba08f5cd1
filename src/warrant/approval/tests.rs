use super::*;
use crate::config::values::Name;
use crate::hash_state::HashAlgorithm;
use crate::request;
use crate::warrant::Place;
use ssh_key::HashAlg;
use ssh_key::private::{Ed25519Keypair, PrivateKey};

const NOW: u64 = 1_800_000_000;

fn person(seed: u8) -> PrivateKey {
    Ed25519Keypair::from_seed(&[seed; 32]).into()
}

/// `NAME OPTIONS` for each key.
fn list(lines: &[(&str, u8)]) -> Approvers {
    let lines = lines.iter().map(|(words, seed)| format!("{words} {}\n", person(*seed).public_key().to_openssh().unwrap()));
    Approvers::parse(lines.collect::<String>().as_bytes()).unwrap()
}

fn subject() -> Subject {
    Subject {
        key: Name::try_from("release".to_owned()).unwrap(),
        fingerprint: "AB".repeat(20),
        size: 3,
        digest: request::Digest { algorithm: HashAlgorithm::Sha512, bytes: vec![7; 64] },
        place: Place { host: "sign1.example.org".to_owned(), fleet: Some("release".to_owned()) },
        requester: Name::try_from("build1".to_owned()).unwrap(),
    }
}

const FLEET: Where<'_> = Where::Fleet("release");
const HOST: Where<'_> = Where::Host("sign1.example.org");

/// What `seed` says of the subject, for so many seconds.
fn says(seed: u8, purpose: Purpose, seconds: i64, place: Where<'_>) -> Statement {
    let not_after = Moment(NOW.checked_add_signed(seconds).unwrap());
    signs(seed, purpose.namespace, not_after, &text(purpose, &subject(), not_after, place))
}

fn signs(seed: u8, namespace: &str, not_after: Moment, text: &str) -> Statement {
    let signature = person(seed).sign(namespace, HashAlg::Sha512, text.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    ssh_encoding::Encode::encode(&signature, &mut bytes).unwrap();
    Statement { not_after, signature: bytes.into() }
}

fn panel(table: &str, purpose: Purpose, lines: &[(&str, u8)]) -> Panel {
    let table = toml::from_str(&format!("approvers = \"/x\"\n{table}")).unwrap();
    let requester = Requester {
        key: Some(SshFingerprint::of(person(9).public_key().key_data())),
        names: vec!["build1".to_owned(), "Erin".to_owned()],
    };
    Panel::of(&table, purpose, requester, list(lines))
}

const PEOPLE: [(&str, u8); 6] = [("alice", 1), ("bob", 2), ("carol", 3), ("alice", 4), ("dave", 9), ("erin", 10)];

fn judge(panel: Panel, given: &[Statement]) -> Result<Warrant, String> {
    let (now, mut warrant) = (Moment(NOW).time(), Warrant::default());
    let judged = panel.judge(&subject(), given, now, &mut warrant);
    judged.map(|()| warrant).map_err(|error| error.to_string())
}

#[test]
fn a_text_says_everything_once() {
    let digest = "07".repeat(64);
    let expected = format!(
        "approve-v1\nkey {}\ntype 0x00\nsize 3\ndigest sha512:{digest}\nnot-after 2027-01-15T08:00:00Z\nfleet release\nrequester build1\n",
        "AB".repeat(20)
    );
    assert_eq!(text(APPROVE, &subject(), Moment(NOW), FLEET), expected);
    let expected = expected.replace("approve-v1", "break-glass-v1").replace("fleet release", "host sign1.example.org");
    assert_eq!(text(BREAK_GLASS, &subject(), Moment(NOW), HOST), expected);
}

#[test]
fn as_many_people_as_are_needed_hold_longest_and_they_alone_are_recorded() {
    let given = [says(3, APPROVE, 60, FLEET), says(1, APPROVE, 30, HOST), says(2, APPROVE, 90, FLEET)];
    let warrant = judge(panel("need = 2", APPROVE, &PEOPLE), &given).unwrap();
    // While two of them hold.
    assert_eq!(warrant.expires, Some(Moment(NOW + 60).time()));
    assert_eq!(warrant.facts.iter().collect::<Vec<_>>(), [(Field::APPROVERS, "bob carol")]);
    assert!(warrant.quotas.is_empty() && warrant.lists.len() == 1);
    let own = |name, not_after, place| vec![(Field::APPROVERS, name), (Field::NOT_AFTER, not_after), (Field::PLACE, place)];
    let pieces = warrant.evidence.iter().map(|piece| piece.facts.iter().collect::<Vec<_>>()).collect::<Vec<_>>();
    assert_eq!(
        pieces,
        [own("bob", "2027-01-15T08:01:30Z", "fleet release"), own("carol", "2027-01-15T08:01:00Z", "fleet release"),]
    );
    assert!(
        warrant.evidence.iter().zip([2, 0]).all(|(piece, at)| piece.bytes == given[at].signature && piece.kind == Kind::Approval)
    );
}

#[test]
fn an_emergency_is_for_this_host_and_counted_for_each_person() {
    let given = [says(1, BREAK_GLASS, 60, HOST), says(2, BREAK_GLASS, 90, HOST)];
    let warrant = judge(panel("need = 1", BREAK_GLASS, &PEOPLE), &given).unwrap();
    let name = Sha256::digest([b"bob\0".as_slice(), text(BREAK_GLASS, &subject(), given[1].not_after, HOST).as_bytes()].concat());
    let name = format!("break-glass:{}", hex::encode(name));
    assert_eq!(warrant.quotas, [Quota { name: name.clone(), max: 1, since: Moment(NOW - 3600).time() }]);
    let facts = warrant.facts.iter().collect::<Vec<_>>();
    assert_eq!(facts, [(Field::APPROVERS, "bob"), (Field::BREAK_GLASS, "yes"), (Field::PERMITS, name.as_str())]);
    assert_eq!((warrant.expires, warrant.evidence.len()), (Some(given[1].not_after.time()), 1));
    // What the clock says must not go back behind that from when on uses are counted.
    let [now, before] =
        [NOW - 3600, NOW - 3601].map(|second| warrant.check(Moment(second).time()).map_err(|error| error.to_string()));
    let back = "the clock has gone back to before what permits this could be used";
    assert_eq!((now, before), (Ok(()), Err(back.to_owned())));

    let two = judge(panel("need = 2", BREAK_GLASS, &PEOPLE), &given).unwrap();
    assert_eq!((two.quotas.len(), two.expires), (2, Some(Moment(NOW + 60).time())));
    let fleet = judge(panel("need = 1", BREAK_GLASS, &PEOPLE), &[says(1, BREAK_GLASS, 60, FLEET)]);
    assert_eq!(fleet.err().unwrap(), format!("0 of 1 approvals; break-glass: {OTHER}"));
}

/// As many as there may be, of the longest name counted: their names stand in a record uncut.
#[test]
fn the_names_of_all_that_is_counted_fit_a_record() {
    let names = (1..=8).map(|seed| (format!("{}{seed}", "p".repeat(63)), seed)).collect::<Vec<_>>();
    let lines = names.iter().map(|(name, seed)| (name.as_str(), *seed)).collect::<Vec<_>>();
    let given = (1..=8).map(|seed| says(seed, BREAK_GLASS, 60, HOST)).collect::<Vec<_>>();
    let warrant = judge(panel("need = 8", BREAK_GLASS, &lines), &given).unwrap();
    let fact = |wanted| {
        warrant.facts.iter().find(|(field, _)| *field == wanted).unwrap().1.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(fact(Field::PERMITS), warrant.quotas.iter().map(|quota| quota.name.clone()).collect::<Vec<_>>());
    assert_eq!(fact(Field::APPROVERS), names.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
}

const OTHER: &str = "one is of another artifact, key, host, time or requester";

#[test]
fn what_does_not_count_says_why() {
    let day = 24 * 60 * 60;
    let garbage = Statement { not_after: Moment(NOW + 60), signature: b"SSHSIG".as_slice().into() };
    let changed = |from: &str, to: &str| {
        let right = text(APPROVE, &subject(), Moment(NOW + 60), FLEET);
        assert!(right.contains(from), "{from}");
        signs(1, "approve@sigsh", Moment(NOW + 60), &right.replacen(from, to, 1))
    };
    // By the key of `seed`, as far as anybody says so who has not got it.
    let forged = |seed| {
        let mut statement = says(seed, APPROVE, 60, FLEET);
        let mut bytes = statement.signature.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        statement.signature = bytes.into();
        statement
    };
    let own = |seconds| says(1, APPROVE, seconds, FLEET);
    let mut cases = vec![
        ("", vec![], "0 of 2 approvals; --approval TIME=BASE64 brings one person's"),
        ("", vec![own(60)], "1 of 2 approvals; another --approval TIME=BASE64 brings one more"),
        ("", vec![own(1)], "1 of 2 approvals; another --approval TIME=BASE64 brings one more"),
        ("", vec![own(day)], "1 of 2 approvals; another --approval TIME=BASE64 brings one more"),
        ("", vec![own(day + 1)], "0 of 2 approvals; alice's holds for longer than 1day"),
        ("", vec![own(0)], "0 of 2 approvals; alice's expired 0 seconds ago"),
        ("", vec![own(-1)], "0 of 2 approvals; alice's expired 1 second ago"),
        ("", vec![own(-180)], "0 of 2 approvals; alice's expired 3 minutes ago"),
        ("", vec![own(-7199)], "0 of 2 approvals; alice's expired 1 hour ago"),
        ("", vec![own(-2 * day)], "0 of 2 approvals; alice's expired 2 days ago"),
        ("max-age = \"90s\"", vec![own(91)], "0 of 2 approvals; alice's holds for longer than 1m 30s"),
        ("max-age = \"90s\"", vec![own(90)], "1 of 2 approvals; another --approval TIME=BASE64 brings one more"),
        ("", vec![own(60), own(60)], "1 of 2 approvals; alice approved twice"),
        ("", vec![own(60), says(4, APPROVE, 60, HOST), own(90)], "1 of 2 approvals; alice approved twice"),
        (
            "",
            vec![says(7, APPROVE, 60, FLEET), own(-60)],
            "0 of 2 approvals; one is by nobody on the list; alice's expired 1 minute ago",
        ),
        ("", vec![says(1, BREAK_GLASS, 60, HOST)], "0 of 2 approvals; one was not signed with -n approve@sigsh"),
        // Who is on the list is told to nobody who cannot sign for him.
        ("", vec![says(7, BREAK_GLASS, 60, HOST)], "0 of 2 approvals; one was not signed with -n approve@sigsh"),
        ("", vec![forged(1)], "0 of 2 approvals; one is of another artifact, key, host, time or requester"),
        ("", vec![forged(7)], "0 of 2 approvals; one is of another artifact, key, host, time or requester"),
        (
            "",
            [1, 2, 3, 9, 10].map(|seed| says(seed, APPROVE, -1, FLEET)).to_vec(),
            "0 of 2 approvals; alice's expired 1 second ago; bob's expired 1 second ago; carol's expired 1 second ago; \
             dave's expired 1 second ago; and 1 more",
        ),
        ("", vec![garbage], "0 of 2 approvals; one is no signature of ssh-keygen"),
        ("hardware-only = true", vec![own(60)], "0 of 2 approvals; alice's key is no security key"),
        ("exclude-requester = true", vec![own(60), says(9, APPROVE, 60, HOST)], "1 of 2 approvals; dave asked for it himself"),
        ("exclude-requester = true", vec![own(60), says(10, APPROVE, 60, HOST)], "1 of 2 approvals; erin asked for it himself"),
    ];
    let digit = format!("digest sha512:{}", "07".repeat(64));
    for (from, to) in [
        ("approve-v1", "approve-v2"),
        ("approve-v1", "break-glass-v1"),
        ("key AB", "key AC"),
        ("type 0x00", "type 0x01"),
        ("size 3", "size 4"),
        (&digit, &digit.replacen("07", "08", 1)),
        ("sha512:", "sha256:"),
        ("08:01:00Z", "08:01:01Z"),
        ("08:01:00Z", "08:00:59Z"),
        ("fleet release", "fleet other"),
        ("fleet release", "host release"),
        ("fleet release", "host sign2.example.org"),
        ("fleet release", "fleet sign1.example.org"),
        ("requester build1", "requester build2"),
        ("requester build1\n", "requester build1"),
        ("requester build1\n", "requester build1\n\n"),
        ("\n", "\r\n"),
        ("size", " size"),
    ] {
        cases.push(("", vec![changed(from, to)], "0 of 2 approvals; one is of another artifact, key, host, time or requester"));
    }
    for (table, given, message) in cases {
        let judged = judge(panel(&format!("need = 2\n{table}"), APPROVE, &PEOPLE), &given);
        assert_eq!(judged.err().as_deref(), Some(message), "{table} {given:?}");
    }
    // The requester counts, unless he is excluded.
    assert!(judge(panel("need = 2", APPROVE, &PEOPLE), &[says(9, APPROVE, 60, HOST), says(10, APPROVE, 60, HOST)]).is_ok());
}

#[test]
fn a_key_counts_while_its_line_says_so() {
    let given = [says(1, APPROVE, 60, FLEET)];
    // NOW is 2027-01-15T08:00:00Z.
    for (options, expires) in [
        ("", Ok(60)),
        ("namespaces=\"approve@sigsh\"", Ok(60)),
        ("namespaces=\"file,approve@sigsh\"", Ok(60)),
        ("namespaces=\"break-glass@sigsh\"", Err("alice's key is not for this")),
        ("valid-after=\"20270115080000Z\"", Ok(60)),
        ("valid-after=\"20270115080001Z\"", Err("alice's key is not valid yet")),
        ("valid-before=\"20270115075959Z\"", Err("alice's key is no longer valid")),
        // Its last second is now.
        ("valid-before=\"20270115080000Z\"", Ok(1)),
        ("valid-before=\"20270115080058Z\"", Ok(59)),
        ("valid-before=\"20270115080100Z\"", Ok(60)),
    ] {
        let judged = judge(panel("need = 1", APPROVE, &[(&format!("alice {options}"), 1)]), &given);
        let judged = judged.map(|warrant| warrant.expires.unwrap());
        let expected = expires.map(|seconds| Moment(NOW + seconds).time()).map_err(|why| format!("0 of 1 approvals; {why}"));
        assert_eq!(judged, expected, "{options}");
    }
}
