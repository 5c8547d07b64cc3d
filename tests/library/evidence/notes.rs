//! Notes are those of `signed_note` and `tlog_tiles`, and a proof with any part of another one is refused.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kms_rotationd::evidence::inclusion::{InclusionProver, verify};
use kms_rotationd::evidence::key::{SigningKey, VerifyingKey};
use kms_rotationd::evidence::note::{Checkpoint, NoteError};
use kms_rotationd::evidence::proof::Proof;
use kms_rotationd::evidence::tree::{Frontier, Hash, leaf_hash};
use proptest::prelude::*;
use signed_note::{Note, StandardSigner, StandardVerifier, VerifierList};

use super::super::properties::config;

/// The note's text, if `signed_note` finds a signature by this key.
fn text_by_signed_note(note: &str, vkey: &VerifyingKey) -> Option<String> {
    let verifier = StandardVerifier::new(&vkey.to_string()).unwrap();
    let note = Note::from_bytes(note.as_bytes()).ok()?;
    note.verify(&VerifierList::new(vec![Box::new(verifier)])).ok()?;
    Some(String::from_utf8(note.text().to_vec()).unwrap())
}

/// The same private key for `signed_note`.
fn signer(name: &str, seed: [u8; 32], vkey: &VerifyingKey) -> StandardSigner {
    let id = u32::from_be_bytes(vkey.id());
    let key = BASE64_STANDARD.encode([&[1][..], &seed].concat());
    StandardSigner::new(&format!("PRIVATE+KEY+{name}+{id:08x}+{key}")).unwrap()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_note_is_the_one_that_signed_note_and_tlog_tiles_make(
        seed in any::<[u8; 32]>(), name in "[a-z0-9./—é]{1,40}", size in any::<u64>(), root in any::<[u8; 32]>(),
    ) {
        let key = SigningKey::from_pem(&name, &SigningKey::pem_from_seed(&seed)).unwrap();
        let vkey = key.verifying_key();
        let checkpoint = Checkpoint { origin: name.clone(), size, root: Hash(root) };
        let note = checkpoint.sign(&key).unwrap();

        let text = tlog_tiles::Checkpoint::new(&name, size, tlog_tiles::tlog::Hash(root), "").unwrap().to_bytes();
        let mut by_signed_note = Note::new(&text, &[]).unwrap();
        by_signed_note.add_sigs(&[&signer(&name, seed, vkey)]).unwrap();
        prop_assert_eq!(String::from_utf8(by_signed_note.to_bytes()).unwrap(), note.clone());

        let text = text_by_signed_note(&note, vkey);
        prop_assert_eq!(text, Some(checkpoint.to_string()));
        prop_assert_eq!(Checkpoint::parse(&note, vkey), Ok(checkpoint));
        prop_assert_eq!(&vkey.to_string().parse::<VerifyingKey>().unwrap(), vkey);
    }

    #[test]
    fn a_changed_note_is_refused_as_signed_note_does(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), length in 0_usize..3,
    ) {
        let key = SigningKey::from_pem("example.com/log", &SigningKey::pem_from_seed(&[7; 32])).unwrap();
        let checkpoint = Checkpoint { origin: "example.com/log".to_owned(), size: 12, root: leaf_hash(b"line") };
        let note = checkpoint.sign(&key).unwrap();
        let mut bytes = note.clone().into_bytes();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + length);
        bytes.splice(at..end, [byte]);
        if let Ok(changed) = String::from_utf8(bytes) {
            let ours = Checkpoint::parse(&changed, key.verifying_key());
            let theirs = text_by_signed_note(&changed, key.verifying_key());
            prop_assert_eq!(ours.is_ok(), theirs.is_some(), "{:?}", changed);
            prop_assert_eq!(ours.is_ok(), changed == note);
        }
    }

    #[test]
    fn no_text_panics(text in "(c2sp.org/tlog-proof@v1\n)?(index [0-9]{1,21}\n)?[A-Za-z0-9+/=— \n\\PC]{0,200}") {
        let key = SigningKey::from_pem("log", &SigningKey::pem_from_seed(&[7; 32])).unwrap();
        prop_assert!(Checkpoint::parse(&text, key.verifying_key()).is_err());
        let _ = Checkpoint::parse_unverified(&text);
        let proof = text.parse::<Proof>().and_then(|proof| proof.verify(b"", key.verifying_key()));
        prop_assert!(proof.is_err());
        prop_assert!(text.parse::<VerifyingKey>().is_err());
        prop_assert!(SigningKey::from_pem("log", &text).is_err());
    }
}

