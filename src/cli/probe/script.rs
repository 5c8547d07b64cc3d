//! The fixed script of `probe`: what is read first, and what is then tried on the key.
//!
//! The first writes change nothing, and show whether the user may make all of them: a key that could not be restored is
//! left alone.

use super::conversation::{Conversation, Stop};
use super::exchange::{Expected, Setting, Situation, Step};
use crate::kms::ErrorKind;
use crate::kms::single_call::{RawAnswer, SingleCall};
use crate::rotation::key::{KeyDescription, KeyId, ListedKey, Rotation, RotationBlocker, RotationInterval};

/// What is known of the key before anything is written.
pub(super) struct Survey {
    pub(super) description: Option<KeyDescription>,
    /// The key on the list, if the list has it.
    pub(super) listed: Option<ListedKey>,
    pub(super) rotation: Option<Rotation>,
}

/// Reads the key, the list, and the status of keys that cannot rotate. Writes nothing.
pub(super) async fn survey(conversation: &mut Conversation<'_>, key_id: KeyId) -> Result<Survey, Stop> {
    let step = |call, situation, expected, section| Step { call, situation, expected, section };
    let described = step(SingleCall::Describe(key_id), Situation::UsableKey, Expected::Details, "1.3");
    let description = conversation.read(described).await?.description();
    let mut keys = Vec::new();
    for (limit, situation) in [(None, Situation::WithoutLimit), (Some("2000"), Situation::LimitOf2000)] {
        let page = conversation.read(step(SingleCall::ListKeys(limit), situation, Expected::Page, "1.4")).await?;
        keys = page.keys().unwrap_or(keys);
    }
    let rotation = match conversation.status(key_id, Expected::Status).await {
        Ok(rotation) => Some(rotation),
        Err(Stop::Failed(_)) => None,
        Err(other) => return Err(other),
    };
    let short = SingleCall::ReadStatusShortSequence(key_id);
    conversation.read(step(short, Situation::ShortSequence, Expected::Undocumented, "1.1")).await?;
    for (situation, wanted) in [
        (Situation::DefaultKey, RotationBlocker::DefaultKey),
        (Situation::AsymmetricKey, RotationBlocker::UnsupportedKeyType),
    ] {
        if let Some(key) = keys.iter().find(|key| key.description.blocker == Some(wanted)) {
            let call = SingleCall::ReadStatus(key.key_id);
            conversation.read(step(call, situation, Expected::Undocumented, "1.2")).await?;
        }
    }
    Ok(Survey { description, listed: keys.into_iter().find(|key| key.key_id == key_id), rotation })
}

/// Tries the writes on a key that was found with this setting.
pub(super) async fn run(conversation: &mut Conversation<'_>, key_id: KeyId, found: Rotation) -> Result<(), Stop> {
    // Another one than the key has, so that a reading shows each change.
    let chosen = if found.interval_days == Some(90) { 180 } else { 90 };
    let after_enabling = RotationInterval::AFTER_ENABLING.days();
    let mut writes = Writes { conversation, key_id };
    let first = if Situation::of(found) == Situation::NeverOn { Situation::Off } else { Situation::OffWithInterval };
    if let Some(interval) = found.interval().filter(|_| found.enabled) {
        writes.permitted(Write::Enable, Situation::On, Expected::Refused("KMS.2901")).await?;
        let same = Write::Interval(interval.days());
        writes.permitted(same, Situation::SameInterval, Expected::Accepted).await?;
        writes.required(Write::Disable, Situation::On, Setting::OFF).await?;
    } else {
        writes.permitted(Write::Disable, Situation::Off, Expected::Undocumented).await?;
    }
    writes.required(Write::Enable, first, Setting::ON).await?;
    writes.send(Write::Enable, Situation::On, Expected::Refused("KMS.2901"), None).await?;
    writes.shows(Setting::on(after_enabling)).await?;

    let set = Setting::on(chosen);
    writes.send(Write::Interval(chosen), Situation::On, Expected::Accepted, Some(set)).await?;
    writes.shows(set).await?;
    writes.send(Write::Interval(chosen), Situation::SameInterval, Expected::Accepted, None).await?;
    writes.shows(set).await?;
    for (days, situation) in
        [(RotationInterval::MIN_DAYS - 1, Situation::TooShort), (RotationInterval::MAX_DAYS + 1, Situation::TooLong)]
    {
        writes.send(Write::Interval(days), situation, Expected::Refused("KMS.3001"), None).await?;
    }

    writes.required(Write::Disable, Situation::On, Setting::OFF).await?;
    writes.send(Write::Interval(chosen), Situation::Off, Expected::Refused("KMS.0313"), None).await?;
    writes.shows(Setting::OFF).await?;
    writes.required(Write::Enable, Situation::OffWithInterval, Setting::ON).await?;
    writes.shows(Setting::on(after_enabling)).await
}

