//! What to do about a reason: the one text for the log, the page, the alerts and docs/monitoring.md.
//!
//! Each text is short enough for a log line, and has its first step first. Commands and fields are in backquotes.

use super::decide::{Reason, Reasons};

/// The reasons for which a run repairs a key, unless another reason shows why it did not.
const REPAIRABLE: [Reason; 3] = [Reason::RotationDisabled, Reason::IntervalMismatch, Reason::IntervalTooLong];

/// Reasons that concern the key material, and explain no setting.
const OF_THE_MATERIAL: [Reason; 3] = [Reason::RotationOverdue, Reason::MaterialTooOld, Reason::RotationUnproven];

const SETTING: &str = "In enforce mode the next run repairs it, or another reason shows why not. In monitor mode, \
    `kms-rotationd plan` shows the change: set `mode: enforce`, change the key by hand, or add an entry with `exempt`.";

/// What to do about a reason.
#[must_use]
pub fn remedy(reason: Reason) -> &'static str {
    match reason {
        Reason::AuthenticationFailed => {
            "Read the error: it names the refused request or the file. `kms-rotationd check` reports missing files, and \
             which variables are used. In IAM, check that the user or agency exists, is enabled and not locked, and has \
             the secret of the file. The next run uses a corrected secret (with systemd's `LoadCredential`, run \
             `systemctl restart kms-rotationd`); `systemctl reload kms-rotationd` tries an unchanged one at once."
        }
        Reason::LoginUnavailable => {
            "Each run tries again. If it lasts, check that this machine can reach the login service: `iam_endpoint`, \
             name resolution, firewall, proxy."
        }
        Reason::NotFound => {
            "Is the key in another project or region? Correct `key_id`, `alias`, `project_id` or `region`. Was it \
             deleted? Remove the entry."
        }
        Reason::KeyDisabled => {
            "Enable the key in the KMS console: the next run sets its rotation. If it stays disabled, add an entry with \
             `exempt`."
        }
        Reason::PendingDeletion => {
            "If the key is still needed, cancel the deletion now: after the waiting period its data cannot be decrypted. \
             Otherwise add an entry with `exempt`, and remove it once the key is gone."
        }
        Reason::RotationDisabled | Reason::IntervalMismatch | Reason::IntervalTooLong => SETTING,
        Reason::RotationOverdue => {
            "In the cloud's audit log (Cloud Trace Service), look for updateKeyRotationInterval, enableKeyRotation and \
             disableKeyRotation of the key, and stop the tool that sends them: each one starts the period again. The \
             console lists 7 days; older events are in a tracker's bucket. If there are none, open a ticket with the \
             cloud's support: give the key id, its last rotation and its interval."
        }
        Reason::MaterialTooOld => {
            "If its rotation is due soon, wait: the cloud rotates no key on demand. If waiting is not allowed, create a \
             new key and move the data to it. If the key is disabled, enable it: an overdue key is rotated within a day."
        }
        Reason::StatusUnreadable => {
            "Check that `kms_endpoint`, if set, is the right address. Otherwise nothing can be repaired: this cloud does \
             not offer the call. Use `run` with it, not `apply` by a timer."
        }
        Reason::ReadFailed => {
            "Read the error. HTTP 5xx or timeout: the next run tries again; if it lasts, give the request id to the \
             cloud's support. No connection: check `kms_endpoint`, name resolution and firewall. Certificate: set \
             `ca_file`. Proxy: correct `proxy` or `HTTPS_PROXY`. Open files: raise `LimitNOFILE`."
        }
        Reason::WriteFailed => {
            "Read the error for the cloud's code and message, and remove the cause: each run tries again. If the message \
             does not help, give the request id to the cloud's support."
        }
        Reason::AccessDenied => {
            "Grant the user the permission that the error names: `kms:cmk:getRotation` to read, \
             `kms:cmk:enableRotation` and `kms:cmk:updateRotation` to write, `kms:cmk:list` to list. If it names none, \
             check `project_id`, and that the account is in good standing."
        }
        Reason::Throttled => {
            "Create a separate user for this program: the cloud counts requests by user, and allows 20 a second. Or \
             lower `limits.requests_per_second`, or run less often (`schedule.cron`)."
        }
        Reason::NotVerified => {
            "Wait for the next run, which reads again. If it lasts, give the request id of the change to the cloud's \
             support."
        }
        Reason::RotationUnproven => {
            "Grant `kms:cmk:list` or `kms:cmk:get`, so that the creation can be read, and check this machine's clock. A \
             single contradiction passes with the next reading; one that stays is for the cloud's support."
        }
        Reason::DefaultKey => {
            "Nothing. If the data must be under a key that rotates, use a key of your own in that service."
        }
        Reason::ImportedMaterial => {
            "Nothing. If it must rotate, import new material by your own procedure, or move to a key whose material the \
             KMS creates."
        }
        Reason::UnsupportedKeyType => "Nothing: only keys of `AES_256` and `SM4` can rotate.",
        Reason::CustomKeystore => "Nothing: the cloud cannot rotate keys of a dedicated HSM.",
        Reason::ReplicaKey => "Check that the policy has an entry for the primary key in its own region.",
        Reason::RotationUnsupported => {
            "Nothing. The key is checked again, so a region that gets rotation later is noticed."
        }
        Reason::Exempted => "Nothing.",
        Reason::ExemptionEndsSoon => {
            "Ask the author of the entry. Set a later `until`, or remove the entry; `kms-rotationd plan` shows what will \
             change."
        }
        Reason::AmbiguousEntry => "Replace `alias` by `key_id`, with one entry for each key, or rename a key.",
        Reason::ChangeLimit => {
            "Run `kms-rotationd plan`. If all changes are intended, wait for the next runs, or make them at once with \
             `kms-rotationd apply --allow-many`. If not, stop the daemon and correct the selectors."
        }
        Reason::Flapping => {
            "In the cloud's audit log (Cloud Trace Service), find out who changes the key: often another tool with its \
             own setting. Decide which of the two applies. Then `systemctl reload kms-rotationd` repairs the key at once."
        }
        Reason::Uncovered => {
            "Add an entry that matches the key, for example `select: {}` for every key, or an entry with `exempt` and a \
             reason."
        }
    }
}

