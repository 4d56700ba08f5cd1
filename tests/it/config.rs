//! The configuration is right, or there is none: each mistake is told with file, line and column, and a file that others could have
//! written is not read.

use crate::world::{
    CONFIG, Outcome, PIN, PIN_FILE, Session, account, account_file, changed, configuration, field, finish, scratch, secret,
    succeed, user_auth, verify, world,
};
use sigsh::config::{Config, DEFAULT};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

const GOOD: &str = r#"account = "signer"

[token.hsm]
module = "/usr/lib/softhsm/libsofthsm2.so"
uri = "pkcs11:token=release"
pin-file = "/etc/sigsh/hsm.pin"
sandbox = "softhsm"
read = ["/var/lib/sigsh/tokens"]
environment = { SOFTHSM2_CONF = "/etc/sigsh/softhsm2.conf" }
timeout = "30s"

[key.release]
token = "hsm"
uri = "pkcs11:object=release;id=%01"
certificate = "/etc/sigsh/release.pgp"
hash = "sha512"

[client.build1]
ssh-keys = ["SHA256:GZrb2FPjIoMDtrSADUKZ6YSZIvClvCmQN9l9MpR8ZJE"]
keys = ["release"]
require = ["size"]
max-size = "16GiB"

[limits]
idle = "30s"

[audit]
journal = "/run/systemd/journal/socket"
"#;

/// What every field of each table is called in an error about another one.
const TOP: &str = "expected one of `account`, `host`, `fleet`, `revoked-keys`, `token`, `key`, `client`, `limits`, `audit`";
const TOKEN: &str = "expected one of `module`, `server`, `server-account`, `uri`, `pin-file`, `sandbox`, `read`, `write`, `connect`, \
    `environment`, `timeout`, `sessions`, `queue`";
const KEY: &str = "expected one of `token`, `uri`, `certificate`, `hash`, `endorsement`, `approvals`, `break-glass`";
const CLIENT: &str = "expected one of `ssh-keys`, `ssh-ca`, `principals`, `key-ids`, `unix-user`, `from`, `person`, `keys`, `request`, \
    `inputs`, `require`, `max-size`, `rate`, `burst`";
const OWN: &str = "ssh-keys = [\"SHA256:GZrb2FPjIoMDtrSADUKZ6YSZIvClvCmQN9l9MpR8ZJE\"]\n";
const LIMITS: &str = "expected one of `idle`, `total`, `throughput`, `sessions`, `refusals`";
const COUNT: &str = "a number between 1 and 1000000 belongs here";
const RATE: &str = "a rate is a number, at most 1000000, and s, m, h or d, such as \"600/h\"";
const NOT_SET_UP: &str = "sigsh is not set up properly on this host";
const NOBODY: u32 = 65534;

