//! sigsh-client, as a build server has it: through the system's ssh and a real sshd.

mod build_server;
mod completions;
mod config;
mod doctor;
mod fallback;
mod faults;
mod files;
mod front;
mod front_killed;
mod front_real;
mod front_streams;
mod gpg;
mod hosts;
mod install;
mod killed;
mod recipes;
mod relay;
mod setup;
mod signs;
mod tokens;
mod verifies;

pub use build_server::BuildServer;
pub use hosts::odd_host;