#[test]
fn cosignatures_by_signed_note_have_no_effect() {
    let key = |name: &str, seed| SigningKey::from_pem(name, &SigningKey::pem_from_seed(&[seed; 32])).unwrap();
    let log = key("example.com/log", 1);
    let checkpoint = Checkpoint { origin: "example.com/log".to_owned(), size: 3, root: leaf_hash(b"line") };
    let mut note = Note::from_bytes(checkpoint.sign(&log).unwrap().as_bytes()).unwrap();
    // A key with the log's name, and one with another.
    for (name, seed) in [("example.com/log", 2), ("witness.example", 3)] {
        let witness = key(name, seed);
        note.add_sigs(&[&signer(name, [seed; 32], witness.verifying_key())]).unwrap();
    }
    let note = String::from_utf8(note.to_bytes()).unwrap();
    assert_eq!(note.lines().count(), 7);
    assert_eq!(Checkpoint::parse(&note, log.verifying_key()), Ok(checkpoint.clone()));
    assert_eq!(Checkpoint::parse(&note, key("example.com/log", 2).verifying_key()), Ok(checkpoint));
    let other = Checkpoint::parse(&note, key("witness.example", 3).verifying_key());
    assert!(matches!(other, Err(NoteError::WrongOrigin { .. })), "{other:?}");
    let unknown = Checkpoint::parse(&note, key("example.com/log", 4).verifying_key());
    assert!(matches!(unknown, Err(NoteError::NoSignature(_))), "{unknown:?}");
}

#[test]
fn a_proof_binds_the_line_to_index_size_and_root() {
    let key = SigningKey::from_pem("log", &SigningKey::pem_from_seed(&[1; 32])).unwrap();
    let line = |index: u64| format!("{{\"seq\":{index}}}").into_bytes();
    let mut tree = Frontier::new();
    let mut roots = vec![tree.root()];
    for index in 0..71 {
        tree.append(leaf_hash(&line(index)));
        roots.push(tree.root());
    }
    for size in 1_u64..=70 {
        let [before, root, after] =
            [size - 1, size, size + 1].map(|size| (size, &roots[usize::try_from(size).unwrap()]));
        let note = Checkpoint { origin: "log".to_owned(), size, root: *root.1 }.sign(&key).unwrap();
        for index in 0..size {
            let mut prover = InclusionProver::new(index, size, &Frontier::new()).unwrap();
            (0..size).for_each(|index| prover.append(leaf_hash(&line(index))));
            let proof = Proof { index, hashes: prover.finish().unwrap(), extra: Vec::new(), note: note.clone() };
            let read: Proof = proof.to_string().parse().unwrap();
            assert_eq!(read, proof);
            assert_eq!(read.verify(&line(index), key.verifying_key()).unwrap().size, size);

            let refuses = |line: &[u8], index, (size, root)| verify(line, index, size, root, &read.hashes).is_err();
            assert!(refuses(&line(index + 1), index, root), "{index} of {size}");
            for other in (0..=size).filter(|other| *other != index) {
                assert!(refuses(&line(index), other, root), "{index} of {size}, {other}");
            }
            for other in [before, after] {
                assert!(refuses(&line(index), index, other), "{index} of {size}, {other:?}");
            }
        }
    }
}
