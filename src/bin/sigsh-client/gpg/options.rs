//! GnuPG's options: which there are, what they are also called, and which take an argument.
//!
//! One word is one option: its names with commas between them, of one letter where it can be bundled (`-bsau KEY`). The tables hold
//! what gpg 2.2.40, 2.4.8 and 2.5.12 know, so that a call which one of them would take is not refused here.

/// Commands: one of them says what to do.
const COMMANDS: &str = "
    sign,s clear-sign,clearsign detach-sign,b encrypt,e encrypt-files symmetric,c store decrypt,d decrypt-files verify
    verify-files add-recipients change-recipients list-keys,list-public-keys,list-key,k list-signatures,list-sigs,list-sig
    check-signatures,check-sigs,check-sig fingerprint list-secret-keys,K generate-key,gen-key quick-generate-key,quick-gen-key
    quick-add-uid,quick-adduid quick-add-key,quick-addkey quick-add-adsk quick-revoke-uid,quick-revuid quick-set-expire
    quick-set-primary-uid quick-update-pref quick-set-ownertrust full-generate-key,full-gen-key generate-revocation,gen-revoke
    delete-keys delete-secret-keys quick-sign-key quick-lsign-key quick-tsign-key quick-revoke-sig sign-key lsign-key
    edit-key,key-edit change-passphrase,passwd generate-designated-revocation,desig-revoke export send-keys
    receive-keys,recv-keys search-keys refresh-keys locate-keys locate-external-keys fetch-keys show-keys,show-key
    export-secret-keys export-secret-subkeys export-ssh-key export-secret-ssh-key import fast-import card-status
    edit-card,card-edit change-pin list-config list-gcrypt-config gpgconf-list gpgconf-test list-packets export-ownertrust
    import-ownertrust update-trustdb check-trustdb fix-trustdb list-trustdb dearmor,dearmour enarmor,enarmour print-md
    print-mds gen-prime gen-random server tofu-policy delete-secret-and-public-keys rebuild-keydb-caches help version warranty
    dump-option-table dump-options
";

/// Options without an argument.
const FLAGS: &str = "
    verbose,v no-verbose quiet,q no-tty no-greeting debug-all debug-iolbf no-options log-time no-encrypt-to
    encrypt-to-default-key default-recipient-self no-default-recipient no-groups gnupg,no-pgp2,no-pgp6,no-pgp7,no-pgp8 rfc2440
    rfc4880 openpgp pgp6,pgp7 pgp8 always-trust exit-on-status-write-error enable-progress-filter expert no-expert
    no-secmem-warning require-secmem no-require-secmem no-permission-warning dry-run,n interactive,i ask-sig-expire
    no-ask-sig-expire ask-cert-expire no-ask-cert-expire ask-cert-level no-ask-cert-level only-sign-text-ids enable-large-rsa
    disable-large-rsa enable-dsa2 disable-dsa2 no-expensive-trust-checks allow-non-selfsigned-uid no-allow-non-selfsigned-uid
    allow-freeform-uid no-allow-freeform-uid preserve-permissions lock-once lock-multiple lock-never no-compress
    bzip2-decompress-lowmem auto-check-trustdb no-auto-check-trustdb no-auto-trust-new-key multifile utf8-strings
    no-utf8-strings no-literal armor,armour,a no-armor,no-armour default-comment no-comments emit-version
    no-emit-version,no-version not-dash-escaped escape-from-lines no-escape-from-lines mimemode t textmode no-textmode
    for-your-eyes-only no-for-your-eyes-only show-notation no-show-notation show-session-key show-only-session-key
    use-embedded-filename no-use-embedded-filename unwrap mangle-dos-filenames no-mangle-dos-filenames no-symkey-cache
    skip-verify list-only disable-signer-uid no-auto-key-locate auto-key-import no-auto-key-import auto-key-retrieve
    no-auto-key-retrieve auto-key-upload no-auto-key-upload include-key-block no-include-key-block disable-dirmngr merge-only
    allow-secret-key-import full-timestrings show-photos no-show-photos show-policy-url no-show-policy-url with-colons
    with-tofu-info with-key-data with-sig-list with-sig-check with-v5-fingerprint with-fingerprint
    with-subkey-fingerprint,with-subkey-fingerprints without-subkey-fingerprint with-icao-spelling with-keygrip
    with-key-screening with-secret with-wkd-hash with-key-origin fast-list-mode fixed-list-mode legacy-list-mode
    print-dane-records show-keyring throw-keyids no-throw-keyids try-all-secrets no-default-keyring no-keyring
    skip-hidden-recipients no-skip-hidden-recipients force-ocb,force-aead require-backsigs,require-cross-certification
    no-require-backsigs,no-require-cross-certification allow-weak-key-signatures allow-weak-digest-algos
    allow-old-cipher-algos no-random-seed-file no-sig-cache ignore-time-conflict ignore-valid-from ignore-crc-error
    ignore-mdc-error require-pqc-encryption disable-pqc-encryption batch no-batch proc-all-sigs yes no force-sign-key
    enable-special-filenames disable-fd-translation no-autostart use-keyboxd forbid-gen-key require-compliance
    use-only-openpgp-card rfc2440-text no-rfc2440-text debug-quick-random debug-ignore-expiration use-agent no-use-agent
    disable-ccid honor-http-proxy strict no-strict load-extension
    sk-comments,no-sk-comments,compress-keys,compress-sigs,force-v3-sigs,no-force-v3-sigs,force-v4-certs,no-force-v4-certs,no-mdc-warning,force-mdc,no-force-mdc,disable-mdc,no-disable-mdc,allow-multisig-verification,allow-multiple-messages,no-allow-multiple-messages,rfc4880bis,override-compliance-check
    print-pka-records
