//! The one place where a request, the rules for faults and the world meet: finds the call, decides on a fault, has the
//! call carried out, and records it.
//!
//! [`respond`] is synchronous: all changes of a request are made and recorded before the first byte of the answer is
//! sent. `server` calls it under the lock and waits for delays afterwards.

use serde_json::{Map, Value};

use super::answer::Answer;
use super::delivery::{Delivery, Reply};
use super::encoding::http_date;
use super::fault::WrongAnswer;
use super::journal::Call;
use super::key::is_key_id;
use super::operation::{Operation, OperationSet};
use super::request::Request;
use super::route::{Route, Service};
use super::world::World;
use super::{access, iam, kms, metadata};

/// Carries out a request, with the fault that is due.
pub(super) fn respond(world: &mut World, request: &Request<'_>) -> Reply {
    world.catch_up();
    let request_id = world.request_id();
    let body = request.body.and_then(|body| serde_json::from_slice::<Map<String, Value>>(body).ok());
    let route = Route::of(request.method, request.path, body.as_ref());
    let operation = route.operation();
    let in_body = body.as_ref().and_then(|body| body.get("key_id")).and_then(Value::as_str);
    let key_id = route.key_id().or(in_body);
    world.counts.add(operation);
    world.access_keys.count_request(request);

    let decision = world.fault_rules.decide(operation, key_id);
    let takes_effect = |answer: &Answer| OperationSet::WRITES.contains(operation) && answer.status == 200;
    let (answer, delivery, applied) = match decision.fault() {
        None => {
            let answer = carry_out(world, route, request, body.as_ref(), &request_id, None);
            let applied = takes_effect(&answer);
            (answer, Delivery::Whole, applied)
        }
        Some(fault) => {
            let wrong = fault.wrong_answer();
            let carried_out =
                fault.carries_out().then(|| carry_out(world, route, request, body.as_ref(), &request_id, wrong));
            let applied = carried_out.as_ref().is_some_and(takes_effect);
            let counted = carried_out.as_ref().is_some_and(|answer| answer.status == 401);
            let (answer, delivery) = fault.apply(carried_out, &request_id);
            if answer.status == 401 && !counted && route.service() != Some(Service::Metadata) {
                access::authentication_failed(world, request);
            }
            (answer, delivery, applied)
        }
    };

    let at = world.now();
    if let Route::Kms { project_id, .. } = route
        && let Some(key_id) = key_id.filter(|key_id| is_key_id(key_id))
        && let Some(project) = world.projects.get_mut(project_id)
    {
        let interval = body.as_ref().and_then(|body| body.get("rotation_interval")).cloned();
        let status = (!matches!(delivery, Delivery::Reset | Delivery::Hang)).then_some(answer.status);
        project.journal.record(key_id, Call { at, operation, interval, status, applied }, world.journal);
    }
    tracing::debug!(operation = operation.as_str(), status = answer.status, ?delivery, %request_id, "answered");
    let date = http_date(at, world.behaviour.date_offset_seconds);
    Reply { answer, delay: decision.delay, hold: decision.hold, delivery, request_id, service: route.service(), date }
}

/// Carries out the call, without a fault other than an answer that is wrong in a part.
fn carry_out(
    world: &mut World,
    route: Route<'_>,
    request: &Request<'_>,
    body: Option<&Map<String, Value>>,
    request_id: &str,
    wrong: Option<WrongAnswer>,
) -> Answer {
    if request.body.is_none() {
        return Answer::gateway(413, "APIGW.0201", "The request body is too large", request_id);
    }
    if world.behaviour.unknown.contains(route.operation()) {
        return match route.service() {
            Some(Service::Metadata) => Answer::html(404),
            _ => Answer::no_such_api(request_id),
        };
    }
    match route {
        Route::Kms { operation, project_id, key_id } => {
            access::admit(world, request, project_id, operation, request_id)
                .and_then(|()| match operation {
                    Operation::KeyTags | Operation::ProjectTags => kms::read_tags(world, project_id, key_id),
                    _ => kms::answer(world, operation, project_id, request, body, wrong),
                })
                .unwrap_or_else(|refusal| refusal)
        }
        Route::Iam(operation) => {
            iam::answer(world, operation, request, body, request_id).unwrap_or_else(|refusal| refusal)
        }
        Route::Metadata(operation) => metadata::answer(world, operation, request.headers, body),
        Route::WrongMethod(Service::Kms) => Answer::kms(405, "KMS.0215", "The method is not allowed."),
        Route::WrongMethod(Service::Iam) => {
            Answer::iam(405, "Method Not Allowed", "The method is not allowed for the requested URL.")
        }
        Route::WrongMethod(Service::Metadata) => Answer::html(405),
        Route::Unknown => Answer::no_such_api(request_id),
    }
}
