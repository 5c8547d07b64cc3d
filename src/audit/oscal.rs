//! The report as OSCAL 1.1.3 assessment results: a result for each log, with an observation and a finding for each key.

use std::io::{self, BufWriter, Write};

use serde_json::{Value, json};

use super::ids::Ids;
use super::model::{Key, Observer, Report, Verdict};
use super::words;
use crate::support::printable::printable;

/// The control of NIST SP 800-53 that key rotation is part of: cryptographic key establishment and management.
const CONTROL: &str = "sc-12";
const OBJECTIVE: &str = "sc-12_obj";
/// Of this program's properties.
const NAMESPACE: &str = "https://kms-rotationd.invalid/ns/oscal";

/// Writes the document.
///
/// # Errors
///
/// The destination cannot be written.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    let ids = Ids::new(report);
    let plan = ids.of("plan", &[]);
    let simulated = if report.simulated { "SIMULATED: " } else { "" };
    let results: Vec<_> = report.observers.iter().map(|observer| result(report, &ids, observer)).collect();
    let document = json!({"assessment-results": {
        "uuid": ids.report(),
        "metadata": {
            "title": format!("{simulated}Key rotation, {} to {}", report.period.from, report.period.to),
            "last-modified": report.as_of,
            "version": report.version,
            "oscal-version": "1.1.3",
            "props": [
                property("simulated", &report.simulated.to_string()),
                property("log-verified", &report.verified.to_string()),
            ],
        },
        "import-ap": {"href": format!("#{plan}")},
        "results": results,
        "back-matter": {"resources": [{
            "uuid": plan,
            "title": "Rotation policy",
            "description": "The assessment follows the rotation policy of kms-rotationd. Its digests are in the \
                properties of each result, and its text is in the evidence log.",
        }]},
    }});
    serde_json::to_writer(&mut out, &document)?;
    out.write_all(b"\n")?;
    out.flush()
}

fn property(name: &str, value: &str) -> Value {
    json!({"name": name, "ns": NAMESPACE, "value": line(value)})
}

/// A text in the form of OSCAL's strings: not empty, and without blanks around it.
fn line(text: &str) -> String {
    let text = printable(text);
    let text = text.trim();
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

fn result(report: &Report, ids: &Ids, observer: &Observer) -> Value {
    let of = |kind: &str, key: &Key| ids.of(kind, &[&observer.origin, &key.project, &key.key_id]);
    let mut properties = vec![
        property("log-origin", &observer.origin),
        property("newest-record", &observer.newest_record_at.to_string()),
    ];
    for log in &observer.logs {
        properties.push(property("log-size", &log.size.to_string()));
        properties.push(property("log-root", &log.root));
    }
    properties.extend(observer.policies.iter().map(|policy| property("policy-sha256", &policy.sha256)));
    let mut result = json!({
        "uuid": ids.of("result", &[&observer.origin]),
        "title": line(&format!("Key rotation by the log {}", observer.origin)),
        "description": format!(
            "{} met, {} not met, {} not shown, {} not applicable. {}",
            observer.totals.met, observer.totals.not_met, observer.totals.not_shown,
            observer.totals.not_applicable, words::CLAIM
        ),
        "start": report.period.begins_at,
        "end": report.period.ends_at,
        "props": properties,
        "reviewed-controls": {"control-selections": [{"include-controls": [{"control-id": CONTROL}]}]},
    });
    // Empty lists are not allowed.
    let items: Vec<_> = observer.keys.iter().map(|key| item(key, &of("item", key))).collect();
    let observations: Vec<_> = observer.keys.iter().map(|key| observation(key, &of)).collect();
    let judged = observer.keys.iter().filter(|key| key.verdict != Verdict::NotApplicable);
    let findings: Vec<_> = judged.map(|key| finding(key, &of)).collect();
    if !items.is_empty() {
        result["local-definitions"] = json!({"inventory-items": items});
        result["observations"] = observations.into();
    }
    if !findings.is_empty() {
        result["findings"] = findings.into();
    }
    result
}

fn name(key: &Key) -> String {
    line(key.alias.as_deref().unwrap_or(&key.key_id))
}

fn item(key: &Key, uuid: &str) -> Value {
    json!({
        "uuid": uuid,
        "description": format!("KMS key {} in project {}", name(key), key.project),
        "props": [
            {"name": "asset-type", "value": "cryptographic-key"},
            {"name": "asset-id", "value": line(&key.key_id)},
            property("project", &key.project),
        ],
    })
}

fn observation(key: &Key, of: &impl Fn(&str, &Key) -> String) -> Value {
    let mut properties = vec![
        property("verdict", key.verdict.as_str()),
        property("status", key.state.status.as_str()),
        property("rotations", &key.rotations.len().to_string()),
        property("days", &key.days.to_string()),
        property("days-not-looked", &key.days_not_looked.to_string()),
        property("share-on-policy", &format!("{:.6}", key.shares.compliant)),
    ];
    properties.extend(key.state.material_since.map(|since| property("material-since", &since.to_string())));
    let stretches = key.off_policy.iter().chain(&key.not_shown);
    let details: Vec<_> = stretches.map(|stretch| words::stretch(stretch).to_string()).collect();
    let because = words::not_applicable(key).into_iter().chain(details).collect::<Vec<_>>().join("; ");
    json!({
        "uuid": of("observation", key),
        "title": line(&format!("{}: {}", name(key), words::verdict(key.verdict))),
        "description": line(&format!("Setting {}, policy {}. {because}",
            words::setting(key.state.setting), words::required(key.state.required))),
        "props": properties,
        "methods": ["TEST"],
        "subjects": [{"subject-uuid": of("item", key), "type": "inventory-item"}],
        "collected": key.to,
    })
}

fn finding(key: &Key, of: &impl Fn(&str, &Key) -> String) -> Value {
    let (state, reason) = match key.verdict {
        Verdict::Met => ("satisfied", "pass"),
        Verdict::NotMet => ("not-satisfied", "fail"),
        // What is not shown is never satisfied.
        Verdict::NotShown | Verdict::NotApplicable => ("not-satisfied", "other"),
    };
    json!({
        "uuid": of("finding", key),
        "title": line(&format!("Rotation of {}", name(key))),
        "description": line(&format!("Rotation policy {}. {}", words::verdict(key.verdict), words::why(key))),
        "target": {
            "type": "objective-id",
            "target-id": OBJECTIVE,
            "status": {"state": state, "reason": reason},
        },
        "related-observations": [{"observation-uuid": of("observation", key)}],
    })
}
