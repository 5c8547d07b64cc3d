//! What a process must know of a key from earlier runs, so that a later process can continue where it ended.

use std::time::SystemTime;

use super::key::{RotationBlocker, RotationInterval};
use super::material::History;

/// What earlier runs have left of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPast {
    /// What its readings have shown.
    pub history: History,
    /// When it was last repaired.
    pub repairs: Vec<SystemTime>,
    /// What blocks its rotation, from the refusal of a write; and when that was.
    pub refused: Option<(RotationBlocker, SystemTime)>,
    /// What keeps it from rotating for now, as last seen: it is disabled or pending deletion.
    pub described: Option<RotationBlocker>,
    /// The interval that is still to be sent to a key whose setting cannot be read, since it was switched on.
    pub interval_due: Option<RotationInterval>,
}
