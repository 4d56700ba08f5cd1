use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB";
const COMPRESSED: &str = "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAAAhA2sX0fLhLEJH+Lzm5WOkQPJ3A32BLeszoPShOUXYmMKW";
const HARDWARE: &str = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABHNzaDo=";

fn parse(text: &str) -> Result<Approvers, (usize, String)> {
    Approvers::parse(text.as_bytes())
}

#[test]
fn one_principal_a_line_with_its_key() {
    let text = format!(
        "# who may\n\nalice {KEY} at her desk\n\talice\tnamespaces=\"approve@sigsh,file\" {HARDWARE}\nbob@example.org {OTHER}"
    );
    let approvers = parse(&text).unwrap();
    let found = |key: &str| approvers.by_key(&super::key(key).unwrap()).map(|line| line.person.to_string());
    assert_eq!(
        [KEY, HARDWARE, OTHER].map(found),
        [Some("alice"), Some("alice"), Some("bob@example.org")].map(|name| name.map(str::to_owned))
    );
    let alice = Person::try_from("alice".to_owned()).unwrap();
    assert_eq!((approvers.keys_of(&alice).count(), approvers.entries()), (2, 3));
    let uses = approvers.lines.iter().map(|line| (line.is_for("approve@sigsh"), line.is_for("other"), line.is_hardware()));
    assert_eq!(uses.collect::<Vec<_>>(), [(true, true, false), (true, false, true), (true, true, false)]);
}

#[test]
fn a_key_is_valid_from_its_first_second_to_its_last() {
    for (options, first, end) in [
        ("valid-after=\"20300102Z\"", Some("2030-01-02T00:00:00Z"), None),
        ("valid-after=\"203001020304Z\"", Some("2030-01-02T03:04:00Z"), None),
        (
            "valid-after=\"20300102030405Z\",valid-before=\"20300102030406Z\"",
            Some("2030-01-02T03:04:05Z"),
            Some("2030-01-02T03:04:07Z"),
        ),
        ("valid-before=\"20300102Z\",namespaces=\"a\"", None, Some("2030-01-02T00:00:01Z")),
    ] {
        let approvers = parse(&format!("alice {options} {KEY}")).unwrap();
        let [line] = approvers.lines.as_slice() else { panic!("{options}") };
        let time = |text: &str| Moment::parse(text).unwrap().time();
        assert_eq!(line.end(), end.map(time), "{options}");
        let second = Duration::from_secs(1);
        if let Some(first) = first.map(time) {
            assert_eq!((line.has_begun(first - second), line.has_begun(first)), (false, true), "{options}");
        } else {
            assert!(line.has_begun(SystemTime::UNIX_EPOCH));
        }
    }
}

