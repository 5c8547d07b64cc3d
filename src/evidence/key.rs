//! The Ed25519 keys of signed notes (c2sp.org/signed-note, "Signatures" and "Verifier keys").

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::support::printable::excerpt;

/// The type of the signature: Ed25519 over the text of the note.
const ED25519_TYPE: u8 = 0x01;

/// A private key in DER without its last 32 bytes, the seed: RFC 8410, section 7, in version 1 of PKCS#8, which has no
/// public key.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// The first four bytes of SHA-256(name ‖ 0x0A ‖ type ‖ public key). It identifies a key and authenticates nothing.
pub type KeyId = [u8; 4];

/// Why a key cannot be used. Contains nothing of a private key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name cannot be in a note.
    #[error("{0:?} cannot be the name of a key; expected a text without blanks, control characters and `+`")]
    Name(String),
    /// The file is no private key in PEM.
    #[error(
        "found no private key in PEM format; expected an Ed25519 key without a password, as \
         `openssl genpkey -algorithm ed25519` writes it"
    )]
    NotPem,
    /// A private key of another kind.
    #[error("the private key cannot be used ({0}); expected an Ed25519 key in PKCS#8")]
    NotEd25519(String),
    /// The machine gave no random numbers.
    #[error("this machine gave no random numbers for a new key")]
    NoRandomness,
    /// A public key in another notation.
    #[error("{0:?} is not a public key; expected NAME+ID+KEY: a name, 8 lowercase hex digits, and base64")]
    NotVkey(String),
    /// A public key of another kind.
    #[error("the public key {0:?} is not an Ed25519 key; expected type 1 and 32 bytes")]
    NotEd25519Vkey(String),
    /// Name, id and key of a public key do not belong together.
    #[error("the public key {0:?} has an id of another name or key; expected {1}")]
    WrongId(String, String),
}

/// A key that signs checkpoints of the log with its name, the origin.
///
/// ring does not wipe the key on drop; this module wipes all other copies.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    verifying: VerifyingKey,
}

/// The public part of a key, with its name. Its text is the `vkey` of c2sp.org/signed-note.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    name: String,
    public: [u8; 32],
}

impl SigningKey {
    /// Reads a private key as `openssl genpkey -algorithm ed25519` writes it: PKCS#8 in PEM, with or without the public
    /// key.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is no such key, or if the name cannot be in a note.
    pub fn from_pem(name: &str, pem: &str) -> Result<Self, KeyError> {
        let name = valid_name(name)?;
        let (_, after) = pem.split_once(PEM_BEGIN).ok_or(KeyError::NotPem)?;
        let (body, _) = after.split_once(PEM_END).ok_or(KeyError::NotPem)?;
        // Not by the reader of rustls, which leaves copies in memory.
        let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
        base64.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
        let der = Zeroizing::new(BASE64_STANDARD.decode(base64.as_bytes()).map_err(|_| KeyError::NotPem)?);
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der)
            .map_err(|rejected| KeyError::NotEd25519(rejected.to_string()))?;
        let public = pair.public_key().as_ref().try_into();
        let public = public.map_err(|_| KeyError::NotEd25519("its public key has a wrong length".to_owned()))?;
        Ok(Self { pair, verifying: VerifyingKey { name, public } })
    }

    /// A new private key in PEM, as openssl writes and reads it.
    ///
    /// # Errors
    ///
    /// Returns an error if the machine has no random numbers.
    pub fn generate_pem() -> Result<Zeroizing<String>, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut *seed).map_err(|_| KeyError::NoRandomness)?;
        Ok(Self::pem_from_seed(&seed))
    }

    /// The private key with this seed in PEM. A seed that is not random gives a key that everyone can compute: only for
    /// simulations.
    #[must_use]
    pub fn pem_from_seed(seed: &[u8; 32]) -> Zeroizing<String> {
        let mut der = Zeroizing::new([0; 48]);
        for (to, from) in der.iter_mut().zip(PKCS8_PREFIX.iter().chain(seed)) {
            *to = *from;
        }
        let base64 = Zeroizing::new(BASE64_STANDARD.encode(&der[..]));
        // Large enough from the start, since a string that grows leaves copies.
        let mut pem = Zeroizing::new(String::with_capacity(128));
        for part in [PEM_BEGIN, "\n", &base64, "\n", PEM_END, "\n"] {
            pem.push_str(part);
        }
        pem
    }

    /// The public part.
    #[must_use]
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying
    }

    /// The signature of a note's text.
    pub(super) fn sign(&self, text: &str) -> Vec<u8> {
        self.pair.sign(text.as_bytes()).as_ref().to_vec()
    }
}

impl VerifyingKey {
    /// The name: the origin of the log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id, which is in each signature.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let digest = Sha256::new().chain_update(&self.name).chain_update([b'\n', ED25519_TYPE]);
        let [a, b, c, d, ..] = <[u8; 32]>::from(digest.chain_update(self.public).finalize());
        [a, b, c, d]
    }

    /// Whether this key has signed the text.
    #[must_use]
    pub(super) fn has_signed(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public).verify(text.as_bytes(), signature).is_ok()
    }
}

impl FromStr for VerifyingKey {
    type Err = KeyError;

    fn from_str(vkey: &str) -> Result<Self, KeyError> {
        let shown = || excerpt(vkey, 160);
        // Base64 can have a plus too.
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::NotVkey(shown()));
        };
        let name = valid_name(name)?;
        let key = BASE64_STANDARD.decode(key).map_err(|_| KeyError::NotVkey(shown()))?;
        let public = match key.split_first() {
            Some((&ED25519_TYPE, public)) => public.try_into().map_err(|_| KeyError::NotEd25519Vkey(shown()))?,
            _ => return Err(KeyError::NotEd25519Vkey(shown())),
        };
        let key = Self { name, public };
        let expected = hex(key.id());
        if id != expected {
            return Err(KeyError::WrongId(shown(), expected));
        }
        Ok(key)
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = vec![ED25519_TYPE];
        key.extend(self.public);
        write!(f, "{}+{}+{}", self.name, hex(self.id()), BASE64_STANDARD.encode(key))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

