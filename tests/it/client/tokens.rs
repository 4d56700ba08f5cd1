//! Two keys in two tokens. The module's path is for tests/tokens.sh, which runs these tests, and leaves out those whose token is not there.

mod kryoptic {
    use crate::batch::signatures;
    use crate::client::BuildServer;
    use crate::tokens::Key;
    use crate::tokens::archive;
    use crate::tokens::kryoptic::{RFC9980, modern, prepared};
    use crate::world::{HOME, Outcome, finish, ssh_key, verify, verify_file};
    use std::fs;

    /// One artifact, an RSA key of version 4 in one token and a post-quantum key of version 6 in another, each with its own hash.
    #[test]
    #[ignore = "Kryoptic takes ten minutes to build: just tokens"]
    fn legacy_and_modern_in_one_pass() {
        let (lab, _) = prepared("kryoptic-two", vec![Key { hash: "sha256", ..modern("mldsa65-ed25519") }]);
        let certificate = "/etc/sigsh/mldsa.pgp";
        fs::copy("/etc/sigsh/kryoptic-two-mldsa65-ed25519.pgp", certificate).unwrap();
        let table = format!(
            "keys = [\"rsa4096\", \"mldsa\"]\ninputs = [\"artifact\", \"tar\", \"state\"]\n[token.two]\npin-file = \"{}\"\n{}\
             [key.mldsa]\ntoken = \"two\"\nuri = \"{}\"\nhash = \"sha256\"\ncertificate = \"{certificate}\"",
            "/etc/sigsh/kryoptic-two.pin", lab.table, lab.keys[0].uri
        );
        let server = BuildServer::admitted("both", &table, &["rsa4096", "mldsa"], "");
        let well = |outcome: Outcome| assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:?}");
        let both = ["-k", "rsa4096", "-k", "mldsa"];
        let names = ["one", "two"];
        for name in names {
            server.write(name, format!("content of {name}"));
        }
        for (first, more) in [(&["one"][..], ""), (&names, "-a"), (&["one"], "--text")] {
            well(server.run(
                &[&["sign", "--force"], &both[..], more.split_terminator(' ').collect::<Vec<_>>().as_slice(), first].concat(),
                b"",
            ));
            for name in first {
                let end = if more == "-a" { "asc" } else { "sig" };
                let data = server.read(name);
                verify_file("rsa4096", &server.path(&format!("{name}.rsa4096.{end}")), &server.path(name));
                (RFC9980.detached)(certificate, &server.read(&format!("{name}.mldsa.{end}")), &data);
            }
            well(Outcome { out: vec![], ..server.run(&[&["verify"], &both[..], first].concat(), b"") });
        }
        server.write("one", "another content");
        let outcome = server.run(&[&["verify"], &both[..], &["one"]].concat(), b"");
        assert_eq!((outcome.code, outcome.err.lines().count()), (Some(65), 4), "{outcome:?}");

        let (files, archive) = archive();
        let ssh = ["-F", &format!("{HOME}/ssh_config"), "-i", &ssh_key("both"), "signer@127.0.0.1", "sign-tar rsa4096 mldsa"];
        let outcome = finish(server.program("ssh", &ssh), &archive);
        assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""), "{outcome:#?}");
        let found = signatures(&outcome.out);
        assert_eq!(found.len(), 2 * files.len());
        let of = |name: &str| &found.iter().find(|(found, _)| *found == name.as_bytes()).unwrap().1;
        verify("rsa4096", of("7.rsa4096.sig"), &files[7]);
        (RFC9980.detached)(certificate, of("7.mldsa.sig"), &files[7]);
    }
}