#[test]
fn what_could_be_misread_is_told_with_its_line() {
    let person = "a person is one principal, 1 to 64 of ASCII without blanks, '*', '?', '!', ',', '#', '\\' and quotes";
    let form = "a time is YYYYMMDDZ, YYYYMMDDHHMMZ or YYYYMMDDHHMMSSZ, with Z for UTC";
    let options = "the options here are namespaces, valid-after and valid-before";
    let plain = "an approver's key is a plain one: a certificate's holder could be anybody";
    let kind = "a key is of ed25519, uncompressed ecdsa, rsa of 2048 to 4096 bits, or a security key";
    let none = "behind the principal belongs a public ssh key";
    for (line, message) in [
        (format!("* {KEY}"), person),
        (format!("alice,bob {KEY}"), person),
        (format!("!alice {KEY}"), person),
        (format!("ali?e {KEY}"), person),
        (format!("\"alice\" {KEY}"), person),
        (format!("ali\u{e7}e {KEY}"), person),
        (format!("{} {KEY}", "a".repeat(65)), person),
        (format!("alice cert-authority {KEY}"), plain),
        (format!("alice cert-authority,namespaces=\"a\" {KEY}"), plain),
        (format!("alice namespaces=\"a\",cert-authority {KEY}"), plain),
        (format!("alice no-touch-required=\"a\" {KEY}"), options),
        (format!("alice Namespaces=\"a\" {KEY}"), options),
        (format!("alice no-touch-required {KEY}"), none),
        (format!("alice namespaces=a {KEY}"), "an option is NAME=\"VALUE\""),
        (format!("alice namespaces=\"a {KEY}"), "a quote is missing"),
        (
            format!("alice namespaces=\"a\"valid-after=\"20300101Z\" {KEY}"),
            "a comma belongs between options, and a blank behind them",
        ),
        (format!("alice namespaces=\"a\", {KEY}"), "an option is NAME=\"VALUE\""),
        (format!("alice namespaces=\"a\",namespaces=\"b\" {KEY}"), "an option stands here twice"),
        (format!("alice namespaces=\"*@sigsh\" {KEY}"), "namespaces are names with commas between them, no patterns"),
        (format!("alice namespaces=\"!a\" {KEY}"), "namespaces are names with commas between them, no patterns"),
        (format!("alice namespaces=\"\" {KEY}"), "namespaces are names with commas between them, no patterns"),
        (format!("alice valid-after=\"20300101\" {KEY}"), form),
        (format!("alice valid-after=\"20300101UTC\" {KEY}"), form),
        (format!("alice valid-after=\"20300101z\" {KEY}"), form),
        (format!("alice valid-after=\"2030-01-01Z\" {KEY}"), form),
        (format!("alice valid-after=\"20300230Z\" {KEY}"), form),
        (format!("alice valid-after=\"20300101240000Z\" {KEY}"), form),
        (format!("alice valid-after=\"20300101235960Z\" {KEY}"), form),
        (format!("alice valid-after=\"203001010Z\" {KEY}"), form),
        (format!("alice valid-after=\"2030010100000000Z\" {KEY}"), form),
        (format!("alice valid-after=\"+0300101Z\" {KEY}"), form),
        (format!("alice valid-after=\"19700101Z\" {KEY}"), form),
        (format!("alice valid-after=\"Z\" {KEY}"), form),
        (format!("alice valid-after=\"20300101Z\",valid-before=\"20300101Z\" {KEY}"), "valid-before is not after valid-after"),
        ("alice".to_owned(), none),
        (KEY.to_owned(), none),
        ("alice ssh-ed25519".to_owned(), none),
        ("alice ssh-ed25519 AAAA".to_owned(), none),
        (format!("alice {}", KEY.replace("ssh-ed25519 ", "ssh-rsa ")), none),
        ("alice ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAACQDYAAAAAAAAAQ==".to_owned(), kind),
        ("alice ssh-dss AAAAB3NzaC1kc3MAAAABAQAAAAEBAAAAAQEAAAABAQ==".to_owned(), kind),
        // SEC 1 §2.3.3: this one is compressed, and OpenSSH takes none of these.
        (format!("alice ecdsa-sha2-nistp256 {COMPRESSED}"), kind),
        ("alice ssh-ed25519-cert-v01@openssh.com AAAA".to_owned(), "this is a certificate; an approver's key is a plain one"),
        (format!("alice {KEY}\r"), "the line has a control character; a line ends with a line feed alone"),
        (format!("alice\u{b} {KEY}"), "the line has a control character; a line ends with a line feed alone"),
        (format!("carol {OTHER}"), "this key is on line 2, too: one key is one person's"),
        (format!("Bob {KEY}"), "this principal stands above as bob: one person has one name"),
        (format!("bob {OTHER} again"), "this key is on line 2, too: one key is one person's"),
    ] {
        let error = parse(&format!("# one\nbob {OTHER}\n{line}\n")).unwrap_err();
        assert_eq!(error, (3, message.to_owned()), "{line}");
    }
    assert_eq!(Approvers::parse(b"a\xff").unwrap_err(), (1, "the line is not UTF-8".to_owned()));
}
