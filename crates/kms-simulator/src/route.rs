//! The call of a request: by method, path and, if two calls have the same path, body (`docs/kms-api.md` 1.1 and 5).

use hyper::Method;
use serde_json::{Map, Value};

use super::operation::Operation;
use super::workload::POD_PATH;

/// One of the services at the simulator's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Kms,
    Iam,
    /// The metadata service of an instance, and a node's agent for its pods.
    Metadata,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Kms {
        operation: Operation,
        project_id: &'a str,
        /// The key id in the path.
        key_id: Option<&'a str>,
    },
    /// One of [`OperationSet::IAM`](super::operation::OperationSet::IAM).
    Iam(Operation),
    /// One of [`OperationSet::METADATA`](super::operation::OperationSet::METADATA).
    Metadata(Operation),
    WrongMethod(Service),
    Unknown,
}

impl<'a> Route<'a> {
    pub(super) fn of(method: &Method, path: &'a str, body: Option<&Map<String, Value>>) -> Self {
        let (route, expected) = match path {
            "/v3/auth/tokens" if assumes_role(body) => (Self::Iam(Operation::AgencyToken), Method::POST),
            "/v3/auth/tokens" => (Self::Iam(Operation::Authenticate), Method::POST),
            "/v3.0/OS-CREDENTIAL/securitytokens" => (Self::Iam(Operation::TemporaryKeys), Method::POST),
            "/v3.0/OS-AUTH/id-token/tokens" => (Self::Iam(Operation::IdToken), Method::POST),
            "/v3/projects" => (Self::Iam(Operation::ListProjects), Method::GET),
            "/v5/agencies/assume-with-oidc" => (Self::Iam(Operation::AssumeWithOidc), Method::POST),
            "/meta-data/latest/api/token" => (Self::Metadata(Operation::MetadataToken), Method::PUT),
            "/openstack/latest/securitykey" => (Self::Metadata(Operation::InstanceKeys), Method::GET),
            POD_PATH => (Self::Metadata(Operation::PodKeys), Method::POST),
            _ => match path.strip_prefix("/v1.0/").and_then(|rest| rest.split_once('/')) {
                Some((project_id, call)) => match call.strip_prefix("kms/").and_then(Operation::of_kms) {
                    Some((operation, key_id)) => {
                        let gets = matches!(operation, Operation::KeyTags | Operation::ProjectTags);
                        let method = if gets { Method::GET } else { Method::POST };
                        (Self::Kms { operation, project_id, key_id }, method)
                    }
                    None => return Self::Unknown,
                },
                None => return Self::Unknown,
            },
        };
        match route.service() {
            Some(service) if *method != expected => Self::WrongMethod(service),
            _ => route,
        }
    }

    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Kms { operation, .. } | Self::Iam(operation) | Self::Metadata(operation) => operation,
            Self::WrongMethod(_) | Self::Unknown => Operation::Other,
        }
    }

    /// The key id in the path.
    pub(super) fn key_id(self) -> Option<&'a str> {
        match self {
            Self::Kms { key_id, .. } => key_id,
            _ => None,
        }
    }

    /// The service that answers; `None` for the gateway, if the path is unknown.
    pub(super) fn service(self) -> Option<Service> {
        match self {
            Self::Kms { .. } => Some(Service::Kms),
            Self::Iam(_) => Some(Service::Iam),
            Self::Metadata(_) => Some(Service::Metadata),
            Self::WrongMethod(service) => Some(service),
            Self::Unknown => None,
        }
    }
}

/// Whether a token is requested by the method `assume_role`.
fn assumes_role(body: Option<&Map<String, Value>>) -> bool {
    let methods = body.and_then(|body| body.get("auth")).and_then(|auth| auth["identity"]["methods"].as_array());
    methods.is_some_and(|methods| methods.iter().any(|method| method == "assume_role"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn routes_are_exact() {
        let post = |path| Route::of(&Method::POST, path, None);
        let enable = Route::Kms { operation: Operation::EnableRotation, project_id: "p", key_id: None };
        assert_eq!(post("/v1.0/p/kms/enable-key-rotation"), enable);
        for nowhere in [
            "",
            "/",
            "*",
            "/v1.0/p/kms/",
            "/v1.0/p/kms/enable-key-rotation/",
            "/v1/p/kms/list-keys",
            "/v1.0/p/kms/tokens",
            "/v1.0//p/kms/list-keys",
            "/v1.0/p/x/list-keys",
            "/v1.0/p/kms/resource_instances",
            "/v1.0/p/kms/a/b/tags",
            "/v3/auth/tokens/",
            "/v3/projects/p",
        ] {
            assert_eq!(post(nowhere), Route::Unknown, "{nowhere}");
        }
        let get = Route::of(&Method::GET, "/v1.0/p/kms/list-keys", None);
        assert_eq!(get, Route::WrongMethod(Service::Kms));
        assert_eq!(get.operation(), Operation::Other);
    }

    #[test]
    fn tags_are_read_with_get_and_searched_with_post() {
        let route = |method, end| Route::of(&method, end, None);
        for (method, path, operation, key_id) in [
            (Method::POST, "/v1.0/p/kms/resource_instances/action", Operation::QueryByTag, None),
            (Method::GET, "/v1.0/p/kms/0d04/tags", Operation::KeyTags, Some("0d04")),
            (Method::GET, "/v1.0/p/kms/tags", Operation::ProjectTags, None),
        ] {
            let other = if method == Method::GET { Method::POST } else { Method::GET };
            assert_eq!(route(other, path), Route::WrongMethod(Service::Kms), "{path}");
            let route = route(method, path);
            assert_eq!(route, Route::Kms { operation, project_id: "p", key_id });
            assert_eq!(route.key_id(), key_id);
        }
    }

    #[test]
    fn each_call_of_iam_and_of_the_metadata_service_has_its_own_method() {
        for (path, method, route) in [
            ("/v3/auth/tokens", Method::POST, Route::Iam(Operation::Authenticate)),
            ("/v3.0/OS-CREDENTIAL/securitytokens", Method::POST, Route::Iam(Operation::TemporaryKeys)),
            ("/v3.0/OS-AUTH/id-token/tokens", Method::POST, Route::Iam(Operation::IdToken)),
            ("/v3/projects", Method::GET, Route::Iam(Operation::ListProjects)),
            ("/v5/agencies/assume-with-oidc", Method::POST, Route::Iam(Operation::AssumeWithOidc)),
            (POD_PATH, Method::POST, Route::Metadata(Operation::PodKeys)),
            ("/meta-data/latest/api/token", Method::PUT, Route::Metadata(Operation::MetadataToken)),
            ("/openstack/latest/securitykey", Method::GET, Route::Metadata(Operation::InstanceKeys)),
        ] {
            assert_eq!(Route::of(&method, path, None), route);
            for other in [Method::GET, Method::PUT, Method::POST].into_iter().filter(|other| *other != method) {
                assert_eq!(Route::of(&other, path, None), Route::WrongMethod(route.service().unwrap()), "{path}");
            }
        }
    }

    #[test]
    fn a_token_of_an_agency_is_a_separate_call() {
        let route = |methods: Value| {
            let body = json!({"auth": {"identity": {"methods": methods}}});
            Route::of(&Method::POST, "/v3/auth/tokens", body.as_object()).operation()
        };
        assert_eq!(route(json!(["assume_role"])), Operation::AgencyToken);
        assert_eq!(route(json!(["password"])), Operation::Authenticate);
        assert_eq!(route(json!(7)), Operation::Authenticate);
    }
}
