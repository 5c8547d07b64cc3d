//! Keys and signatures of the evidence log, and the openssl command.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kms_rotationd::evidence::key::{SigningKey, VerifyingKey};
use kms_rotationd::evidence::note::Checkpoint;
use kms_rotationd::evidence::tree::leaf_hash;

/// Runs openssl in a folder, and returns what it prints.
fn openssl(arguments: &[&str], folder: &Path) -> String {
    let ran = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    assert!(ran.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// The 32 bytes of a public key in the PEM of openssl, after the 12 bytes that state its kind.
fn public_key(pem: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(pem.lines().nth(1).unwrap()).unwrap()[12..].to_vec()
}

fn public_key_of_vkey(key: &VerifyingKey) -> Vec<u8> {
    let vkey = key.to_string();
    BASE64_STANDARD.decode(vkey.splitn(3, '+').nth(2).unwrap()).unwrap()[1..].to_vec()
}

pub(crate) fn openssl_and_this_program_read_each_others_keys() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = openssl(&["genpkey", "-algorithm", "ed25519"], folder.path());
    let ours = SigningKey::generate_pem().unwrap();
    for pem in [&theirs, &*ours] {
        std::fs::write(folder.path().join("key"), pem).unwrap();
        assert_eq!(openssl(&["pkey", "-in", "key"], folder.path()), *pem);
        let public = openssl(&["pkey", "-in", "key", "-pubout"], folder.path());
        let key = SigningKey::from_pem("log", pem).unwrap();
        assert_eq!(public_key_of_vkey(key.verifying_key()), public_key(&public));
    }
}

pub(crate) fn openssl_verifies_the_signature_of_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let pem = SigningKey::generate_pem().unwrap();
    let key = SigningKey::from_pem("log", &pem).unwrap();
    let checkpoint = Checkpoint { origin: "log".to_owned(), size: 1, root: leaf_hash(b"line") };
    let note = checkpoint.sign(&key).unwrap();
    let signature = note.trim_end().rsplit(' ').next().unwrap();
    let signature = &BASE64_STANDARD.decode(signature).unwrap()[4..];
    for (name, content) in [("key", pem.as_bytes()), ("text", checkpoint.to_string().as_bytes()), ("sig", signature)] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let verify = ["pkeyutl", "-verify", "-inkey", "key", "-rawin", "-in", "text", "-sigfile", "sig"];
    assert_eq!(openssl(&verify, folder.path()), "Signature Verified Successfully\n");
}
