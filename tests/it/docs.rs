//! The documentation says what is there, all of it and nothing else.

use crate::world::{scratch, succeed};
use sigsh::config::Config;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PAGES: [&str; 5] = ["sigsh.8", "sigsh.toml.5", "sigsh-admin.8", "sigsh-client.1", "sigsh-client.toml.5"];

#[test]
fn man_pages_build_and_render_without_a_warning() {
    let directory = scratch();
    let built = fs::read_dir(checkout("docs/man")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(built.collect::<BTreeSet<_>>(), PAGES.iter().map(|page| format!("{page}.md")).collect());
    for page in PAGES {
        let path = format!("{directory}/{page}");
        succeed(
            Command::new("pandoc")
                .args(["--standalone", "--fail-if-warnings", "--to", "man", "--output", &path])
                .arg(checkout("docs/man").join(format!("{page}.md"))),
        );
        let mut man = Command::new("man");
        man.args(["--warnings", "-l", &path]).env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8").env("MANPAGER", "cat");
        let output = succeed(&mut man);
        let (text, warnings) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(warnings, "", "{page}");
        assert!(text.contains("SEE ALSO") && text.contains(&format!("sigsh {}", env!("CARGO_PKG_VERSION"))), "{page}: {text}");
        // Markdown that pandoc took for text.
        assert!(!text.contains("**") && !text.contains("\\_"), "{page}: {text}");
    }
}

/// The example with what stands behind a '#' without a blank.
pub fn switched_on(example: &str) -> String {
    let line = |line: &str| line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c != ' ')).unwrap_or(line).to_owned();
    example.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

#[test]
fn every_field_of_the_configuration_is_explained_and_in_the_example() {
    let page = read("docs/man/sigsh.toml.5.md");
    let explained = page
        .split("\n# ")
        .filter_map(|section| {
            let (title, text) = section.split_once('\n')?;
            let table = title.trim_start_matches("\\[").split(['.', '\\']).next()?;
            let fields = text.lines().filter_map(|line| line.strip_prefix("**")?.split_once("** = ").map(|(field, _)| field));
            let table = if table == "TOP LEVEL" { "" } else { table };
            Some(fields.map(|field| (table.to_owned(), field.to_owned())).collect::<Vec<_>>())
        })
        .flatten()
        .collect::<BTreeSet<_>>();

    let example: toml::Table = toml::from_str(&switched_on(&read("sshd/sigsh.toml"))).unwrap();
    let mut shown = BTreeSet::new();
    for (name, value) in &example {
        match (name.as_str(), value) {
            ("token" | "key" | "client", toml::Value::Table(named)) => {
                let fields = named.values().flat_map(|table| table.as_table().unwrap().keys());
                shown.extend(fields.map(|field| (name.clone(), field.clone())));
            }
            (_, toml::Value::Table(fields)) => shown.extend(fields.keys().map(|field| (name.clone(), field.clone()))),
            _ => drop(shown.insert((String::new(), name.clone()))),
        }
    }

    // What a misspelt field is told.
    let mut understood = BTreeSet::new();
    for (table, header) in [
        ("token", "[token.x]"),
        ("key", "[key.x]"),
        ("client", "[client.x]"),
        ("limits", "[limits]"),
        ("audit", "[audit]"),
        ("", ""),
    ] {
        let error = Config::parse(Path::new("/x"), &format!("{header}\nmisspelt = 1\n")).unwrap_err().to_string();
        let fields = error.split_once("expected ").unwrap_or_else(|| panic!("{error}")).1.split('`').skip(1).step_by(2);
        let tables = ["token", "key", "client", "limits", "audit"];
        understood.extend(
            fields.filter(|field| !(table.is_empty() && tables.contains(field))).map(|field| (table.to_owned(), field.to_owned())),
        );
    }
    assert_eq!(explained, understood);
    assert_eq!(shown, understood);
}

#[test]
fn the_examples_are_configurations() {
    Config::parse(Path::new("/sigsh.toml"), &read("sshd/sigsh.toml")).unwrap();
    let page = read("docs/man/sigsh.toml.5.md");
    let example = page.split_once("```toml\n").unwrap().1.split_once("```\n").unwrap().0;
    let config = Config::parse(Path::new("/sigsh.toml"), example).unwrap();
    assert!(config.key("release").is_some());
}

