//! New credentials: tokens of IAM, and temporary access keys.
//!
//! Their texts are random, and look like real ones.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::credentials::access_key::TemporaryKey;
use super::credentials::identity::{Permissions, Scope};
use super::credentials::token::Token;
use super::encoding::iso;
use super::world::World;

/// Upper limit of lifetimes, so that every date can be written.
pub(super) const MAX_LIFETIME: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A new token.
pub(super) fn token(world: &mut World, scope: Scope, permissions: Permissions, expires: SystemTime) -> Box<str> {
    // Real tokens are base64 without a line break, and begin like this.
    let token = long_text(world, "MIIF", "").into_boxed_str();
    let now = world.now();
    world.tokens.add(token.clone(), Token::new(scope, permissions, Some(expires)), now);
    token
}

/// A new temporary key.
pub(super) fn temporary_key(world: &mut World, permissions: Permissions, lifetime: Duration) -> TemporaryKey {
    const CAPITALS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let now = world.now();
    let lifetime = world.behaviour.temporary_key_lifetime.unwrap_or(lifetime);
    let expires = now + lifetime.min(MAX_LIFETIME);
    let mut access = "HST".to_owned();
    access.extend((3..20).map(|_| char::from(CAPITALS[world.rng.usize(..CAPITALS.len())])));
    let secret: String = (0..40).map(|_| world.rng.alphanumeric()).collect();
    let security_token = long_text(world, "gQpldS13ZXN0", "+/==");
    let key = TemporaryKey { access, secret, security_token, expires };
    world.access_keys.add_temporary(&key, permissions, now);
    key
}

/// A temporary key as IAM and the metadata service return it (`docs/kms-api.md` 5.3).
pub(super) fn credential(key: &TemporaryKey) -> Value {
    json!({"credential": {
        "access": key.access,
        "secret": key.secret,
        "securitytoken": key.security_token,
        "expires_at": iso(key.expires),
    }})
}

/// Random text with the length of a token.
fn long_text(world: &mut World, start: &str, end: &str) -> String {
    let random = world.token_length.max(36).saturating_sub(start.len() + end.len());
    let random: String = (0..random).map(|_| world.rng.alphanumeric()).collect();
    format!("{start}{random}{end}")
}