/// The reasons of a key that call for an action, the most important first: a wrong setting is left out if another reason
/// shows why it was not repaired.
pub fn actionable(reasons: Reasons) -> impl Iterator<Item = Reason> {
    let is_explained = reasons.iter().any(|reason| !REPAIRABLE.contains(&reason) && !OF_THE_MATERIAL.contains(&reason));
    reasons.iter().filter(move |reason| !(is_explained && REPAIRABLE.contains(reason)))
}

/// What to do about a key with these reasons, the most important first.
#[must_use]
pub fn of(reasons: Reasons) -> Option<String> {
    let mut texts: Vec<_> = actionable(reasons).map(remedy).collect();
    texts.dedup();
    (!texts.is_empty()).then(|| texts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_fits_into_a_log_line_and_a_table() {
        for reason in Reason::ALL {
            let text = remedy(*reason);
            assert!(text.len() < 520 && text.ends_with('.'), "{reason}: {} bytes", text.len());
            assert!(
                !text.contains(['|', '\n', '"']) && text.matches('`').count().is_multiple_of(2),
                "{reason}: {text}"
            );
        }
    }

    #[test]
    fn a_wrong_setting_is_left_out_where_another_reason_explains_it() {
        let of = |reasons: &[Reason]| {
            let set = reasons.iter().fold(Reasons::NONE, |set, reason| set.with(*reason));
            actionable(set).collect::<Vec<_>>()
        };
        assert_eq!(of(&[Reason::RotationDisabled]), [Reason::RotationDisabled]);
        assert_eq!(of(&[Reason::RotationDisabled, Reason::AccessDenied]), [Reason::AccessDenied]);
        assert_eq!(
            of(&[Reason::IntervalMismatch, Reason::MaterialTooOld]),
            [Reason::IntervalMismatch, Reason::MaterialTooOld]
        );
    }
}