#[test]
fn every_exit_code_is_explained() {
    let source = read("src/failure.rs");
    let names = source.split_once("pub enum Exit {").unwrap().1.split_once('}').unwrap().0;
    let mut codes: BTreeSet<u8> =
        names.lines().filter_map(|line| line.split_once(" = ")?.1.strip_suffix(',')?.parse().ok()).collect();
    assert_eq!(codes.len(), 8, "{names}");
    codes.insert(0);
    let readme = read("README.md");
    let table = readme.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()?.parse().ok());
    assert_eq!(table.collect::<BTreeSet<u8>>(), codes, "README.md");
    let page = read("docs/man/sigsh.8.md");
    let section = page.split_once("# EXIT STATUS").unwrap().1.split_once("\n# ").unwrap().0;
    let terms = section.lines().filter_map(|line| line.strip_prefix("**")?.strip_suffix("**")?.parse().ok());
    assert_eq!(terms.collect::<BTreeSet<u8>>(), codes, "sigsh(8)");
}

/// The client's fields, by what a misspelt one is told, in the manual and in its example.
#[test]
fn every_field_of_the_clients_configuration_is_explained() {
    let page = read("docs/man/sigsh-client.toml.5.md");
    let (top, key) = page.split_once("\n# \\[key.NAME").unwrap();
    let explained = |text: &str| {
        let fields =
            text.lines().filter_map(|line| line.strip_prefix("**")?.split_once("** = ").map(|(field, _)| field.to_owned()));
        fields.collect::<BTreeSet<_>>()
    };
    let directory = scratch();
    let understood = |text: &str| {
        fs::write(format!("{directory}/client.toml"), text).unwrap();
        let mut client = Command::new(env!("CARGO_BIN_EXE_sigsh-client"));
        let output = client.args(["--config", &format!("{directory}/client.toml"), "verify", "f"]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        let fields = error.split_once("expected ").unwrap_or_else(|| panic!("{error}")).1.split('`').skip(1).step_by(2);
        fields.filter(|field| *field != "key").map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let example = page.split_once("```toml\n").unwrap().1.split_once("```\n").unwrap().0;
    let example: toml::Table = toml::from_str(example).unwrap();
    let shown = |table: &toml::Table| table.keys().filter(|field| *field != "key").cloned().collect::<BTreeSet<_>>();
    let keys = example["key"].as_table().unwrap()["release"].as_table().unwrap();
    for (text, source, table) in [(top, "misspelt = 1\n", &example), (key, "[key.x]\nmisspelt = 1\n", keys)] {
        assert_eq!((explained(text), shown(table)), (understood(source), understood(source)), "{source}");
    }
    // As it stands, but for files that are not there.
    fs::write(format!("{directory}/client.toml"), toml_of(&page)).unwrap();
    let mut client = Command::new(env!("CARGO_BIN_EXE_sigsh-client"));
    let output = client.args(["--config", &format!("{directory}/client.toml"), "verify", "f"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("sigsh-client: error: cannot open /etc/sigsh/"), "{error}");
}

fn toml_of(page: &str) -> &str {
    page.split_once("```toml\n").unwrap().1.split_once("```\n").unwrap().0
}

/// Its own, and those that a host hands on.
#[test]
fn every_exit_code_of_the_client_is_explained() {
    let codes = |text: &str| {
        let words = text.split(|c: char| !c.is_ascii_digit());
        words
            .filter(|word| word.len() == 2)
            .filter_map(|word| word.parse().ok())
            .filter(|code| (64..=78).contains(code))
            .collect::<BTreeSet<u8>>()
    };
    let errors = read("src/bin/sigsh-client/error.rs");
    let own = codes(errors.split_once("fn code(").unwrap().1.split_once("\n    }").unwrap().0);
    assert!(own.len() > 7, "{own:?}");
    let hosts = read("src/failure.rs");
    let hosts = codes(hosts.split_once("pub enum Exit {").unwrap().1.split_once('}').unwrap().0);
    let page = read("docs/man/sigsh-client.1.md");
    let section = page.split_once("# EXIT STATUS").unwrap().1.split_once("\n# ").unwrap().0;
    let terms = section.lines().filter_map(|line| line.strip_prefix("**")?.strip_suffix("**")?.parse().ok());
    let expected = own.into_iter().chain(hosts).chain([0, 1, 2, 75]).collect::<BTreeSet<u8>>();
    assert_eq!(terms.collect::<BTreeSet<u8>>(), expected);
}

#[test]
fn every_option_of_the_client_is_explained() {
    let page = read("docs/man/sigsh-client.1.md").replace("\\-", "-");
    let mut commands = vec![vec![]];
    while let Some(command) = commands.pop() {
        let output = succeed(Command::new(env!("CARGO_BIN_EXE_sigsh-client")).args(&command).arg("--help"));
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(page.contains(&command.join(" ")), "{command:?}");
        let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let words = lines.flat_map(|line| line.split("  ").next().unwrap().split([' ', ',']));
        for option in words.filter(|word| word.starts_with("--")) {
            assert!(page.contains(&format!("**{option}**")), "{command:?}: {option}");
        }
        let below = help.split_once("Commands:\n").map_or("", |(_, rest)| rest.split("\n\n").next().unwrap());
        let names = below.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned));
        // What follows gpg is gpg's.
        commands.extend(
            names
                .filter(|name| command.is_empty() && name != "gpg" || !command.is_empty())
                .map(|name| [command.clone(), vec![name]].concat()),
        );
    }
}

#[test]
fn every_field_of_a_record_is_explained() {
    let page = read("docs/man/sigsh.8.md");
    // The client's are variables of the environment.
    let (clients, hosts): (Vec<_>, Vec<_>) =
        sources("src").into_iter().partition(|path| path.starts_with(checkout("src/bin/sigsh-client")));
    let all = |paths: &[PathBuf]| paths.iter().flat_map(|path| words(&fs::read_to_string(path).unwrap())).collect::<BTreeSet<_>>();
    let recorded = all(&hosts);
    assert!(recorded.len() > 15, "{recorded:?}");
    assert_eq!(words(&page), recorded);
    assert_eq!(words(&read("docs/man/sigsh-client.1.md")), all(&clients));
    let audit = read("src/audit.rs");
    let ids = audit.split('"').filter(|text| text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())).collect::<Vec<_>>();
    assert_eq!(ids.len(), 6);
    assert!(ids.iter().all(|id| page.contains(id)), "{ids:?}");
}

