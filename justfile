# `just` lists what there is. Nothing here is needed to build: the scripts below work on their own, too.

export PREFIX := env("PREFIX", "/usr")
export DESTDIR := env("DESTDIR", "")

target := env("CARGO_TARGET_DIR", "target")

# The tests install accounts and binaries: they run in a throw-away copy of the machine.
inside := "--config \"target.'cfg(all())'.runner = 'sh tests/inside.sh'\""

# show this list
default:
    @just --list --unsorted

# build what is installed
build:
    cargo build --release --locked

# the same without any library, in target/*-linux-musl/release: it reaches tokens through a p11-kit server alone
static:
    sh sshd/static.sh

# formatting and lints, the fastest first; also of the static build, where Rust's library for musl is
check:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings
    if [ -d "$(rustc --print sysroot)/lib/rustlib/{{ arch() }}-unknown-linux-musl" ]; then \
        cargo clippy --lib --bins --locked --target {{ arch() }}-unknown-linux-musl -- -D warnings; fi

# everything that must pass, as continuous integration runs it
test:
    sh tests/run.sh

# the long tests
soak: (fuzz "600")
    cargo test --locked {{ inside }} -- --ignored --skip tokens::

# the same signing tests with every kind of token, also those that take minutes
tokens:
    sh tests/tokens.sh

# look for input that breaks something, for so many seconds in each target, or in those named
fuzz SECONDS="60" *TARGETS:
    sh tests/fuzz.sh {{ SECONDS }} {{ TARGETS }}

# how fast it is, as ratios
bench:
    cargo build --release --locked --examples
    cargo bench --locked {{ inside }}

# sign a real package with a throw-away token and sshd
demo:
    sh sshd/demo.sh

# the man pages, from docs/man/NAME.SECTION.md
man:
    mkdir -p '{{ target }}/man'
    set -e; for page in docs/man/*.md; do pandoc --standalone --to man --output "{{ target }}/man/$(basename "$page" .md)" "$page"; done

# put what was built in place, e.g. `just PREFIX=/usr/local DESTDIR=/tmp/package install`
install:
    sh sshd/install.sh

# on a build server, sigsh-client alone
install-client:
    sh sshd/install.sh client