/// Without the private key.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifying)
    }
}

/// Whether a text can be the name of a key and the origin of a log.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

fn valid_name(name: &str) -> Result<String, KeyError> {
    if is_name(name) { Ok(name.to_owned()) } else { Err(KeyError::Name(excerpt(name, 80))) }
}

fn hex(id: KeyId) -> String {
    format!("{:08x}", u32::from_be_bytes(id))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A throw-away key that `openssl genpkey -algorithm ed25519` (3.0) wrote.
    pub(in crate::evidence) const PEM: &str = "\
        -----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIHeddhZ7kszcXuVm4redmQtOPHEQKhBHtiqCtm7yl1Pw\n\
        -----END PRIVATE KEY-----\n";
    /// Its public key by `openssl pkey -pubout`, without the 12 bytes before the key.
    const PUBLIC: &str = "MuBH12VccH1F2JKgxewvOiKKdnLwQ3enZYmnwnFIK6Y=";

    pub(in crate::evidence) fn key(name: &str) -> SigningKey {
        SigningKey::from_pem(name, PEM).unwrap()
    }

    #[test]
    fn a_key_of_openssl_is_read_and_written_again() {
        let key = key("example.com/log");
        assert_eq!(BASE64_STANDARD.encode(key.verifying.public), PUBLIC);
        let der = BASE64_STANDARD.decode(PEM.lines().nth(1).unwrap()).unwrap();
        assert_eq!(der[..16], PKCS8_PREFIX);
        assert_eq!(*SigningKey::pem_from_seed(der[16..].try_into().unwrap()), PEM);
        let with_extras = format!("Key:\r\n{}\r\n", PEM.replace('\n', "\r\n"));
        assert_eq!(SigningKey::from_pem("example.com/log", &with_extras).unwrap().verifying, key.verifying);
        let seed = PEM.lines().nth(1).unwrap();
        assert!(!format!("{key:?}").contains(&seed[24..]), "{key:?}");
    }

    #[test]
    fn new_keys_differ_and_can_be_read() {
        let [one, other] = [(); 2].map(|()| SigningKey::generate_pem().unwrap());
        assert_ne!(one, other);
        for pem in [one, other] {
            assert_eq!(pem.len(), PEM.len());
            SigningKey::from_pem("example.com/log", &pem).unwrap();
        }
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let begin = "-----BEGIN PRIVATE KEY-----\n";
        let end = "\n-----END PRIVATE KEY-----\n";
        let encrypted = PEM.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let no_base64 = format!("{begin}{{}}{end}");
        for wrong in ["", "key", begin, &encrypted, &PEM[..PEM.len() - 4], &no_base64] {
            assert_eq!(SigningKey::from_pem("log", wrong).unwrap_err(), KeyError::NotPem, "{wrong}");
        }
        let der = BASE64_STANDARD.decode(PEM.lines().nth(1).unwrap()).unwrap();
        let mut x25519 = der.clone();
        x25519[11] = 0x6e;
        for wrong in [&[][..], &x25519, &der[..47], &[&der[..], &[0]].concat()] {
            let pem = format!("{begin}{}{end}", BASE64_STANDARD.encode(wrong));
            let error = SigningKey::from_pem("log", &pem).unwrap_err();
            assert!(matches!(error, KeyError::NotEd25519(_)), "{error}");
        }
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let key: VerifyingKey = vkey.parse().unwrap();
        assert_eq!((key.name(), key.id()), ("example.com/foo", [0x53, 0x0d, 0x90, 0x3a]));
        assert_eq!(key.to_string(), vkey);
    }

    #[test]
    fn a_public_key_in_another_notation_is_refused() {
        let vkey = key("example.com/log").verifying.to_string();
        assert_eq!(vkey.parse::<VerifyingKey>().unwrap().to_string(), vkey);
        let (rest, key) = vkey.rsplit_once('+').unwrap();
        let (name, id) = rest.split_once('+').unwrap();
        let parse = |text: String| text.parse::<VerifyingKey>().unwrap_err();
        for wrong in [String::new(), name.to_owned(), rest.to_owned(), format!("{rest}+{key}="), format!("{vkey}\n")] {
            assert!(matches!(parse(wrong.clone()), KeyError::NotVkey(_)), "{wrong}");
        }
        let of = |bytes: &[u8]| format!("{rest}+{}", BASE64_STANDARD.encode(bytes));
        for wrong in [of(b""), of(&[1]), of(&[1; 32]), of(&[1; 34]), of(&[2; 33])] {
            assert!(matches!(parse(wrong.clone()), KeyError::NotEd25519Vkey(_)), "{wrong}");
        }
        let upper = "ABCDEF12";
        for wrong in [format!("{name}x+{id}+{key}"), format!("{name}+0{id}+{key}"), format!("{name}+{upper}+{key}")] {
            assert!(matches!(parse(wrong.clone()), KeyError::WrongId(..)), "{wrong}");
        }
        for name in ["", "a b", "a\nb", "a\u{a0}b", "a\u{2028}b", "a\u{7f}b", "a+b"] {
            let error = SigningKey::from_pem(name, PEM).unwrap_err();
            assert!(matches!(error, KeyError::Name(_)), "{name:?}: {error}");
        }
        assert!(matches!(parse(format!("a b+{id}+{key}")), KeyError::Name(_)));
    }
}
