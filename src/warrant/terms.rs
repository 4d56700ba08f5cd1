//! What a permit says beside whom it permits: `host=sign1.example.org;max=64`.

use super::WarrantError;
use std::time::Duration;

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

/// A length of time for people, in whole units of the largest kind: `3 minutes`.
pub fn rough(time: Duration) -> String {
    let seconds = time.as_secs();
    let (number, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_written_in_one_way() {
        let terms = |host: &str, max| Some(Terms { host: host.to_owned(), max });
        assert_eq!(Terms::parse("host=sign1.example.org;max=64"), terms("sign1.example.org", 64));
        assert_eq!(Terms::parse("host=h;max=18446744073709551615"), terms("h", u64::MAX));
        for text in [
            "",
            "host=h",
            "max=1",
            "max=1;host=h",
            "host=h;max=0",
            "host=h;max=01",
            "host=h;max=+1",
            "host=h;max=-1",
            "host=h;max=1;",
            "host=h;max=1;more=1",
            "host=h; max=1",
            " host=h;max=1",
            "host=h;max=1\n",
            "host=h;max=18446744073709551616",
            "host=h;max=0x1",
            "host=h,max=1",
            "HOST=h;max=1",
        ] {
            assert_eq!(Terms::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn times_are_told_roughly() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "1 minute"),
            (3599, "59 minutes"),
            (3600, "1 hour"),
            (86_400, "1 day"),
            (172_800, "2 days"),
            (u64::MAX, "213503982334601 days"),
        ] {
            assert_eq!(rough(Duration::from_secs(seconds)), text);
        }
    }
}
