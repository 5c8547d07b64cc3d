//! The report as OCSF 1.5.0 events: one Compliance Finding (class 2003) for each key and log, one in a line.

use std::io::{self, BufWriter, Write};

use serde_json::{Value, json};

use super::ids::Ids;
use super::model::{Key, Observer, Project, Report, StretchCause, Verdict};
use super::words;

/// Writes the events.
///
/// # Errors
///
/// The destination cannot be written.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    let ids = Ids::new(report);
    for observer in &report.observers {
        for key in &observer.keys {
            let project = observer.projects.iter().find(|project| project.name == key.project);
            serde_json::to_writer(&mut out, &finding(report, &ids, observer, project, key))?;
            out.write_all(b"\n")?;
        }
    }
    out.flush()
}

/// Status number and name of a result: 1 Pass, 2 Warning, 3 Fail, 99 Other.
fn status(verdict: Verdict) -> (u8, &'static str) {
    match verdict {
        Verdict::Met => (1, "Pass"),
        Verdict::NotShown => (2, "Warning"),
        Verdict::NotMet => (3, "Fail"),
        Verdict::NotApplicable => (99, "Not Applicable"),
    }
}

/// Severity number and name: 1 Informational, 2 Low, 3 Medium.
fn severity(verdict: Verdict) -> (u8, &'static str) {
    match verdict {
        Verdict::Met | Verdict::NotApplicable => (1, "Informational"),
        Verdict::NotShown => (2, "Low"),
        Verdict::NotMet => (3, "Medium"),
    }
}

fn finding(report: &Report, ids: &Ids, observer: &Observer, project: Option<&Project>, key: &Key) -> Value {
    let names = [&*observer.origin, &*key.project, &*key.key_id];
    let time = report.as_of.as_millis();
    let (status_id, status) = status(key.verdict);
    let (severity_id, severity) = severity(key.verdict);
    let simulated = if report.simulated { "SIMULATED: " } else { "" };
    let alias = key.alias.as_deref().unwrap_or(&key.key_id);
    let why = words::why(key);
    let verdict = words::verdict(key.verdict);
    let reason = if why.is_empty() { String::new() } else { format!(": {why}") };
    let (first, last) = (key.from.as_millis(), key.to.as_millis());
    let stretches = if key.verdict == Verdict::NotMet { &key.off_policy } else { &key.not_shown };
    let details: Vec<_> = stretches.iter().map(|stretch| words::stretch(stretch).to_string()).collect();
    let facts = project.and_then(|project| project.facts.as_ref());
    let (cloud, region) = facts.map_or(("unknown", None), |facts| (provider(&facts.cloud), Some(&facts.region)));
    // 1 New, 4 Resolved.
    let (state_id, state) = if status_id == 3 || status_id == 2 { (1, "New") } else { (4, "Resolved") };
    json!({
        "activity_id": 1, "activity_name": "Create",
        "category_uid": 2, "category_name": "Findings",
        "class_uid": 2003, "class_name": "Compliance Finding",
        "type_uid": 200_301, "type_name": "Compliance Finding: Create",
        "severity_id": severity_id, "severity": severity,
        "status_id": state_id, "status": state,
        "time": time, "time_dt": report.as_of,
        "start_time": report.period.begins_at.as_millis(), "end_time": report.period.ends_at.as_millis(),
        "message": format!("{simulated}Rotation policy {verdict} for key {alias}{reason}"),
        "metadata": {
            "version": "1.5.0", "uid": ids.of("ocsf", &names), "profiles": ["cloud", "datetime"],
            "log_name": observer.origin,
            "product": {"name": "kms-rotationd", "vendor_name": "kms-rotationd", "version": report.version},
        },
        "cloud": {
            "provider": cloud, "region": region,
            "account": {"uid": facts.and_then(|facts| facts.project_id.clone()), "name": key.project},
        },
        "finding_info": {
            "uid": names.join("/"),
            "title": "Key rotation follows the policy over the period",
            "desc": format!("{simulated}{} to {}", report.period.from, report.period.to),
            "created_time": time, "first_seen_time": first, "last_seen_time": last,
        },
        "compliance": {
            "control": "Key rotation",
            "standards": ["PCI DSS 4.0.1", "ISO/IEC 27001:2022", "SOC 2", "BSI C5"],
            "requirements": ["3.7.4", "A.8.24", "CC6.1", "CRY"],
            "status_id": status_id, "status": status, "status_code": key.verdict.as_str(), "status_details": details,
            "control_parameters": [{"name": "policy_interval", "value": words::required(key.state.required)}],
            "checks": checks(key),
        },
        "resources": [{"uid": key.key_id, "name": alias, "type": "KMS key", "region": region}],
        "unmapped": {
            "simulated": report.simulated, "verified": report.verified,
            "days": key.days, "days_not_looked": key.days_not_looked,
            "shares": key.shares, "rotations": key.rotations.len(),
            "material_since": key.state.material_since,
        },
    })
}

/// The two conditions of the verdict.
fn checks(key: &Key) -> Value {
    let is_old = |cause| matches!(cause, StretchCause::MaterialTooOld);
    let result = |fails: bool| if fails { status(Verdict::NotMet) } else { self::status(rest(key.verdict)) };
    let check = |uid: &str, name: &str, (status_id, status): (u8, &str)| json!({"uid": uid, "name": name, "status_id": status_id, "status": status});
    let old = key.off_policy.iter().any(|stretch| is_old(stretch.cause));
    let off = key.off_policy.iter().any(|stretch| !is_old(stretch.cause));
    json!([
        check("on_policy", "On policy whenever it was read", result(off)),
        check("rotated_in_time", "Material never older than interval and grace", result(old)),
    ])
}

/// The result of a condition that did not fail.
fn rest(verdict: Verdict) -> Verdict {
    if verdict == Verdict::NotMet { Verdict::Met } else { verdict }
}

fn provider(cloud: &str) -> &str {
    match cloud {
        "huawei-cloud" => "Huawei Cloud",
        "open-telekom-cloud" => "Open Telekom Cloud",
        "flexible-engine" => "Flexible Engine",
        other => other,
    }
}
