//! PKCS#11 URIs (RFC 7512): how the configuration names a token, and a key in it.

use super::values::from_text;
use percent_encoding::percent_decode_str;

/// What selects a token. Attributes that are absent match any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenUri {
    /// `token`: the label.
    pub label: Option<String>,
    /// `manufacturer`.
    pub manufacturer: Option<String>,
    /// `model`.
    pub model: Option<String>,
    /// `serial`.
    pub serial: Option<String>,
}

/// What selects a key within its token. At least one attribute is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyUri {
    /// `object`: CKA_LABEL.
    pub label: Option<Vec<u8>>,
    /// `id`: CKA_ID.
    pub id: Option<Vec<u8>>,
}

from_text!(TokenUri);

impl TryFrom<String> for TokenUri {
    type Error = String;

    fn try_from(text: String) -> Result<TokenUri, String> {
        let mut uri = TokenUri::default();
        for (name, value) in attributes(&text)? {
            let value = String::from_utf8(value).map_err(|_| format!("the value of '{name}' is not UTF-8"))?;
            let place = match name {
                "token" => &mut uri.label,
                "manufacturer" => &mut uri.manufacturer,
                "model" => &mut uri.model,
                "serial" => &mut uri.serial,
                _ => return Err(format!("a token is selected by token, manufacturer, model or serial, not by '{name}'")),
            };
            if place.replace(value).is_some() {
                return Err(format!("'{name}' stands twice"));
            }
        }
        Ok(uri)
    }
}

from_text!(KeyUri);

impl TryFrom<String> for KeyUri {
    type Error = String;

    fn try_from(text: String) -> Result<KeyUri, String> {
        let mut uri = KeyUri::default();
        for (name, value) in attributes(&text)? {
            let place = match name {
                "object" => &mut uri.label,
                "id" => &mut uri.id,
                "type" if value == b"private" => continue,
                _ => return Err(format!("a key is selected by object and id, not by '{name}'")),
            };
            if place.replace(value).is_some() {
                return Err(format!("'{name}' stands twice"));
            }
        }
        if uri == KeyUri::default() {
            return Err("a key's uri names at least object or id".to_owned());
        }
        Ok(uri)
    }
}

fn attributes(text: &str) -> Result<Vec<(&str, Vec<u8>)>, String> {
    let path = text.strip_prefix("pkcs11:").ok_or("a PKCS#11 URI begins with \"pkcs11:\"")?;
    if path.contains('?') {
        return Err("a query ('?…') has no place here: module and PIN have fields of their own".to_owned());
    }
    let attribute = |part: &'_ str| -> Result<(usize, Vec<u8>), String> {
        let at = part.find('=').ok_or_else(|| format!("'{part}' is not name=value"))?;
        let value = part.get(at + 1..).unwrap_or_default();
        // RFC 3986 §2.1: a per cent sign begins two hexadecimal digits, nothing else.
        let broken = value.split('%').skip(1).any(|rest| !rest.bytes().take(2).all(|b| b.is_ascii_hexdigit()) || rest.len() < 2);
        if value.is_empty() || broken {
            Err(format!("'{part}' has no proper value"))
        } else {
            Ok((at, percent_decode_str(value).collect()))
        }
    };
    let parts = path.split(';').filter(|part| !part.is_empty());
    parts.map(|part| attribute(part).map(|(at, value)| (part.get(..at).unwrap_or_default(), value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_select_by_attributes() {
        let uri = TokenUri::try_from("pkcs11:token=my%20card;serial=1".to_owned()).unwrap();
        assert_eq!((uri.label.as_deref(), uri.serial.as_deref(), uri.model), (Some("my card"), Some("1"), None));
        let uri = KeyUri::try_from("pkcs11:object=release;id=%01%ff;type=private".to_owned()).unwrap();
        assert_eq!((uri.label, uri.id), (Some(b"release".to_vec()), Some(vec![1, 255])));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for text in [
            "",
            "token=x",
            "pkcs11:pin=1",
            "pkcs11:token=x?pin-value=1",
            "pkcs11:token",
            "pkcs11:token=%4",
            "pkcs11:token=a;token=b",
        ] {
            assert!(TokenUri::try_from(text.to_owned()).is_err(), "{text}");
        }
        for text in ["pkcs11:", "pkcs11:type=private", "pkcs11:id=%zz", "pkcs11:object=a;type=public", "pkcs11:id=%01;id=%02"] {
            assert!(KeyUri::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