";

/// Options with an argument.
const VALUES: &str = "
    debug debug-level debug-set-iobuf-size debug-allow-large-chunks display-charset,charset options logger-fd
    log-file,logger-file homedir faked-system-time default-key encrypt-to hidden-encrypt-to default-recipient group ungroup
    compliance default-new-key-algo default-new-key-adsk min-rsa-length trust-model photo-viewer known-notation agent-program
    keyboxd-program dirmngr-program limit-card-insert-tries temp-directory exec-path default-sig-expire default-cert-expire
    default-cert-level,default-cert-check-level min-cert-level personal-cipher-preferences,personal-cipher-prefs
    personal-digest-preferences,personal-digest-prefs personal-compress-preferences,personal-compress-prefs
    default-preference-list default-keyserver-url tofu-default-policy compress-algo,compression-algo completes-needed
    marginals-needed max-cert-depth trustdb-name force-ownertrust add-desig-revoker assert-signer assert-pubkey-algo
    input-size-hint set-filesize set-notation,N sig-notation cert-notation set-policy-url sig-policy-url cert-policy-url
    sig-keyserver-url output,o max-output comment set-filename chunk-size z compress-level bzip2-compress-level
    auto-key-locate keyserver keyserver-options key-origin import-options import-filter export-options export-filter
    list-options list-filter keyid-format recipient,remote-user,user,r hidden-recipient,R recipient-file,f
    hidden-recipient-file,F local-user,sign-with,u trusted-key sender try-secret-key keyring primary-keyring secret-keyring
    override-session-key override-session-key-fd s2k-mode s2k-digest-algo s2k-cipher-algo s2k-count weak-digest verify-options
    disable-cipher-algo disable-pubkey-algo cipher-algo digest-algo cert-digest-algo status-fd status-file attribute-fd
    attribute-file command-fd command-file passphrase-fd passphrase-file passphrase-repeat pinentry-mode request-origin
    display ttyname ttytype lc-ctype lc-messages xauthority chuid compatibility-flags kbx-buffer-size gpg-agent-info
    reader-port ctapi-driver pcsc-driver tofu-db-format aead-algo,personal-aead-preferences
";

/// Options whose argument may be left out.
const OPTIONALS: &str = "passphrase";

/// What follows an option's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arity {
    /// Nothing.
    None,
    /// An argument.
    One,
    /// An argument, if there is one that does not look like an option.
    Optional,
}

/// An option that gpg knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The first of its names, by which it is known here.
    pub(crate) name: &'static str,
    /// What follows it.
    pub(crate) arity: Arity,
    /// It says what to do, as `--verify` does.
    pub(crate) command: bool,
    names: &'static str,
}

impl Known {
    /// All its names; those of one byte are letters.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        self.names.split(',')
    }

    fn has(self, name: &[u8]) -> bool {
        self.names().any(|it| it.as_bytes() == name)
    }
}

/// What a name may turn out to be when it is no option's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// No option begins so.
    Unknown,
    /// Several options begin so.
    Ambiguous,
}

