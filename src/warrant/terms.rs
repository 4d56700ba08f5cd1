//! What a permit says beside whom it permits: `host=sign1.example.org;max=64`.

use super::WarrantError;

/// What this host is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its own name.
    pub host: String,
    /// That of all hosts that sign the same, where it is one of several.
    pub fleet: Option<String>,
}

/// What a permit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The host that it is for. Each host counts for itself, so it is never for several.
    pub host: String,
    /// How many signatures it is good for.
    pub max: u64,
}

impl Terms {
    /// Reads `host=H;max=N`, in this order, and nothing else.
    pub fn parse(text: &str) -> Option<Terms> {
        let (host, max) = text.strip_prefix("host=")?.split_once(";max=")?;
        let number = max.parse::<u64>().ok().filter(|number| *number > 0 && number.to_string() == max)?;
        Some(Terms { host: host.to_owned(), max: number })
    }

    /// Whether it is for here.
    ///
    /// # Errors
    /// [`WarrantError::Endorsement`].
    pub fn are_for(&self, place: &Place) -> Result<(), WarrantError> {
        if self.host == place.host { Ok(()) } else { Err(WarrantError::Endorsement("is for another host".to_owned())) }
    }
}
