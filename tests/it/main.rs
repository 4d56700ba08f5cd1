//! Tests on real parts: sshd, SoftHSM, journald, gpgv, sqv. They run as root inside `tests/inside.sh`, where nothing they do stays.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

mod admin;
mod always;
mod audit;
mod batch;
mod chain;
mod client;
mod config;
mod differ;
mod docs;
mod hostile;
mod identity;
mod killed;
mod ledger;
mod limits;
mod load;
mod manual;
mod messages;
mod packagers;
mod policy;
mod refuses;
mod sandbox;
mod separation;
mod signs;
mod sshd;
mod state;
mod static_build;
mod subkeys;
mod taken_over;
mod tar;
mod text;
mod token;
mod tokens;
mod trixie;
mod v6;
mod world;
