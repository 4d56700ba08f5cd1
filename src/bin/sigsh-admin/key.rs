//! `sigsh-admin key`.

use crate::{AdminError, account};
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use sigsh::config::Config;
use sigsh::token::generate::Algorithm;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make a key pair in the token, with the label and id of the key's uri
    Generate {
        /// The key's name in the configuration
        key: String,
        /// Its kind
        #[arg(long, value_parser = PossibleValuesParser::new(Algorithm::ALL.map(|(name, _)| name)))]
        algorithm: String,
    },
}

pub(crate) fn run(command: &Command, config: &Config) -> Result<(), AdminError> {
    let Command::Generate { key, algorithm } = command;
    let (name, key, token) = config.key(key).ok_or_else(|| AdminError::NoKey(key.clone()))?;
    let Some((word, algorithm)) = Algorithm::ALL.into_iter().find(|(name, _)| name == algorithm) else { return Ok(()) };
    account::generator(config, name, key, token, algorithm)?.generated()?;
    println!("made key '{name}' ({word}) in token '{}'", config.token_name(key));
    let version = if matches!(algorithm, Algorithm::Composite(_)) { " --openpgp v6" } else { "" };
    println!("next: sigsh-admin certificate create {name}{version} --user-id 'Name <mail>'");
    Ok(())
}
