//! What answers a signing request: one JSON document a line, in Signstar's published format
//! (<https://signstar.archlinux.page/signing-api/response.html>, version 1).

use serde_json::Value;

/// One armored signature as a line.
pub fn response(armored: &[u8]) -> Vec<u8> {
    let signature = Value::from(String::from_utf8_lossy(armored));
    format!("{{\"version\":\"1.0.0\",\"signature\":{signature}}}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_one_line_and_gives_the_signature_back() {
        let armored = "-----BEGIN PGP SIGNATURE-----\n\nwnUEABYKAB0\n=XHyn\n-----END PGP SIGNATURE-----\n";
        let line = response(armored.as_bytes());
        let expected = r#"{"version":"1.0.0","signature":"-----BEGIN PGP SIGNATURE-----\n\nwnUEABYKAB0\n=XHyn\n-----END PGP SIGNATURE-----\n"}"#;
        assert_eq!(String::from_utf8(line.clone()).unwrap(), expected.to_owned() + "\n");
        let value = serde_json::from_slice::<Value>(&line).unwrap();
        assert_eq!((value["version"].as_str(), value["signature"].as_str()), (Some("1.0.0"), Some(armored)));
    }

    #[test]
    fn nothing_breaks_out_of_the_line() {
        for strange in ["a\nb", "\"}", "\\", "\u{2028}", "\r\0\u{7f}"] {
            let line = response(strange.as_bytes());
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
            assert_eq!(serde_json::from_slice::<Value>(&line).unwrap()["signature"], strange);
        }
    }
}
