//! Completions, as shells take them.

use super::BuildServer;
use crate::world::succeed;

#[test]
fn bash_completes_commands_and_options() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    let script = "set -eu; source <(sigsh-client completions bash); complete -p sigsh-client >&2\n\
        try() { COMP_WORDS=(sigsh-client \"$@\"); COMP_CWORD=$#; _sigsh__client sigsh-client \"${!#}\" \"${COMP_WORDS[$# - 1]}\"\n\
        echo \"${COMPREPLY[@]}\"; }; try ver; try setup re; try sign --cl; try end; try approve --br; try completions ''";
    let output = succeed(&mut server.program("bash", &["-c", script]));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().collect::<Vec<_>>();
    assert_eq!(lines[..5], ["verify", "reprepro", "--cleartext", "endorse", "--break-glass"]);
    assert!(lines[5].ends_with("bash zsh fish"), "{text}");
}

#[test]
fn other_shells_have_theirs() {
    let server = BuildServer::new("build1", &["ed25519"], "");
    for (shell, begin, line) in
        [("zsh", "#compdef sigsh-client\n", "'verify:"), ("fish", "# Print an optspec", "complete -c sigsh-client -n \"__fish_")]
    {
        let text = String::from_utf8(server.run(&["completions", shell], b"").out).unwrap();
        assert!(text.starts_with(begin) && text.contains(line), "{text}");
    }
    assert_eq!(server.run(&["completions", "tcsh"], b"").code, Some(64));
}
