//! The script in the help of `apply`, which needs jq.

use kms_simulator::{Key, KeyState};

use super::cloud::{Cloud, rotating};
use super::help::{example, in_a_shell};
use super::key_id;
use super::site::{Policy, Site};

pub(crate) fn the_script_in_the_help_of_apply_lists_only_keys_off_policy_or_unknown() {
    let keys = [rotating(90), Key::new(key_id(0)).state(KeyState::Disabled), Key::new(key_id(1)), Key::new(key_id(3))];
    let cloud = Cloud::of(keys);
    let policy = Policy::of_one_key(cloud.url()).key(&key_id(0), 90).key(&key_id(2), 90);
    let policy = policy.entry(&format!("{{key_id: {}, exempt: {{reason: retired}}}}", key_id(1)));
    let line = example("apply", "List the keys");
    assert!(line.contains(" | jq "), "{line}");
    let listed = in_a_shell(&Site::new(&policy), &line).stdout;
    assert_eq!(listed, format!("{}\n{}\nwent on\n", key_id(0), key_id(2)), "neither exempt nor uncovered ones");
}
