//! The manifests: they mount the files that the policy reads, and each pod conforms to the restricted profile.
//! `tests/tools/manifests.rs` checks them with kustomize and Kubernetes' schemas.
//!
//! The alerts exist a second time, as a resource of the Prometheus operator. To write that file again after
//! a change of the rules: `UPDATE_DOCS=1 cargo test --test scenarios documents::kubernetes`.

use std::path::Path;

use kms_rotationd::policy::types::Credentials;
use serde_json::Value;

use super::alerts::with_runbooks;
use super::repository::{root, text, updates};
use super::resources::{FOLDER, documents, list, named, resources};
use super::valid;

fn resource(kind: &str, name: &str) -> Value {
    let found = resources().into_iter().find(|(_, at)| at["kind"] == kind && at["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}")).1
}

/// Every pod of the manifests, with its file.
fn pods() -> Vec<(String, Value)> {
    let pod = |document: &Value| match document["kind"].as_str() {
        Some("Deployment" | "StatefulSet") => Some(document["spec"]["template"].clone()),
        Some("CronJob") => Some(document["spec"]["jobTemplate"]["spec"]["template"].clone()),
        _ => None,
    };
    resources().into_iter().filter_map(|(file, document)| Some((file, pod(&document)?))).collect()
}

/// The credentials of the policy's one project.
fn credentials(policy: &str) -> Credentials {
    valid(policy, "policy.yaml").projects.remove(0).credentials
}

#[test]
fn each_pod_mounts_the_policy_and_the_secret_that_the_policy_reads() {
    let Credentials::Password { password_file, .. } = credentials(&text(&format!("{FOLDER}/policy.yaml"))) else {
        panic!("the secret is a password");
    };
    let pods = pods();
    assert_eq!(pods.len(), 4, "a pod of its own, several of them, a job, a sidecar");
    for (file, pod) in pods {
        let container = named(list(&pod["spec"], "containers"), "kms-rotationd");
        assert_eq!(container["image"], concat!("kms-rotationd:", env!("CARGO_PKG_VERSION")), "{file}");
        let mounts = list(container, "volumeMounts");
        assert_eq!(named(mounts, "policy")["mountPath"], "/etc/kms-rotationd", "{file}");
        assert_eq!(named(mounts, "secret")["mountPath"], password_file.parent().unwrap().to_str().unwrap(), "{file}");
        let is_right =
            |mount: &Value| mount["subPath"].is_null() && (mount["readOnly"] == true || mount["name"] == "evidence");
        assert!(mounts.iter().all(is_right), "{file}");
        let volumes = list(&pod["spec"], "volumes");
        assert_eq!(named(volumes, "policy")["configMap"]["name"], "kms-rotationd", "{file}");
        assert_eq!(named(volumes, "secret")["secret"]["secretName"], "kms-rotationd", "{file}");
    }
}

/// A file in which each block in comments replaces the lines before it under the same parent.
fn with_alternatives(manifest: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in manifest.lines() {
        let text = line.trim_start();
        let indent = line.len() - text.len();
        // An alternative begins with a field alone; its other lines are indented further.
        let is_first = text.strip_prefix("# ").is_some_and(|text| text.ends_with(':') && !text.contains(' '));
        if indent > 0 && is_first {
            while lines.last().is_some_and(|line| line.len() - line.trim_start().len() >= indent) {
                lines.pop();
            }
        }
        let continues = text.starts_with("#   ");
        let line = if indent > 0 && (is_first || continues) { line.replacen("# ", "", 1) } else { line.to_owned() };
        lines.push(line);
    }
    lines.join("\n")
}

#[test]
fn the_alternative_to_the_secret_reads_the_token_that_is_projected() {
    let policy = with_alternatives(&text(&format!("{FOLDER}/policy.yaml")));
    let Credentials::IdToken { token_file, .. } = credentials(&policy) else {
        panic!("the alternative is workload identity: {policy}");
    };
    let manifest = documents(&with_alternatives(&text(&format!("{FOLDER}/deployment.yaml"))));
    let pod = &manifest.iter().find(|document| document["kind"] == "Deployment").unwrap()["spec"]["template"]["spec"];
    let volume = named(list(pod, "volumes"), "secret");
    assert!(volume["secret"].is_null(), "it takes the place of the secret: {volume}");
    let projected = &volume["projected"]["sources"][0]["serviceAccountToken"];
    let mount = named(list(&pod["containers"][0], "volumeMounts"), "secret");
    let path = [&mount["mountPath"], &projected["path"]].map(|part| part.as_str().unwrap()).join("/");
    assert_eq!(token_file, Path::new(&path));
    assert!(projected["audience"].is_string() && projected["expirationSeconds"].as_u64() >= Some(600), "{projected}");
}