fn parse(source: &str) -> Result<(), String> {
    Config::parse(Path::new("/etc/sigsh.toml"), source).map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_mistake_is_told_with_its_place() {
    assert_eq!(parse(GOOD), Ok(()));
    let fingerprint = "SHA256:GZrb2FPjIoMDtrSADUKZ6YSZIvClvCmQN9l9MpR8ZJE";
    let twice = format!("ssh-keys = [\"{fingerprint}\", ");
    let second = format!("[client.two]\nssh-keys = [\"{fingerprint}\"]\nkeys = [\"release\"]\n[limits]");
    for (from, to, message) in [
        ("account = \"signer\"\n", "", "1:1: missing field `account`"),
        ("account = \"signer\"", "account = 1", "1:11: invalid type: integer `1`, expected a string"),
        ("account = \"signer\"", "account = \"signer\"\nuser = \"x\"", "2:1: unknown field `user`, {TOP}"),
        ("account = \"signer\"", "account = \"signer\"\naccount = \"signer\"", "2:1: duplicate key"),
        ("account = \"signer\"", "account \"signer\"", "1:9: key with no value, expected `=`"),
        ("account = \"signer\"", "account = \"signer", "1:18: invalid basic string, expected `\"`"),
        ("[limits]", "[limit]", "24:2: unknown field `limit`, {TOP}"),
        ("[limits]", "[ledger]\nfile = 1\n[limits]", "24:2: unknown field `ledger`, {TOP}"),
        ("[limits]\n", "[limits]\nseats = 64\n", "25:1: unknown field `seats`, {LIMITS}"),
        ("[limits]\n", "[limits]\nsessions = 0\n", "25:12: {COUNT}"),
        ("[limits]\n", "[limits]\nsessions = 1000001\n", "25:12: {COUNT}"),
        ("[limits]\n", "[limits]\nsessions = \"64\"\n", "25:12: invalid type: string \"64\", expected i64"),
        ("[limits]\n", "[limits]\nthroughput = \"0\"\n", "25:14: a size is a number of bytes with a unit, such as \"16GiB\""),
        ("[limits]\n", "[limits]\nrefusals = \"0/s\"\n", "25:12: {RATE}"),
        ("[limits]\n", "[limits]\nrefusals = false\n", "25:12: invalid type: boolean `false`, expected a string"),
        ("max-size =", "from = []\nmax-size =", "18:1: client 'build1': from names no network, so nobody would match"),
        (
            "max-size =",
            "from = [\"192.0.2.1/24\"]\nmax-size =",
            "22:9: bits behind the prefix are set; \"192.0.2.0/24\" is meant, perhaps",
        ),
        (
            "max-size =",
            "from = [\"2001:db8::1/32\"]\nmax-size =",
            "22:9: bits behind the prefix are set; \"2001:db8::/32\" is meant, perhaps",
        ),
        (
            "max-size =",
            "from = [\"::1\", \"home\"]\nmax-size =",
            "22:16: a network is such as \"192.0.2.0/24\" or \"2001:db8::/32\"",
        ),
        (
            "max-size =",
            "from = [\"::ffff:192.0.2.1\"]\nmax-size =",
            "22:9: write an IPv4 address as such: peers that are mapped into IPv6 count as IPv4",
        ),
        ("max-size =", "request = \"\"\nmax-size =", "22:11: a request that is empty cannot say what an empty one means"),
        ("max-size =", "request = \"# x\"\nmax-size =", "22:11: the request has a comment"),
        ("max-size =", "request = \"sing\"\nmax-size =", "22:11: this is not a request"),
        ("max-size =", "request = \"sign --size x\"\nmax-size =", "22:11: an option of the request has a wrong value"),
        ("max-size =", "request = \"sign \u{fc}\"\nmax-size =", "22:11: the request holds a character that is not printable ASCII"),
        ("max-size =", "request = \"sign other\"\nmax-size =", "22:11: the request names key 'other', which is not the client's"),
        (
            "max-size =",
            "request = \"certificate other\"\nmax-size =",
            "22:11: the request names key 'other', which is not the client's",
        ),
        ("max-size =", "request = \"sign-state\"\nmax-size =", "22:11: the request reads state input, {INPUTS}"),
        ("max-size =", "inputs = [\"state\"]\nrequest = \"sign-tar\"\nmax-size =", "23:11: the request reads tar input, {INPUTS}"),
        (
            "max-size =",
            "inputs = [\"tar\"]\nrequest = \"sign --armor\"\nmax-size =",
            "23:11: the request reads artifact input, {INPUTS}",
        ),
        ("max-size =", "inputs = []\nmax-size =", "18:1: client 'build1': inputs names nothing that it may send"),
        (
            "max-size =",
            "inputs = [\"text\"]\nmax-size =",
            "22:11: unknown variant `text`, expected one of `artifact`, `tar`, `state`",
        ),
        ("max-size =", "ssh-ca = \"{FP}\"\nmax-size =", "18:1: client 'build1': a client has either ssh-keys or ssh-ca"),
        (
            "max-size =",
            "principals = [\"a\"]\nmax-size =",
            "18:1: client 'build1': principals and key-ids need an ssh-ca beside them",
        ),
        ("max-size =", "key-ids = [\"a\"]\nmax-size =", "18:1: client 'build1': principals and key-ids need an ssh-ca beside them"),
        ("max-size =", "unix-user = \"\"\nmax-size =", "22:13: a unix user is a name in /etc/passwd or a number"),
        ("max-size =", "unix-user = \"a:b\"\nmax-size =", "22:13: a unix user is a name in /etc/passwd or a number"),
        ("max-size =", "unix-user = 1000\nmax-size =", "22:13: invalid type: integer `1000`, expected a string"),
        (OWN, "", "18:1: client 'build1': a client is known by ssh-keys, ssh-ca or unix-user"),
        (OWN, "from = [\"::1\"]\n", "18:1: client 'build1': a client is known by ssh-keys, ssh-ca or unix-user"),
        (OWN, "ssh-ca = \"{FP}\"\n", "18:1: client 'build1': beside ssh-ca stand principals, key-ids or both"),
        (OWN, "ssh-ca = \"x\"\n", "19:10: an ssh key is named by its fingerprint \"SHA256:…\", as ssh-keygen -l prints it"),
        (OWN, "ssh-ca = \"{FP}\"\nprincipals = []\n", "18:1: client 'build1': a list of principals must not be empty"),
        (
            OWN,
            "ssh-ca = \"{FP}\"\nprincipals = [\"a\"]\nkey-ids = []\n",
            "18:1: client 'build1': a list of key-ids must not be empty",
        ),
        (OWN, "ssh-ca = \"{FP}\"\nprincipals = [\"a\", \"\"]\n", "20:20: a principal is 1 to 255 bytes of text"),
        (OWN, "ssh-ca = \"{FP}\"\nkey-ids = [\"\"]\n", "20:12: a pattern is 1 to 255 bytes of text"),
        ("account = \"signer\"", "account = \"signer\"\nrevoked-keys = \"list\"", "2:16: a path begins with '/'"),
        ("[audit]\n", "[audit]\nledgers = false\n", "28:1: unknown field `ledgers`, expected one of `journal`, `ledger`, `state`"),
        ("[audit]\n", "[audit]\nledger = true\n", "28:10: a ledger is a path, or false where there is none"),
        ("[audit]\n", "[audit]\nledger = 1\n", "28:10: invalid type: integer `1`, expected a path, or false"),
        ("[audit]\n", "[audit]\nledger = \"false\"\n", "28:10: a path begins with '/'"),
        ("[audit]\n", "[audit]\nledger = [\"/l\"]\n", "28:10: invalid type: sequence, expected a path, or false"),
        ("max-size =", "max_size =", "22:1: unknown field `max_size`, {CLIENT}"),
        ("max-size =", "rate = \"lots\"\nmax-size =", "22:8: {RATE}"),
        ("max-size =", "rate = \"0/h\"\nmax-size =", "22:8: {RATE}"),
        ("max-size =", "rate = \"1000001/h\"\nmax-size =", "22:8: {RATE}"),
        ("max-size =", "rate = 600\nmax-size =", "22:8: invalid type: integer `600`, expected a string"),
        ("max-size =", "rate = \"1/h\"\nburst = 0\nmax-size =", "23:9: {COUNT}"),
        ("max-size =", "rate = \"1/h\"\nburst = -1\nmax-size =", "23:9: {COUNT}"),
        ("max-size =", "burst = 1\nmax-size =", "22:9: a burst needs a rate"),
        ("timeout =", "sessions = 0\ntimeout =", "10:12: {COUNT}"),
        ("timeout =", "queue = \"0s\"\ntimeout =", "10:9: a time is between \"1s\" and \"30days\""),
        ("timeout =", "conect = []\ntimeout =", "10:1: unknown field `conect`, {TOKEN}"),
        ("timeout =", "server = \"/x\"\ntimeout =", "3:1: a token has either a 'module' or a 'server'"),
        ("timeout =", "server-account = \"x\"\ntimeout =", "3:1: a 'server-account' needs a 'server'"),
        ("timeout =", "connect = [0]\ntimeout =", "10:12: invalid value: integer `0`, expected a nonzero u16"),
        ("timeout =", "connect = [65536]\ntimeout =", "10:12: invalid value: integer `65536`, expected a nonzero u16"),
        ("timeout =", "server-account = \"a b\"\ntimeout =", "10:18: a unix user is a name in /etc/passwd or a number"),
        ("module = ", "server = ", "3:1: the sandbox of a server is 'p11-kit', and need not be named"),
        ("module = \"/usr/lib/softhsm/libsofthsm2.so\"\n", "", "3:1: a token needs a 'module' or a 'server'"),
        ("timeout =", "connect = [5000]\ntimeout =", "3:1: the sandbox 'network' and 'connect', its TCP ports, need each other"),
        (
            "sandbox = \"softhsm\"",
            "sandbox = \"network\"",
            "3:1: the sandbox 'network' and 'connect', its TCP ports, need each other",
        ),
        (
            "sandbox = \"softhsm\"",
            "sandbox = \"tpm\"",
            "3:1: the sandbox 'tpm' needs a device in 'environment', TPM2_PKCS11_TCTI = \"device:/dev/tpmrm0\"",
        ),
        ("sandbox = \"softhsm\"", "sandbox = \"p11-kit\"", "3:1: the sandbox 'p11-kit' is for a server, not for a module"),
        ("hash =", "algorithm =", "16:1: unknown field `algorithm`, {KEY}"),
        ("[token.hsm]", "[token.HSM]", "3:8: a name is 1 to 64 of a-z, 0-9 and '-'"),
        ("[token.hsm]", "[token.\"\"]", "3:8: a name is 1 to 64 of a-z, 0-9 and '-'"),
        ("[key.release]", "[key.\"a b\"]", "12:6: a name is 1 to 64 of a-z, 0-9 and '-'"),
        ("[client.build1]", "[client.Build1]", "18:9: a name is 1 to 64 of a-z, 0-9 and '-'"),
        ("[client.build1]", "[client.build_1]", "18:9: a name is 1 to 64 of a-z, 0-9 and '-'"),
        ("token = \"hsm\"", "token = \"Hsm\"", "13:9: a name is 1 to 64 of a-z, 0-9 and '-'"),
        ("token = \"hsm\"", "token = \"card\"", "13:9: there is no [token.card]"),
        ("keys = [\"release\"]", "keys = [\"release\", \"other\"]", "20:20: there is no [key.other]"),
        ("keys = [\"release\"]", "keys = \"release\"", "20:8: invalid type: string \"release\", expected a sequence"),
        ("keys = [\"release\"]", "keys = [\n  \"release\",\n  \"No\",\n]", "22:3: a name is 1 to 64 of a-z, 0-9 and '-'"),
        ("keys = [\"release\"]\n", "", "18:1: missing field `keys`"),
        ("[limits]", &second, "25:13: this ssh key is already client 'build1'"),
        ("ssh-keys = [", &twice, "19:67: this ssh key is already client 'build1'"),
        ("[limits]", "[client.build1]\nkeys = []\n[limits]", "24:9: duplicate key"),
        ("SHA256:GZ", "MD5:GZ", "19:13: an ssh key is named by its fingerprint \"SHA256:…\", as ssh-keygen -l prints it"),
        ("SHA256:GZ", "SHA256:Z", "19:13: an ssh key is named by its fingerprint \"SHA256:…\", as ssh-keygen -l prints it"),
        (fingerprint, "ssh-ed25519 AAAA", "19:13: an ssh key is named by its fingerprint \"SHA256:…\", as ssh-keygen -l prints it"),
        ("\"16GiB\"", "\"lots\"", "22:12: a size is a number of bytes with a unit, such as \"16GiB\""),
        ("\"16GiB\"", "\"0\"", "22:12: a size is a number of bytes with a unit, such as \"16GiB\""),
        ("\"16GiB\"", "16", "22:12: invalid type: integer `16`, expected a string"),
        ("idle = \"30s\"", "idle = \"soon\"", "25:8: a time is between \"1s\" and \"30days\""),
        ("idle = \"30s\"", "idle = \"0s\"", "25:8: a time is between \"1s\" and \"30days\""),
        ("idle = \"30s\"", "idle = 30", "25:8: invalid type: integer `30`, expected a string"),
        ("idle = \"30s\"", "total = \"31days\"", "25:9: a time is between \"1s\" and \"30days\""),
        ("timeout = \"30s\"", "timeout = \"-1s\"", "10:11: a time is between \"1s\" and \"30days\""),
        ("\"size\"]", "\"weight\"]", "21:12: unknown variant `weight`, expected `size` or `digest`"),
        (
            "sandbox = \"softhsm\"",
            "sandbox = \"none\"",
            "7:11: unknown variant `none`, expected one of `softhsm`, `kryoptic`, `tpm`, `pcsc`, `network`, `p11-kit`",
        ),
        ("sandbox = \"softhsm\"\n", "", "3:1: a module needs a 'sandbox'"),
        ("sha512", "sha1", "16:8: unknown variant `sha1`, expected one of `sha256`, `sha384`, `sha512`"),
        ("pkcs11:token=release", "token=release", "5:7: a PKCS#11 URI begins with \"pkcs11:\""),
        (
            "pkcs11:token=release",
            "pkcs11:slot=1",
            "5:7: a token is selected by token, manufacturer, model or serial, not by 'slot'",
        ),
        (
            "pkcs11:token=release",
            "pkcs11:token=release?pin-value=1",
            "5:7: a query ('?…') has no place here: module and PIN have fields of their own",
        ),
        ("pkcs11:token=release", "pkcs11:token=%zz", "5:7: 'token=%zz' has no proper value"),
        ("pkcs11:token=release", "pkcs11:token=%ff", "5:7: the value of 'token' is not UTF-8"),
        ("pkcs11:token=release", "pkcs11:token=a;token=b", "5:7: 'token' stands twice"),
        ("pkcs11:object=release;id=%01", "pkcs11:", "14:7: a key's uri names at least object or id"),
        (
            "pkcs11:object=release;id=%01",
            "pkcs11:token=release;object=a",
            "14:7: a key is selected by object and id, not by 'token'",
        ),
        ("pkcs11:object=release;id=%01", "pkcs11:object", "14:7: 'object' is not name=value"),
        ("pkcs11:object=release;id=%01", "pkcs11:object=a;type=public", "14:7: a key is selected by object and id, not by 'type'"),
        ("\"/usr/lib/softhsm/libsofthsm2.so\"", "\"libsofthsm2.so\"", "4:10: a path begins with '/'"),
        ("\"/etc/sigsh/hsm.pin\"", "\"~/pin\"", "6:12: a path begins with '/'"),
        ("\"/etc/sigsh/hsm.pin\"", "\"\"", "6:12: a path begins with '/'"),
        ("\"/etc/sigsh/release.pgp\"", "\"/a\\u0000b\"", "15:15: a path begins with '/'"),
        ("[\"/var/lib/sigsh/tokens\"]", "[\"/var\", \"tokens\"]", "8:17: a path begins with '/'"),
        ("SOFTHSM2_CONF =", "\"A=B\" =", "9:17: a variable is named by letters, digits and '_'"),
        ("\"/etc/sigsh/softhsm2.conf\"", "\"\\u0000\"", "9:33: a variable's value has no zero byte"),
        ("\"/etc/sigsh/softhsm2.conf\"", "1", "9:33: invalid type: integer `1`, expected a string"),
        ("\"/run/systemd/journal/socket\"", "\"socket\"", "28:11: a path begins with '/'"),
    ] {
        assert_eq!(GOOD.matches(from).count(), 1, "{from}");
        let to = to.replace("{FP}", fingerprint);
        let message = message.replace("{TOP}", TOP).replace("{TOKEN}", TOKEN).replace("{CLIENT}", CLIENT).replace("{KEY}", KEY);
        let message = message.replace("{INPUTS}", "which is not among the client's inputs");
        let message = message.replace("{LIMITS}", LIMITS).replace("{COUNT}", COUNT).replace("{RATE}", RATE);
        assert_eq!(parse(&GOOD.replace(from, &to)), Err(format!("/etc/sigsh.toml:{message}")), "{to}");
    }
}

/// What a key demands is complete, counted somewhere, and given by nobody who asks.
#[test]
fn a_demand_that_cannot_be_met_or_counted_is_told_with_its_place() {
    let (ca, path) = ("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", "\"/etc/sigsh/x\"");
    let endorsement = format!("endorsement = {{ ssh-ca = [\"{ca}\"] }}");
    let all =
        format!("endorsement = {{ ssh-ca = [\"{ca}\"], openpgp = {path}, mac-file = {path}, revoked = {path}, max-age = \"1h\" }}");
    let place = "the name of a host or fleet is 1 to 255 letters, digits, '.' and '-'";
    let fields = "`ssh-ca`, `openpgp`, `mac-file`, `revoked`, `max-age`";
    let lets_in = "this authority lets clients in: those who log in must not permit themselves anything";
    let fingerprint = "an ssh key is named by its fingerprint \"SHA256:…\", as ssh-keygen -l prints it";
    let host = "host = \"sign1.example.org\"\n";
    let client = format!("[client.ci]\nssh-ca = \"{ca}\"\nprincipals = [\"p\"]\nkeys = [\"release\"]\n[limits]");
    type Case<'a> = (&'a str, &'a str, (&'a str, &'a str), Result<(), String>);
    let second = |token: &str, uri: &str, certificate: &str| {
        let table = format!("token = \"{token}\"\nuri = \"pkcs11:{uri}\"\ncertificate = \"/etc/sigsh/{certificate}.pgp\"");
        format!("[key.dev]\n{table}\n[token.two]\nserver = \"/s\"\nuri = \"pkcs11:\"\npin-file = \"/p\"\n[limits]")
    };
    let same = "26:1: key 'dev' has the certificate, or token and uri, of key 'release', and not its demands";
    let [one, other, order, by_file] = [
        ("hsm", "id=%01;object=release", "dev"),
        ("two", "object=release;id=%01", "dev"),
        ("hsm", "object=dev", "dev"),
        ("two", "object=dev", "release"),
    ]
    .map(|(token, uri, certificate)| second(token, uri, certificate));
    let cases: [Case<'_>; 21] = [
        (host, &endorsement, ("", ""), Ok(())),
        // The same object under a second table.
        (host, &endorsement, ("[limits]", &one), Err(same.to_owned())),
        (host, &endorsement, ("[limits]", &by_file), Err(same.to_owned())),
        (host, &endorsement, ("[limits]", &other), Ok(())),
        (host, &endorsement, ("[limits]", &order), Ok(())),
        (host, "", ("[limits]", &one), Ok(())),
        (host, &all, ("", ""), Ok(())),
        (
            "",
            &endorsement,
            ("", ""),
            Err("12:1: key 'release' demands an endorsement or approvals, which name a 'host': say what this one is called"
                .to_owned()),
        ),
        ("host = \"\"\n", &endorsement, ("", ""), Err(format!("1:8: {place}"))),
        ("host = \"a b\"\n", &endorsement, ("", ""), Err(format!("1:8: {place}"))),
        ("host = \"a;max=9\"\n", &endorsement, ("", ""), Err(format!("1:8: {place}"))),
        ("fleet = \"a\\nb\"\n", "", ("", ""), Err(format!("1:9: {place}"))),
        (
            host,
            "endorsement = {}",
            ("", ""),
            Err("13:1: the endorsement of key 'release' needs 'ssh-ca', 'openpgp' or 'mac-file'".to_owned()),
        ),
        (
            host,
            "endorsement = { ssh-ca = [] }",
            ("", ""),
            Err("13:1: the endorsement of key 'release' needs 'ssh-ca', 'openpgp' or 'mac-file'".to_owned()),
        ),
        (host, "endorsement = { ca = [] }", ("", ""), Err(format!("16:17: unknown field `ca`, expected one of {fields}"))),
        (host, "endorsement = { ssh-ca = [\"x\"] }", ("", ""), Err(format!("16:27: {fingerprint}"))),
        (host, "endorsement = { openpgp = \"x\" }", ("", ""), Err("16:27: a path begins with '/'".to_owned())),
        (
            host,
            "endorsement = { max-age = \"31days\" }",
            ("", ""),
            Err("16:27: a time is between \"1s\" and \"30days\"".to_owned()),
        ),
        (
            host,
            &endorsement,
            ("sha512", "sha384"),
            Err("16:27: ssh-keygen signs what is hashed by sha256 or sha512, and the key's hash is sha384".to_owned()),
        ),
        (host, &endorsement, ("[limits]", &client), Err(format!("16:27: {lets_in}"))),
        (
            host,
            &endorsement,
            ("[audit]", "[audit]\nledger = false"),
            Err("13:1: key 'release' demands an endorsement or approvals, which are counted and kept in the ledger".to_owned()),
        ),
    ];
    for (top, table, (from, to), result) in cases {
        let text = GOOD.replace("certificate =", &format!("{table}\ncertificate ="));
        let text = if from.is_empty() { text } else { text.replace(from, to) };
        assert_eq!(parse(&format!("{top}{text}")), result.map_err(|error| format!("/etc/sigsh.toml:{error}")), "{top}{table}");
    }
}

#[test]
fn clients_may_share_a_key_where_something_tells_them_apart() {
    let two = |one: &str, other: &str| {
        let other = format!("[client.two]\n{OWN}keys = [\"release\"]\n{other}\n[limits]");
        parse(&GOOD.replace("require = [\"size\"]", one).replace("[limits]", &other))
    };
    let (here, there) = ("from = [\"192.0.2.0/24\"]", "from = [\"2001:db8::/32\"]");
    let (ci, dev) = ("unix-user = \"ci\"", "unix-user = \"dev\"");
    for (one, other) in [(here, there), (here, here), (ci, dev)] {
        assert_eq!(two(one, other), Ok(()), "{one} {other}");
    }
    for (one, other) in [("", ""), (here, ""), ("", there), (ci, ""), ("", dev), (ci, ci), (ci, there)] {
        let error = two(one, other).unwrap_err();
        assert!(error.ends_with(": this ssh key is already client 'build1'"), "{one} {other}: {error}");
    }
}

#[test]
fn mistakes_about_approvals_are_told_with_their_place() {
    const HASH: &str = "hash = \"sha512\"\n";
    const APPROVALS: &str = "approvals = { need = 2, approvers = \"/etc/sigsh/approvers\" }\n";
    const GLASS: &str = "break-glass = { need = 1, approvers = \"/etc/sigsh/break-glass\" }\n";
    const NEED: &str = "a number between 1 and 8 belongs here";
    const TABLE: &str = "expected one of `need`, `approvers`, `max-age`, `exclude-requester`, `user-verification`, `hardware-only`";
    const PERSON: &str = "a person is one principal, 1 to 64 of ASCII without blanks, '*', '?', '!', ',', '#', '\\' and quotes";
    let good = GOOD.replace(HASH, &format!("{HASH}{APPROVALS}{GLASS}"));
    let good = good.replace("\"signer\"\n", "\"signer\"\nhost = \"sign1.example.org\"\nfleet = \"release\"\n");
    assert_eq!(parse(&good), Ok(()));
    let all = "need = 8, max-age = \"1h\", exclude-requester = true, user-verification = true, hardware-only = false";
    let person = "person = \"alice@example.org\"\nmax-size =";
    assert_eq!(parse(&good.replace("need = 2", all).replace("max-size =", person)), Ok(()));
    for (from, to, message) in [
        ("need = 2", "need = 0", format!("19:22: {NEED}")),
        ("need = 2", "need = 9", format!("19:22: {NEED}")),
        ("need = 2", "need = -1", format!("19:22: {NEED}")),
        ("need = 2", "need = \"2\"", "19:22: invalid type: string \"2\", expected i64".to_owned()),
        ("need = 2, ", "", "19:13: missing field `need`".to_owned()),
        (", approvers = \"/etc/sigsh/approvers\"", "", "19:13: missing field `approvers`".to_owned()),
        ("\"/etc/sigsh/approvers\"", "\"approvers\"", "19:37: a path begins with '/'".to_owned()),
        ("need = 2", "needs = 2", format!("19:15: unknown field `needs`, {TABLE}")),
        ("need = 2", "need = 2, max-age = \"0s\"", "19:35: a time is between \"1s\" and \"30days\"".to_owned()),
        ("need = 2", "need = 2, hardware-only = 1", "19:41: invalid type: integer `1`, expected a boolean".to_owned()),
        ("need = 1", "need = 1, quorum = 2", format!("20:27: unknown field `quorum`, {TABLE}")),
        ("approvals = {", "approval = {", format!("19:1: unknown field `approval`, {KEY}")),
        ("/etc/sigsh/break-glass", "/etc/sigsh/approvers", "20:39: who breaks the glass stands in a list of his own".to_owned()),
        (APPROVALS, "", "14:1: key 'release' has a break-glass, and demands neither endorsement nor approvals".to_owned()),
        (
            "host = \"sign1.example.org\"\n",
            "",
            "13:1: key 'release' demands an endorsement or approvals, which name a 'host': say what this one is called".to_owned(),
        ),
        (
            "[audit]\n",
            "[audit]\nledger = false\n",
            "14:1: key 'release' demands an endorsement or approvals, which are counted and kept in the ledger".to_owned(),
        ),
        ("sign1.example.org", "sign1 ", "2:8: the name of a host or fleet is 1 to 255 letters, digits, '.' and '-'".to_owned()),
        ("\"release\"\n\n", "\"\"\n\n", "3:9: the name of a host or fleet is 1 to 255 letters, digits, '.' and '-'".to_owned()),
        ("max-size =", "person = \"\"\nmax-size =", format!("26:10: {PERSON}")),
        ("max-size =", "person = \"Alice Example\"\nmax-size =", format!("26:10: {PERSON}")),
        ("max-size =", "person = \"*@example.org\"\nmax-size =", format!("26:10: {PERSON}")),
    ] {
        assert_eq!(good.matches(from).count(), 1, "{from}");
        assert_eq!(parse(&good.replace(from, to)), Err(format!("/etc/sigsh.toml:{message}")), "{to}");
    }
}

/// The module may write what it names: one device, and nothing else.
#[test]
fn a_tpm_is_a_device() {
    let module = "module = \"/usr/lib/softhsm/libsofthsm2.so\"";
    let environment = "environment = { SOFTHSM2_CONF = \"/etc/sigsh/softhsm2.conf\" }";
    let with = |tcti: &str| {
        let tpm = GOOD
            .replace("\"softhsm\"", "\"tpm\"")
            .replace(environment, &format!("environment = {{ TPM2_PKCS11_TCTI = \"{tcti}\" }}"));
        assert!(tpm.contains(module) && tpm.contains(tcti));
        parse(&tpm)
    };
    for device in ["/dev/tpmrm0", "/dev/tpm0", "/dev/tpm/rm1"] {
        assert_eq!(with(&format!("device:{device}")), Ok(()));
    }
    for wrong in [
        "device:/",
        "device:/dev",
        "device:/dev/",
        "device:/dev/../etc",
        "device:/dev/x/../../etc",
        "device:/etc/x",
        "device:dev/tpm0",
        "device:",
        "/dev/tpmrm0",
        "device:/devices",
        "swtpm:path=/dev/tpm0",
        "cmd:/dev/tpm0",
    ] {
        let expected =
            "/etc/sigsh.toml:3:1: the sandbox 'tpm' needs a device in 'environment', TPM2_PKCS11_TCTI = \"device:/dev/tpmrm0\"";
        assert_eq!(with(wrong), Err(expected.to_owned()), "{wrong}");
    }
}

/// Who runs sigsh would have the key.
#[test]
fn a_server_has_an_account_of_its_own() {
    world();
    let (before, rest) = GOOD.split_once("module").unwrap();
    let (_, after) = rest.split_once("timeout").unwrap();
    let with = |account: &str| {
        let token = "uri = \"pkcs11:token=release\"\npin-file = \"/etc/sigsh/hsm.pin\"\n";
        parse(&format!("{before}server = \"/run/x\"\nserver-account = \"{account}\"\n{token}timeout{after}"))
    };
    let ours = account().0;
    assert_eq!([with("sigsh-token"), with(&(ours + 1).to_string())], [Ok(()), Ok(())]);
    let message = "5:18: the 'server-account' is not 'account', nor its uid: that is who must not have the key";
    for account in ["signer", &ours.to_string()] {
        assert_eq!(with(account), Err(format!("/etc/sigsh.toml:{message}")), "{account}");
    }
}

#[test]
fn what_the_whole_file_lacks_is_told_with_its_place() {
    world();
    let spare = format!("[key.spare]\ntoken = \"hsm\"\nuri = \"pkcs11:id=%01\"\ncertificate = \"/etc/sigsh/spare.pgp\"\n{GOOD}");
    for (source, message) in [
        (
            GOOD.replacen(
                "[key.release]",
                "[key.spare]\ntoken = \"hsm\"\nuri = \"pkcs11:id=%02\"\ncertificate = \"/c\"\n[key.release]",
                1,
            ),
            "12:1: no client may use key 'spare'",
        ),
        (GOOD.replace("keys = [\"release\"]", "keys = []"), "12:1: no client may use key 'release'"),
        (
            format!("{GOOD}[client.idle]\nssh-keys = []\nkeys = [\"release\"]\n"),
            "29:1: client 'idle' needs at least one ssh key and one key",
        ),
        (
            format!("{GOOD}[client.idle]\nssh-keys = [\"SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\"]\nkeys = []\n"),
            "29:1: client 'idle' needs at least one ssh key and one key",
        ),
    ] {
        let path = place("sigsh.toml");
        fs::write(&path, &source).unwrap();
        let reason = format!("{}:{message}", path.display());
        not_set_up(&Session::new(&path).client("build1").run(b""), &reason);
        // While a key is being made, it need not be in use yet.
        assert!(Config::for_admin(&path, false).is_ok());
        assert_eq!(Config::for_admin(&path, true).map(drop).map_err(|error| error.to_string()), Err(reason));
    }
    // A table before its place is one of the key's: TOML's own rule.
    assert_eq!(
        parse(&spare),
        Err(format!(
            "/etc/sigsh.toml:5:1: unknown field `account`, expected one of {}",
            "`token`, `uri`, `certificate`, `hash`, `endorsement`, `approvals`, `break-glass`"
        ))
    );
}

#[test]
fn the_shipped_example_is_right() {
    world();
    let source = fs::read_to_string("sshd/sigsh.toml").unwrap();
    let path = place("sigsh.toml");
    fs::write(&path, &source).unwrap();
    let clients = |config: &Config| config.clients().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    assert_eq!(clients(&Config::for_admin(&path, true).unwrap()), ["build1"]);
    // With all that can be switched on.
    let all = crate::docs::switched_on(&source);
    fs::write(&path, &all).unwrap();
    let config = Config::for_admin(&path, true).unwrap();
    assert_eq!(config.account, "signer");
    assert_eq!(config.keys().map(|(name, _)| name.to_string()).collect::<Vec<_>>(), ["development", "production", "release"]);
    assert_eq!(clients(&config), ["alice", "build1", "ci", "cron", "images", "publish", "rebuild"]);
    assert_eq!(fs::read_to_string("/usr/share/doc/sigsh/sigsh.toml").unwrap(), source);
    assert_eq!(DEFAULT, CONFIG);
    // What is left out has the value that stands there: the example tells the defaults.
    let bare = source.lines().filter(|line| {
        ![
            "require =",
            "max-size =",
            "inputs =",
            "request =",
            "idle =",
            "total =",
            "journal =",
            "ledger =",
            "state =",
            "timeout =",
            "hash =",
            "write =",
        ]
        .iter()
        .any(|field| line.starts_with(field))
    });
    let bare = bare.collect::<Vec<_>>().join("\n");
    let bare = Config::parse(Path::new("bare"), &bare).unwrap();
    assert_eq!(values(&bare), values(&Config::parse(Path::new("whole"), &source).unwrap()));
}

fn values(config: &Config) -> impl PartialEq + std::fmt::Debug + use<> {
    let rights =
        |client: &sigsh::config::Client| (client.max_size(), client.require.clone(), client.inputs().to_vec(), client.request());
    let clients = config.clients().map(|(_, client)| rights(client)).collect::<Vec<_>>();
    let token = |name: &str| config.key(name).map(|(_, _, token)| (token.timeout(), token.queue(), token.write.clone()));
    let tokens = config.keys().map(|(name, _)| token(name)).collect::<Vec<_>>();
    let keys = config.keys().map(|(_, key)| key.hash).collect::<Vec<_>>();
    let paths = (config.audit.journal().to_owned(), config.audit.ledger().map(Path::to_owned), config.audit.state().to_owned());
    let limits = &config.limits;
    let times = (limits.idle(), limits.total(), limits.throughput(), limits.sessions(), limits.refusals());
    (clients, tokens, keys, paths, times)
}

/// A path in a fresh directory of root's.
fn place(name: &str) -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let directory = PathBuf::from(format!("/etc/sigsh/place{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&directory).unwrap();
    mode(&directory, 0o755);
    directory.join(name)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn owner(path: &Path, user: u32) {
    chown(path, Some(user), None).unwrap();
}

/// The session ended with this reason, and the client learns nothing of it.
#[track_caller]
fn not_set_up(outcome: &Outcome, reason: &str) {
    token_not_set_up(outcome, reason);
    assert_eq!(outcome.records.len(), 1, "{outcome:#?}");
}

/// The same where the token process finds it out, while the hasher is at work: the intent may have been recorded by then.
#[track_caller]
fn token_not_set_up(outcome: &Outcome, reason: &str) {
    outcome.fails(78, NOT_SET_UP, "refused", reason);
    assert_eq!(field(outcome.records.last().unwrap(), "SIGSH_REASON"), reason);
}

/// What can be wrong with a file, what must be said then (`{}` is its path, `{parent}` its directory), and how to get there.
type Flaw = (&'static str, fn(&Path));

/// Flaws of any trusted file.
const FLAWS: [Flaw; 9] = [
    ("{} is writable by group or others (mode 664)", |file| mode(file, 0o664)),
    ("{} is writable by group or others (mode 646)", |file| mode(file, 0o646)),
    ("{} belongs to user 65534; it must belong to root, or to the user that sigsh runs as", |file| owner(file, NOBODY)),
    ("{} is a symbolic link", |file| {
        fs::rename(file, file.with_extension("real")).unwrap();
        symlink(file.with_extension("real"), file).unwrap();
    }),
    ("{} is not a regular file", |file| {
        fs::remove_file(file).unwrap();
        succeed(Command::new("mkfifo").arg(file));
    }),
    ("{parent} is writable by group or others (mode 775)", |file| mode(file.parent().unwrap(), 0o775)),
    // The sticky bit lets nobody rename the files of others, but anybody put one there first.
    ("{parent} is writable by group or others (mode 777)", |file| mode(file.parent().unwrap(), 0o1777)),
    ("{parent} belongs to user 65534; it must belong to root, or to the user that sigsh runs as", |file| {
        owner(file.parent().unwrap(), NOBODY)
    }),
    ("{parent} is writable by group or others (mode 722)", |file| {
        // A link on the way is followed, and what is behind it is looked at.
        let (parent, real) = (file.parent().unwrap(), file.parent().unwrap().with_extension("real"));
        fs::rename(parent, &real).unwrap();
        symlink(&real, parent).unwrap();
        mode(&real, 0o722);
    }),
];

fn expected(message: &str, file: &Path) -> String {
    let parent = file.parent().unwrap().canonicalize().unwrap();
    message.replace("{parent}", parent.to_str().unwrap()).replace("{}", file.to_str().unwrap())
}

#[test]
fn a_configuration_that_others_could_write_is_not_read() {
    world();
    let session = |path: &Path| Session::new(path).client("build1").request("sign ed25519").run(b"data");
    for (message, spoil) in FLAWS {
        let file = place("sigsh.toml");
        fs::write(&file, configuration()).unwrap();
        verify("ed25519", session(&file).signature(), b"data");
        spoil(&file);
        not_set_up(&session(&file), &expected(message, &file));
    }
    let other: [Flaw; 5] = [
        ("cannot open {}: no such file or directory", |file| fs::remove_file(file).unwrap()),
        ("cannot open {}: permission denied", |file| mode(file, 0o600)),
        ("cannot read {}: it is larger than 1048576 bytes", |file| fs::write(file, vec![b'\n'; (1 << 20) + 1]).unwrap()),
        ("{}:1:1: the file is not UTF-8 (byte 3)", |file| fs::write(file, b"abc\xff").unwrap()),
        ("{parent} is writable by group or others (mode 757)", |file| {
            // Two levels up counts as well.
            let parent = file.parent().unwrap();
            mode(parent, 0o757);
        }),
    ];
    for (message, spoil) in other {
        let file = place("sigsh.toml");
        fs::write(&file, configuration()).unwrap();
        spoil(&file);
        not_set_up(&session(&file), &expected(message, &file));
    }
    // A directory above the directory counts as well.
    let file = place("below").join("sigsh.toml");
    fs::create_dir(file.parent().unwrap()).unwrap();
    fs::write(&file, configuration()).unwrap();
    let above = file.parent().unwrap().parent().unwrap();
    mode(above, 0o777);
    not_set_up(&session(&file), &format!("{} is writable by group or others (mode 777)", above.display()));

    not_set_up(&session(Path::new("sigsh.toml")), "sigsh.toml is not an absolute path");
    // For trying sigsh out: the account's own.
    let file = place("sigsh.toml");
    account_file(file.to_str().unwrap(), configuration().as_bytes());
    owner(file.parent().unwrap(), account().0);
    verify("ed25519", session(&file).signature(), b"data");
}

/// A session under a configuration that names `file` in place of `from`, to whose table `more` is added.
fn session_with(from: &str, file: &Path) -> Outcome {
    Session::new(changed(&[(from, file.to_str().unwrap())])).client("limited").run(b"data")
}

#[test]
fn a_pin_that_others_could_write_or_read_is_not_used() {
    world();
    for (message, spoil) in FLAWS {
        let file = place("hsm.pin");
        secret(file.to_str().unwrap(), PIN);
        spoil(&file);
        token_not_set_up(&session_with(PIN_FILE, &file), &expected(message, &file));
    }
    for (bits, shown) in [(0o644, "644"), (0o641, "641")] {
        let file = place("hsm.pin");
        secret(file.to_str().unwrap(), PIN);
        mode(&file, bits);
        token_not_set_up(&session_with(PIN_FILE, &file), &format!("{} is readable by others (mode {shown})", file.display()));
    }
    let missing = place("hsm.pin");
    let reason = format!("cannot open {}: no such file or directory", missing.display());
    session_with(PIN_FILE, &missing).fails(69, "the token failed", "failed", &reason);
    for nothing in ["", "\n4711\n"] {
        let file = place("hsm.pin");
        secret(file.to_str().unwrap(), nothing);
        session_with(PIN_FILE, &file).fails(69, "the token failed", "failed", "the PIN file holds no PIN on its first line");
    }
}

#[test]
fn a_certificate_that_others_could_write_is_not_used() {
    world();
    for (message, spoil) in FLAWS {
        let file = place("ed25519.pgp");
        fs::copy("/etc/sigsh/ed25519.pgp", &file).unwrap();
        spoil(&file);
        not_set_up(&session_with("/etc/sigsh/ed25519.pgp", &file), &expected(message, &file));
    }
}

#[test]
fn a_module_that_others_could_write_is_not_loaded() {
    world();
    let real = "/usr/lib/softhsm/libsofthsm2.so";
    // The loader opens the module by its name, so a link may stand for it, as those of p11-kit do.
    let link = place("module.so");
    symlink(real, &link).unwrap();
    verify("ed25519", session_with(real, &link).signature(), b"data");
    mode(link.parent().unwrap(), 0o777);
    let parent = link.parent().unwrap().display();
    token_not_set_up(&session_with(real, &link), &format!("{parent} is writable by group or others (mode 777)"));

    for (message, spoil) in FLAWS {
        if message == "{} is a symbolic link" {
            continue;
        }
        let file = place("module.so");
        fs::copy(real, &file).unwrap();
        spoil(&file);
        token_not_set_up(&session_with(real, &file), &expected(message, &file));
        // Behind a link in a good directory it is found out as well.
        let link = place("module.so");
        symlink(&file, &link).unwrap();
        let reason = field(session_with(real, &link).records.last().unwrap(), "SIGSH_REASON").to_owned();
        let named = expected(message, &file);
        assert!(reason == named || reason == named.replace(file.to_str().unwrap(), link.to_str().unwrap()), "{reason}");
    }
}

#[test]
fn the_state_directory_is_the_accounts_alone() {
    world();
    let ours = "it must belong to the user that sigsh runs as";
    let session = |directory: &Path| {
        // The lock is there: who has another state directory has another ledger.
        let state = format!("[audit]\nledger = false\nstate = \"{}\"\n", directory.display());
        Session::new(changed(&[("[audit]\n", &state)])).client("limited").run(b"data")
    };
    let make = || {
        let directory = place("state");
        fs::create_dir(&directory).unwrap();
        mode(&directory, 0o700);
        owner(&directory, account().0);
        directory
    };
    verify("ed25519", session(&make()).signature(), b"data");
    let flaws: [Flaw; 6] = [
        ("{} is readable by others (mode 750)", |it| mode(it, 0o750)),
        ("{} is readable by others (mode 701)", |it| mode(it, 0o701)),
        ("{} belongs to user 65534; {ours}", |it| owner(it, NOBODY)),
        ("{} belongs to user 0; {ours}", |it| owner(it, 0)),
        ("{parent} is writable by group or others (mode 777)", |it| mode(it.parent().unwrap(), 0o777)),
        ("{} is not a directory", |it| {
            fs::rename(it, it.with_extension("real")).unwrap();
            symlink(it.with_extension("real"), it).unwrap();
        }),
    ];
    for (message, spoil) in flaws {
        let directory = make();
        spoil(&directory);
        token_not_set_up(&session(&directory), &expected(message, &directory).replace("{ours}", ours));
    }
}

#[test]
fn root_is_refused() {
    world();
    let auth = format!("{}/auth", scratch());
    fs::copy(user_auth("limited"), &auth).unwrap();
    mode(Path::new(&auth), 0o600);
    for arguments in [&[][..], &["--config", CONFIG], &["-c", "sign ed25519"]] {
        let mut command = Command::new("/usr/bin/sigsh");
        command.args(arguments).env_clear().env("SSH_USER_AUTH", &auth);
        not_set_up(&finish(command, b"data"), "sigsh runs as root; it belongs under the account that the configuration names");
    }
}