/// Every option.
pub(crate) fn all() -> impl Iterator<Item = Known> {
    let tables = [
        (COMMANDS, Arity::None, true),
        (FLAGS, Arity::None, false),
        (VALUES, Arity::One, false),
        (OPTIONALS, Arity::Optional, false),
    ];
    tables.into_iter().flat_map(|(table, arity, command)| {
        let known = move |names: &'static str| Known { name: names.split(',').next().unwrap_or(names), arity, command, names };
        table.split_ascii_whitespace().map(known)
    })
}

/// The option of this letter.
pub(crate) fn short(letter: u8) -> Option<Known> {
    all().find(|it| it.has(&[letter]))
}

/// The option of this name, or the only one with a name that begins so. Two names of one option are no ambiguity.
pub(crate) fn long(name: &[u8]) -> Result<Known, Lost> {
    if let Some(exact) = all().find(|it| name.len() > 1 && it.has(name)) {
        return Ok(exact);
    }
    let begins = |it: &Known| !name.is_empty() && it.names().any(|long| long.len() > 1 && long.as_bytes().starts_with(name));
    let mut found = all().filter(begins);
    match (found.next(), found.next()) {
        (None, _) => Err(Lost::Unknown),
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => Err(Lost::Ambiguous),
    }
}

#[cfg(test)]
mod tests {
    use super::{Arity, Lost, all, long, short};
    use std::collections::HashMap;
    use std::process::Command;

    /// argparse.h of libgpg-error: the type of an argument, that it may be left out, that the option is a heading.
    const TYPE: u32 = 7;
    const OPTIONAL: u32 = 8;
    const HEADING: u32 = 512;

    #[test]
    fn every_option_of_the_gpg_here_is_known_with_its_letter_and_arity() {
        let dump = Command::new("gpg").arg("--dump-option-table").output().unwrap();
        let mut aliases = HashMap::new();
        let mut rows = 0;
        for line in String::from_utf8(dump.stdout).unwrap().lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let (name, code, flags) = (fields[0], fields[1].parse::<u32>().unwrap(), fields[2].parse::<u32>().unwrap());
            if flags & HEADING != 0 {
                continue;
            }
            let known = long(name.as_bytes()).unwrap_or_else(|lost| panic!("--{name}: {lost:?}"));
            assert!(known.names().any(|it| it == name), "--{name} is known as an abbreviation only");
            let arity = match (flags & TYPE, flags & OPTIONAL) {
                (0, _) => Arity::None,
                (_, 0) => Arity::One,
                _ => Arity::Optional,
            };
            assert_eq!(known.arity, arity, "--{name}");
            if let Some(letter) = u8::try_from(code).ok().filter(u8::is_ascii_graphic) {
                assert_eq!(short(letter), Some(known), "--{name}");
            }
            assert_eq!(*aliases.entry((code, flags)).or_insert(known), known, "--{name} is another option's alias in gpg");
            rows += 1;
        }
        assert!(rows > 380, "{rows} options");
    }

    #[test]
    fn no_name_stands_twice() {
        let mut seen = HashMap::new();
        for known in all() {
            for name in known.names() {
                assert_eq!(seen.insert(name, known.name), None, "{name}");
            }
        }
    }

    #[test]
    fn names_are_abbreviated_as_in_gpg() {
        for (given, meant) in [
            ("detach-sign", Ok("detach-sign")),
            ("detach-sig", Ok("detach-sign")),
            ("detach", Ok("detach-sign")),
            ("clear", Ok("clear-sign")),
            ("clearsign", Ok("clear-sign")),
            ("sign", Ok("sign")),
            ("arm", Ok("armor")),
            ("armour", Ok("armor")),
            ("list-secret-key", Ok("list-secret-keys")),
            ("list-pub", Ok("list-keys")),
            ("out", Ok("output")),
            ("text", Ok("textmode")),
            ("force-v", Ok("sk-comments")),
            ("list", Err(Lost::Ambiguous)),
            ("status", Err(Lost::Ambiguous)),
            ("s", Err(Lost::Ambiguous)),
            ("local-users", Err(Lost::Unknown)),
            ("t", Err(Lost::Ambiguous)),
            ("z", Err(Lost::Unknown)),
            ("", Err(Lost::Unknown)),
        ] {
            assert_eq!(long(given.as_bytes()).map(|known| known.name), meant, "--{given}");
        }
    }
}