#[test]
fn every_option_is_explained() {
    for (page, commands) in [
        (
            "sigsh-admin.8",
            vec![
                vec!["key", "generate"],
                vec!["certificate", "create"],
                vec!["certificate", "show"],
                vec!["ledger", "init"],
                vec!["ledger", "rotate"],
                vec!["ledger", "head"],
                vec!["ledger", "verify"],
                vec!["ledger", "show"],
                vec!["grant", "mac"],
                vec!["check"],
            ],
        ),
        ("sigsh.8", vec![]),
    ] {
        let text = read(&format!("docs/man/{page}.md")).replace("\\-", "-");
        let mut help = if commands.is_empty() { sigsh::request::Request::help() } else { String::new() };
        for command in &commands {
            let output = succeed(Command::new(env!("CARGO_BIN_EXE_sigsh-admin")).args(command).arg("--help"));
            help += &String::from_utf8(output.stdout).unwrap();
            assert!(text.contains(&command.join(" ")), "{page}: {command:?}");
        }
        let options = help.split_whitespace().filter(|word| word.starts_with("--")).collect::<Vec<_>>();
        assert!(!options.is_empty());
        for option in options.into_iter().filter_map(|option| option.split("[=").next()) {
            assert!(text.contains(&format!("**{option}**")), "{page}: {option}");
        }
    }
    let page = read("docs/man/sigsh-admin.8.md");
    for (name, _) in sigsh::token::generate::Algorithm::ALL {
        assert!(page.contains(&format!("**{name}**")), "{name}");
    }
}

#[test]
fn every_dependency_argues_its_place() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let musl = &manifest["target"]["cfg(target_env = \"musl\")"]["dependencies"];
    let tables = [&manifest["dependencies"], &manifest["dev-dependencies"], musl];
    let names = tables.map(|table| table.as_table().unwrap().keys().cloned());
    let page = read("docs/TRUST.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name.to_owned()));
    assert_eq!(rows.collect::<BTreeSet<_>>(), names.into_iter().flatten().collect());
}