#[test]
fn each_pod_conforms_to_the_restricted_profile_and_requests_resources() {
    for (file, pod) in pods() {
        let spec = &pod["spec"];
        let own = &spec["securityContext"];
        assert_eq!((&own["runAsNonRoot"], &own["seccompProfile"]["type"]), (&true.into(), &"RuntimeDefault".into()));
        let daemon = named(list(spec, "containers"), "kms-rotationd");
        // Only a lease needs the API of the cluster.
        let has_lease =
            daemon["env"].as_array().is_some_and(|env| env.iter().any(|it| it["name"] == "KMS_ROTATIOND_LEASE"));
        assert_eq!(spec["automountServiceAccountToken"], has_lease, "{file}");
        for forbidden in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(spec[forbidden].is_null(), "{file}: {forbidden}");
        }
        for volume in list(spec, "volumes") {
            let kind = volume.as_object().unwrap().keys().find(|field| *field != "name").unwrap();
            assert!(["configMap", "secret", "projected"].contains(&&**kind), "{file}: {kind}");
        }
        for container in list(spec, "containers") {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{file}: {container}");
            assert_eq!(context["capabilities"], serde_json::json!({"drop": ["ALL"]}), "{file}: {container}");
            assert!(context["privileged"].is_null() && context["runAsNonRoot"].is_null(), "{file}: {container}");
            let resources = &container["resources"];
            assert!(resources["requests"]["cpu"].is_string() && resources["limits"]["memory"].is_string(), "{file}");
        }
        assert_eq!(daemon["securityContext"]["readOnlyRootFilesystem"], true, "{file}");
        let user = [&own["runAsUser"], &daemon["securityContext"]["runAsUser"]];
        assert!(user.iter().any(|user| **user == 65532), "{file}: the Containerfile's user");
    }
}

#[test]
fn there_is_never_more_than_one_daemon() {
    let spec = &resource("Deployment", "kms-rotationd")["spec"];
    assert_eq!((&spec["replicas"], &spec["strategy"]["type"]), (&1.into(), &"Recreate".into()));
    let container = named(list(&spec["template"]["spec"], "containers"), "kms-rotationd");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    let job = &resource("CronJob", "kms-rotationd-apply")["spec"];
    assert_eq!((&job["concurrencyPolicy"], &job["jobTemplate"]["spec"]["backoffLimit"]), (&"Forbid".into(), &0.into()));
}

#[test]
fn prometheus_can_scrape_the_pod_with_the_job_name_of_the_alerts() {
    let pod = resource("Deployment", "kms-rotationd")["spec"]["template"].clone();
    let labels = pod["metadata"]["labels"].as_object().unwrap();
    let meets = |selector: &Value| selector.as_object().unwrap().iter().all(|(key, value)| labels[key] == *value);
    let container = named(list(&pod["spec"], "containers"), "kms-rotationd");
    let port = named(list(container, "ports"), "http")["containerPort"].clone();

    let service = resource("Service", "kms-rotationd");
    assert!(meets(&service["spec"]["selector"]));
    let monitor = &resource("ServiceMonitor", "kms-rotationd")["spec"];
    assert_eq!(monitor["selector"]["matchLabels"], service["metadata"]["labels"]);
    assert_eq!(monitor["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "http");
    let job = &service["metadata"]["labels"][monitor["jobLabel"].as_str().unwrap()];
    let prometheus: Value = serde_saphyr::from_str(&text("config/prometheus/prometheus.yaml")).unwrap();
    let scrape = &list(&prometheus, "scrape_configs")[0];
    assert_eq!(scrape["job_name"], *job);
    // The program's labels take precedence over target labels.
    assert_eq!((&scrape["honor_labels"], &monitor["endpoints"][0]["honorLabels"]), (&true.into(), &true.into()));

    let network = &resource("NetworkPolicy", "kms-rotationd")["spec"];
    assert!(meets(&network["podSelector"]["matchLabels"]));
    assert_eq!(network["ingress"][0]["ports"][0]["port"], port);
}

#[test]
fn the_rules_for_the_operator_equal_those_for_prometheus() {
    let file = format!("{FOLDER}/monitoring/prometheus-rule.yaml");
    let mut rule = "# Generated by a test from config/prometheus/thresholds.yaml and rules.yaml.\n\
                    apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\n\
                    metadata:\n  name: kms-rotationd\n  labels:\n    app.kubernetes.io/name: kms-rotationd\n\
                    spec:\n  groups:\n"
        .to_owned();
    for source in ["thresholds.yaml", "rules.yaml"].map(|name| text(&format!("config/prometheus/{name}"))) {
        // Another test may be writing its generated parts at the same time.
        let source = if updates() { with_runbooks(&source) } else { source };
        for line in source.split_once("\ngroups:\n").unwrap().1.lines() {
            let indent = if line.is_empty() { "" } else { "  " };
            rule.extend([indent, line, "\n"]);
        }
    }
    if updates() {
        std::fs::write(root().join(&file), &rule).unwrap();
    }
    assert!(text(&file) == rule, "{file} is not what the rules say; see the top of this test");

    // In the operator's schema `expr` is an integer or a string.
    let written: Value = serde_saphyr::from_str(&rule).unwrap();
    let groups = list(&written["spec"], "groups").iter();
    let expressions = groups.flat_map(|group| list(group, "rules")).map(|rule| &rule["expr"]);
    assert!(expressions.clone().count() > 20 && expressions.clone().all(|expr| expr.is_string() || expr.is_i64()));
}

#[test]
fn the_example_patch_changes_the_threshold_that_it_names() {
    let kustomization = text(&format!("{FOLDER}/monitoring/kustomization.yaml"));
    let path = kustomization.split("path: ").nth(1).unwrap().split("/expr").next().unwrap();
    let rule = resource("PrometheusRule", "kms-rotationd").pointer(path).unwrap().clone();
    assert_eq!((&rule["labels"]["of"], &rule["expr"]), (&"success_age_warning_seconds".into(), &"24 * 3600".into()));
}
