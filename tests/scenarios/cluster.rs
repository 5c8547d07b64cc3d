//! A fake Kubernetes API server for leases: objects with versions, and a separate address for each replica.
//!
//! Written from the documentation of Kubernetes: "API Concepts" (verbs, resource versions, conflicts), "Leases", and the
//! reference of `coordination.k8s.io/v1`; patches are merge patches, RFC 7396.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::front::{Authority, Front};
use super::site::Site;
use super::stand_in::{Asked, StandIn, answer};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/";

/// The objects of a cluster.
#[derive(Clone, Default)]
pub(crate) struct Cluster(Arc<Mutex<Objects>>);

#[derive(Default)]
struct Objects {
    leases: BTreeMap<String, Value>,
    version: u64,
    /// The time of the last write to a lease.
    written: Option<SystemTime>,
}

/// The API server's address for one replica.
pub(crate) struct Door {
    server: StandIn,
    shut: Arc<AtomicBool>,
    /// Requests to this address get no answer.
    silent: Arc<AtomicBool>,
    /// Requests to this address see every lease renewed long ago, as with a clock that is ahead.
    ahead: Arc<AtomicBool>,
}

impl Cluster {
    /// A new address, which can be closed separately.
    pub(crate) fn door(&self) -> Door {
        let (cluster, [shut, silent, ahead]) = (self.clone(), <[Arc<AtomicBool>; 3]>::default());
        let (is_shut, is_silent, is_ahead) = (Arc::clone(&shut), Arc::clone(&silent), Arc::clone(&ahead));
        let server = StandIn::start(move |asked| {
            while is_silent.load(Ordering::SeqCst) {
                std::thread::park();
            }
            if is_shut.load(Ordering::SeqCst) {
                // The connection ends without an answer.
                return String::new();
            }
            let mut objects = cluster.0.lock().unwrap();
            objects.answer(asked, is_ahead.load(Ordering::SeqCst))
        });
        Door { server, shut, silent, ahead }
    }

    /// A member of the lease's `spec`.
    pub(crate) fn spec(&self, lease: &str, member: &str) -> Value {
        self.0.lock().unwrap().leases.get(lease).map_or(Value::Null, |lease| lease["spec"][member].clone())
    }

    /// The time of the last write to a lease.
    pub(crate) fn written(&self) -> SystemTime {
        self.0.lock().unwrap().written.unwrap()
    }
}

impl Door {
    pub(crate) fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
    }

    pub(crate) fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }

    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    pub(crate) fn be_ahead(&self) {
        self.ahead.store(true, Ordering::SeqCst);
    }

    /// Number of requests, answered or not.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.server.asked()
    }

    /// Sets the address of the API server in the site.
    pub(crate) fn lead(&self, site: &mut Site) {
        write_config(site, &json!({"server": self.server.url()}));
    }

    /// The same with TLS and a certificate of a private authority.
    pub(crate) fn lead_by_tls(&self, site: &mut Site) {
        let authority = Authority::new();
        let front = Front::tls(&self.server.url(), &authority);
        site.write("cluster.pem", &authority.pem);
        write_config(site, &json!({"server": front.https(), "certificate-authority": "cluster.pem"}));
    }
}

/// JSON is YAML.
fn write_config(site: &mut Site, cluster: &Value) {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": {}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    });
    site.write("kubeconfig", &config.to_string());
    let path = site.path("kubeconfig").to_str().unwrap().to_owned();
    site.set("KUBECONFIG", &path);
}

impl Objects {
    fn answer(&mut self, asked: &Asked, ahead: bool) -> String {
        let path = asked.path.split('?').next().unwrap();
        let Some((namespace, name)) = path.strip_prefix(LEASES).and_then(|rest| rest.split_once("/leases")) else {
            return failure(404, "NotFound");
        };
        let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        let name = name.strip_prefix('/').or(body["metadata"]["name"].as_str()).unwrap_or_default().to_owned();
        let id = format!("{namespace}/{name}");
        match (asked.method.as_str(), self.leases.get(&id)) {
            ("GET", Some(lease)) => {
                let mut lease = lease.clone();
                if ahead {
                    lease["spec"]["renewTime"] = "1970-01-01T00:00:00.000000Z".into();
                }
                success(200, &lease)
            }
            ("POST", None) => self.write(id, body, 201),
            ("POST", Some(_)) => failure(409, "AlreadyExists"),
            ("PUT" | "PATCH", Some(lease)) => {
                let (known, version) = (&lease["metadata"]["resourceVersion"], &body["metadata"]["resourceVersion"]);
                if !version.is_null() && version != known {
                    return failure(409, "Conflict");
                }
                if asked.method == "PUT" {
                    return self.write(id, body, 200);
                }
                assert!(asked.headers.contains("content-type: application/merge-patch+json"), "{asked:?}");
                let mut lease = lease.clone();
                merge(&mut lease, &body);
                self.write(id, lease, 200)
            }
            (_, None) => failure(404, "NotFound"),
            _ => failure(405, "MethodNotAllowed"),
        }
    }

    fn write(&mut self, id: String, mut lease: Value, status: u16) -> String {
        self.version += 1;
        self.written = Some(SystemTime::now());
        lease["metadata"]["resourceVersion"] = self.version.to_string().into();
        let text = success(status, &lease);
        self.leases.insert(id, lease);
        text
    }
}

/// RFC 7396: a value replaces, an object is merged, `null` deletes.
fn merge(into: &mut Value, patch: &Value) {
    let Some(members) = patch.as_object() else {
        into.clone_from(patch);
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let Some(object) = into.as_object_mut() else { return };
    for (name, value) in members {
        if value.is_null() {
            object.remove(name);
        } else {
            merge(object.entry(name).or_insert(Value::Null), value);
        }
    }
}

fn success(status: u16, object: &Value) -> String {
    answer(&format!("{status} OK"), "content-type: application/json\r\n", &object.to_string())
}

fn failure(code: u16, reason: &str) -> String {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason, "code": code,
        "message": format!("lease: {reason}"),
    });
    answer(&format!("{code} {reason}"), "content-type: application/json\r\n", &status.to_string())
}