#[derive(Clone, Copy)]
enum Write {
    Enable,
    Disable,
    Interval(u16),
}

/// The writes to the one key.
struct Writes<'c, 'k> {
    conversation: &'c mut Conversation<'k>,
    key_id: KeyId,
}

impl Writes<'_, '_> {
    fn call(&self, write: Write) -> SingleCall {
        match write {
            Write::Enable => SingleCall::Enable(self.key_id),
            Write::Disable => SingleCall::Disable(self.key_id),
            Write::Interval(days) => SingleCall::SetInterval(self.key_id, days),
        }
    }

    async fn send(
        &mut self,
        write: Write,
        situation: Situation,
        expected: Expected,
        effect: Option<Setting>,
    ) -> Result<Option<RawAnswer>, Stop> {
        let section = if let Write::Disable = write { "1.1" } else { "1.1 and 2.2" };
        let step = Step { call: self.call(write), situation, expected, section };
        self.conversation.write(self.key_id, step, effect).await
    }

    /// A write that changes no setting yet. If it shows that this user or this cloud cannot make it, the script ends. The
    /// answer to disabling a key without rotation is not documented, so only refusals of the call as such count.
    async fn permitted(&mut self, write: Write, situation: Situation, expected: Expected) -> Result<(), Stop> {
        let answer = self.send(write, situation, expected, None).await?;
        let Some(kind) = answer.as_ref().and_then(RawAnswer::failure) else { return Ok(()) };
        let is_permitted = match expected {
            Expected::Refused(code) => answer.as_ref().is_some_and(|answer| answer.code == code),
            Expected::Undocumented => !matches!(
                kind,
                ErrorKind::Permission | ErrorKind::AccessDenied | ErrorKind::NotOffered | ErrorKind::Blocked(_)
            ),
            _ => false,
        };
        if is_permitted {
            return Ok(());
        }
        Err(self.refused(write, answer.as_ref(), "without it the key could not be restored"))
    }

    /// A write that all following ones depend on.
    async fn required(&mut self, write: Write, situation: Situation, effect: Setting) -> Result<(), Stop> {
        let answer = self.send(write, situation, Expected::Accepted, Some(effect)).await?;
        if answer.as_ref().is_none_or(RawAnswer::is_success) {
            return Ok(());
        }
        Err(self.refused(write, answer.as_ref(), "the rest of the script needs it"))
    }

    fn refused(&self, write: Write, answer: Option<&RawAnswer>, consequence: &str) -> Stop {
        let call = self.call(write);
        let hint = match answer.and_then(RawAnswer::failure) {
            Some(ErrorKind::Permission) => format!(" (the user needs the permission {})", call.permission()),
            _ => String::new(),
        };
        Stop::Failed(format!("{} is refused, and {consequence}{hint}", call.path()))
    }

    async fn shows(&mut self, setting: Setting) -> Result<(), Stop> {
        self.conversation.status(self.key_id, Expected::Shows(setting)).await.map(drop)
    }
}
