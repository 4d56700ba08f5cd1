use super::*;
use signature::Signer;
use ssh_key::private::{Ed25519Keypair, PrivateKey};

/// A key that OpenSSH would write so, and what a security key of it says and signs at a touch of this kind.
fn touched(flags: u8, signed_flags: u8) -> (Vec<u8>, Vec<u8>) {
    let pair = Ed25519Keypair::from_seed(&[7; 32]);
    let (name, application) = ("sk-ssh-ed25519@openssh.com", "ssh:");
    let (mut key, mut signature) = (Vec::new(), Vec::new());
    name.encode(&mut key).unwrap();
    pair.public.0.as_slice().encode(&mut key).unwrap();
    application.encode(&mut key).unwrap();
    // PROTOCOL.u2f.
    let signed = [&Sha256::digest(application)[..], &[signed_flags], &[0, 0, 0, 9], &Sha256::digest(b"signed")].concat();
    name.encode(&mut signature).unwrap();
    let raw: Signature = pair.sign(&signed);
    raw.as_bytes().encode(&mut signature).unwrap();
    signature.extend([flags, 0, 0, 0, 9]);
    (key, signature)
}

#[test]
fn a_security_key_says_how_it_was_touched() {
    for (flags, presence, verification) in [(0, false, false), (1, true, false), (4, false, true), (5, true, true)] {
        let (key, signature) = touched(flags, flags);
        let touch = verify(&plain_key(&key).unwrap(), b"signed", &signature);
        assert_eq!(touch, Some(Some(Touch { presence, verification })), "{flags}");
    }
    let (key, signature) = touched(5, 4);
    assert_eq!(verify(&plain_key(&key).unwrap(), b"signed", &signature), None);
    let (key, signature) = touched(5, 5);
    assert_eq!(verify(&plain_key(&key).unwrap(), b"Signed", &signature), None);
    assert_eq!(verify(&plain_key(&key).unwrap(), b"signed", &[&signature[..], b"\0"].concat()), None);
}

fn encoded(strings: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    strings.iter().for_each(|string| string.encode(&mut bytes).unwrap());
    bytes
}

#[test]
fn keys_are_strong_and_written_in_one_way() {
    let modulus = |bits: usize| {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] >>= (8 - bits % 8) % 8;
        if modulus[0] >= 0x80 {
            modulus.insert(0, 0);
        }
        modulus
    };
    let rsa = |bits| encoded(&[b"ssh-rsa", &[1, 0, 1], &modulus(bits)]);
    for (bits, good) in [(1024, false), (2041, false), (2047, false), (2048, true), (4096, true), (4097, false)] {
        assert_eq!(plain_key(&rsa(bits)).is_some(), good, "{bits}");
    }
    let of = |hash| SshSig { key: vec![], namespace: vec![], hash, signature: vec![] }.digest(b"").len();
    assert_eq!([HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512].map(of), [32, 48, 64]);
    let ed25519 = encoded(&[b"ssh-ed25519", &[7; 32]]);
    assert!(plain_key(&ed25519).is_some() && plain_key(&[&ed25519[..], b"\0"].concat()).is_none());
    let point = |tag: u8, length| encoded(&[b"ecdsa-sha2-nistp256", b"nistp256", &[&[tag][..], &vec![7; length]].concat()]);
    assert!(plain_key(&point(4, 64)).is_some() && plain_key(&point(2, 32)).is_none());
    assert_eq!(plain_key(&encoded(&[b"ssh-rsa", &[0, 1, 0, 1], &modulus(2048)])), None);
    assert_eq!(plain_key(&encoded(&[b"ssh-dss", &[3], &[3], &[3], &[3]])), None);
    assert_eq!(plain_key(&encoded(&[b"unknown@example.org", b"key"])), None);
}

#[test]
fn nothing_stands_where_nothing_belongs() {
    let pair = Ed25519Keypair::from_seed(&[7; 32]);
    let key = PrivateKey::from(pair.clone()).public_key().to_bytes().unwrap();
    let made = |reserved: &[u8]| {
        let digest = Sha512::digest(b"message");
        let signed = [MAGIC, &encoded(&[b"file", reserved, b"sha512", &digest])].concat();
        let raw: Signature = pair.sign(&signed);
        let signature = encoded(&[b"ssh-ed25519", raw.as_bytes()]);
        [MAGIC, &VERSION.to_be_bytes(), &encoded(&[&key, b"file", reserved, b"sha512", &signature])].concat()
    };
    let parsed = SshSig::parse(&made(b"")).unwrap();
    assert_eq!(parsed.verify(&plain_key(&key).unwrap(), &parsed.digest(b"message")), Some(None));
    assert!(SshSig::parse(&made(b"more")).is_none());
}

#[test]
fn another_kind_of_signature_is_none() {
    let pair = Ed25519Keypair::from_seed(&[7; 32]);
    let good: Signature = pair.sign(b"signed");
    let key = PrivateKey::from(pair);
    let with = |name: &str| encoded(&[name.as_bytes(), good.as_bytes()]);
    let key = key.public_key().key_data();
    assert_eq!(verify(key, b"signed", &with("ssh-ed25519")), Some(None));
    for name in ["ssh-rsa", "rsa-sha2-512", "sk-ssh-ed25519@openssh.com", "ssh-ed25519-cert-v01@openssh.com", ""] {
        assert_eq!(verify(key, b"signed", &with(name)), None, "{name}");
    }
}