#[test]
fn every_test_that_a_threat_names_exists_and_says_where_it_runs() {
    let page = read("docs/THREATS.md");
    let mut found = 0;
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let pieces = line.split('`').collect::<Vec<_>>();
        for (name, behind) in pieces.iter().zip(&pieces[1..]) {
            let Some((module, function)) = name.split_once("::") else { continue };
            let file = format!("{module}.rs");
            let files = [sources("src"), sources("tests")].concat();
            let files = files.into_iter().filter(|path| path.ends_with(&file)).collect::<Vec<_>>();
            assert!(!files.is_empty(), "{name}: there is no {file}");
            let mut commands = files.iter().filter_map(|path| command(&fs::read_to_string(path).unwrap(), function));
            let command = commands.next().unwrap_or_else(|| panic!("{name}: there is no such test"));
            let said = behind.strip_prefix(" (").and_then(|rest| rest.split_once(')')).map_or("", |(said, _)| said);
            assert_eq!(said, command, "{name}");
            found += 1;
        }
    }
    assert!(found > 10, "{found}");
}

/// By which command a test runs, if it is there: what its `#[ignore = "…: COMMAND"]` says, or nothing.
fn command(text: &str, function: &str) -> Option<String> {
    let above = text.split_once(&format!("fn {function}() "))?.0;
    let attributes = above.lines().rev().map(str::trim).skip(1).take_while(|line| line.starts_with("#["));
    let attributes = [above.lines().next_back()?.trim()].into_iter().chain(attributes).collect::<Vec<_>>();
    let ignored = attributes.iter().find_map(|line| line.strip_prefix("#[ignore = \"")?.strip_suffix("\"]")?.rsplit(": ").next());
    attributes.contains(&"#[test]").then(|| ignored.unwrap_or("").to_owned())
}

/// All that is written for people, but for the man pages.
fn pages() -> Vec<String> {
    let names = fs::read_dir(checkout("docs")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let docs = names.filter(|name| name.ends_with(".md")).map(|name| format!("docs/{name}"));
    docs.chain(["README.md", "CHANGELOG.md"].map(str::to_owned)).collect()
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let from = checkout(&page);
        for target in read(&page).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            assert!(target.starts_with("https://") || from.parent().unwrap().join(target).exists(), "{page}: {target}");
        }
    }
}

#[test]
fn every_guide_is_in_the_readme() {
    let readme = read("README.md");
    for page in pages().into_iter().filter(|page| page != "README.md") {
        assert!(readme.contains(&format!("[{page}]({page})")), "{page}");
    }
}

/// Where none stands before it, a heading is text of the paragraph above.
#[test]
fn a_blank_line_stands_before_each_heading() {
    for page in pages().into_iter().chain(PAGES.map(|page| format!("docs/man/{page}.md"))) {
        let text = read(&page);
        // Every other piece is a fenced block.
        for text in text.split("```").step_by(2) {
            let lines = text.lines().collect::<Vec<_>>();
            for pair in lines.windows(2) {
                let heading = pair[1].starts_with('#') && pair[1].trim_start_matches('#').starts_with(' ');
                assert!(!heading || pair[0].is_empty(), "{page}: {}", pair[1]);
            }
        }
    }
}

/// Within one in twenty: lines of sessions, of sigsh-admin and of sigsh-client, comments included and tests not.
#[test]
fn the_readme_says_how_much_there_is_to_read() {
    let readme = read("README.md");
    let line = readme.lines().find(|line| line.contains("lines of Rust")).unwrap().replace(',', "");
    let said = line.split(' ').filter_map(|word| word.trim_end_matches('.').parse::<usize>().ok()).collect::<Vec<_>>();
    let count = |below: &str, but: &str| -> usize {
        let test = |path: &PathBuf| path.ends_with("tests.rs") || path.iter().any(|part| part == "tests");
        let files = sources(below).into_iter().filter(|path| !test(path) && (but.is_empty() || !path.starts_with(checkout(but))));
        let own = |text: String| text.lines().take_while(|line| line.trim() != "#[cfg(test)]").count();
        files.map(|path| own(fs::read_to_string(path).unwrap())).sum()
    };
    let there = [count("src", "src/bin"), count("src/bin/sigsh-admin", ""), count("src/bin/sigsh-client", "")];
    assert_eq!(said.len(), 3, "{line}");
    assert!(said.iter().zip(there).all(|(said, there)| said.abs_diff(there) * 20 <= there), "{said:?}, and it is {there:?}");
}

fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(checkout(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files of Rust below a directory.
fn sources(directory: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![checkout(directory)];
    while let Some(directory) = todo.pop() {
        for path in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The names of journald fields in a text.
fn words(text: &str) -> BTreeSet<String> {
    let split = text.split(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_');
    split.filter(|word| word.starts_with("SIGSH_")).map(str::to_owned).collect()
}
