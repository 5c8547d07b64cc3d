//! What can happen to one call, and the plan of a run: which of its calls it happens to.

use kms_rotationd::kms::observe::Operation;

/// How a call ends instead of as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// A write does not reach the cloud, and the client cannot know that.
    NotApplied,
    /// A write is applied and its answer is lost.
    AppliedAndLost,
    /// Server errors until the retries end; a write was not applied.
    ServerError,
    /// The same, and the write was applied.
    ServerErrorApplied,
    /// Enabling is applied and answered with a server error, and its repetition with `KMS.2901`.
    RepeatedAfterServerError,
    /// 429 until the retries end.
    Throttled,
    /// 403.
    Refused,
    /// An answer that is not understood; a write was not applied.
    Garbage,
    /// 401: the login is refused.
    Login,
    /// The write is applied, and the next readings do not show it.
    Late,
    /// The same, and the interval is refused until a reading shows rotation on.
    LateEverywhere,
    /// The write is applied, and no reading of this run shows it.
    Hidden,
    /// The answer comes after more than a minute.
    Slow,
    /// A reading without the setting, as from a cloud that does not offer the call.
    NotOffered,
    /// A reading with rotation on and no interval.
    IntervalMissing,
}

/// What ends the process after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Interruption {
    /// It is killed: the answer of this call does not reach it.
    Kill,
    /// It is asked to stop.
    Stop,
}

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Decision {
    /// The call's number in its run.
    pub(super) call: usize,
    pub(super) fault: Option<Fault>,
    pub(super) interruption: Option<Interruption>,
}

/// What happens to the calls of a run, in their order. Nothing happens to the others.
pub(super) type Plan = Vec<Decision>;

/// The faults that a call can have.
pub(super) fn faults_of(operation: Operation) -> &'static [Fault] {
    use Fault::{
        AppliedAndLost, Garbage, Hidden, IntervalMissing, Late, LateEverywhere, Login, NotApplied, NotOffered, Refused,
        RepeatedAfterServerError, ServerError, ServerErrorApplied, Slow, Throttled,
    };
    match operation {
        Operation::ReadStatus => &[ServerError, Throttled, Refused, Garbage, Login, NotOffered, IntervalMissing, Slow],
        Operation::EnableRotation => &[
            NotApplied,
            AppliedAndLost,
            ServerError,
            ServerErrorApplied,
            RepeatedAfterServerError,
            Throttled,
            Refused,
            Garbage,
            Login,
            Late,
            LateEverywhere,
            Hidden,
            Slow,
        ],
        Operation::UpdateInterval => &[
            NotApplied,
            AppliedAndLost,
            ServerError,
            ServerErrorApplied,
            Throttled,
            Refused,
            Garbage,
            Login,
            Late,
            Hidden,
            Slow,
        ],
        Operation::DescribeKey => &[ServerError, Refused, Login, Slow],
        Operation::ListKeys => &[ServerError, Refused, Login],
        Operation::Authenticate => &[],
    }
}

/// Everything that can happen to a call, as far as it makes a difference. A killed process does not see the answer, so
/// only what becomes of a write differs there; a call that was not applied is the same as a kill after the call before.
pub(super) fn decisions(call: usize, operation: Operation, may_interrupt: bool) -> Vec<Decision> {
    let faults = faults_of(operation);
    let mut all: Vec<_> =
        faults.iter().map(|fault| Decision { call, fault: Some(*fault), interruption: None }).collect();
    if may_interrupt {
        all.push(Decision { call, fault: None, interruption: Some(Interruption::Kill) });
        let late = faults.iter().filter(|fault| matches!(fault, Fault::Late | Fault::LateEverywhere));
        all.extend(late.map(|fault| Decision { call, fault: Some(*fault), interruption: Some(Interruption::Kill) }));
        let with = std::iter::once(None).chain(faults.iter().copied().map(Some));
        all.extend(with.map(|fault| Decision { call, fault, interruption: Some(Interruption::Stop) }));
    }
    all
}
