//! The alerts on reasons as promtool evaluates them: which ones fire, and their texts, with series of single keys and
//! without. What to do comes from the program itself.

use kms_rotationd::rotation::decide::Reason;
use kms_rotationd::rotation::remedies::remedy;
use serde_json::{Map, Value, json};

use super::promtool::{GROUPS, promtool};
use super::repository::root;

/// Where the texts have the project, the reason, and the number of keys.
const PROJECT: &str = "<project>";
const REASON: &str = "<reason>";
const COUNT: &str = "<count>";
/// Where they name up to five keys.
const EXAMPLES: &str = "<examples>";

/// An alert on the number of keys of a project with one reason.
struct Expected {
    alert: &'static str,
    severity: &'static str,
    cause: Option<&'static str>,
    reasons: &'static [Reason],
    summary: &'static str,
    description: &'static str,
}

const UNREAD: &[Reason] = &[
    Reason::AccessDenied,
    Reason::AmbiguousEntry,
    Reason::NotFound,
    Reason::NotVerified,
    Reason::ReadFailed,
    Reason::Throttled,
];

const UNREAD_DESCRIPTION: &str = "Whether they rotate is not known.<examples> First run `kms-rotationd plan`, or open \
    the status page at `/?project=<project>&reason=<reason>`: they show the error of each key.";

/// All alerts that fire after 25 hours if the keys of each project have another reason.
const COUNTS: &[Expected] = &[
    Expected {
        alert: "KmsKeyOffPolicy",
        severity: "critical",
        cause: Some("project"),
        reasons: &[
            Reason::AccessDenied,
            Reason::ChangeLimit,
            Reason::Flapping,
            Reason::IntervalMismatch,
            Reason::IntervalTooLong,
            Reason::NotVerified,
            Reason::RotationDisabled,
            Reason::Throttled,
            Reason::WriteFailed,
        ],
        summary: "Keys of <project> off policy: <count> (<reason>)",
        description: "For an hour, runs have not repaired this.<examples> First run `kms-rotationd plan`, or open the \
            status page at `/?project=<project>&reason=<reason>`: they list the keys with their errors.",
    },
    Expected {
        alert: "KmsKeyOffPolicy",
        severity: "critical",
        cause: Some("key"),
        reasons: &[Reason::KeyDisabled, Reason::PendingDeletion],
        summary: "Keys of <project> off policy: <count> (<reason>)",
        description: "The cloud does not rotate a key in this state, and no run can repair it; it does not make runs \
            fail.<examples> First run `kms-rotationd plan`, or open the status page at \
            `/?project=<project>&reason=<reason>`: they list the keys.",
    },
    Expected {
        alert: "KmsRotationOverdue",
        severity: "critical",
        cause: None,
        reasons: &[Reason::RotationOverdue],
        summary: "Keys of <project> that the cloud has not rotated when due: <count>",
        description: "For the whole interval plus the grace, every reading showed rotation on and unchanged. Something \
            may keep sending the interval: each time the period starts again, and readings do not show it.<examples> \
            First open the status page at `/?project=<project>&reason=<reason>`: it lists the keys with their last \
            rotations.",
    },
    Expected {
        alert: "KmsRotationMaterialTooOld",
        severity: "warning",
        cause: None,
        reasons: &[Reason::MaterialTooOld],
        summary: "Keys of <project> with material older than the policy allows: <count>",
        description: "It is older than the interval of the policy plus the grace; with `proof: required`, these keys \
            are off policy, and every run fails.<examples> First open the status page at \
            `/?project=<project>&reason=<reason>`: it shows when the rotation of each key is due. If a due time is in \
            the past, the setting was changed before the daemon watched the key, or the cloud does not rotate it: \
            KmsRotationOverdue fires if that is proven.",
    },
    Expected {
        alert: "KmsKeyUnknown",
        severity: "warning",
        cause: None,
        reasons: UNREAD,
        summary: "Keys of <project> with an unknown rotation setting: <count> (<reason>)",
        description: UNREAD_DESCRIPTION,
    },
    Expected {
        alert: "KmsKeyUnknown",
        severity: "warning",
        cause: None,
        reasons: &[Reason::StatusUnreadable],
        summary: "Keys of <project> with an unknown rotation setting: <count> (<reason>)",
        description: UNREAD_DESCRIPTION,
    },
    Expected {
        alert: "KmsKeyUnknown",
        severity: "critical",
        cause: None,
        reasons: UNREAD,
        summary: "Keys of <project> with an unknown rotation setting for a day: <count> (<reason>)",
        description: UNREAD_DESCRIPTION,
    },
    Expected {
        alert: "KmsKeyFlapping",
        severity: "warning",
        cause: None,
        reasons: &[Reason::Flapping],
        summary: "Keys of <project> whose rotation something keeps changing: <count>",
        description: "The daemon repaired this guards.flap_repairs times within guards.flap_window and has \
            stopped.<examples> First open the status page at `/?project=<project>&reason=<reason>`: it lists the keys.",
    },
    Expected {
        alert: "KmsKeyExemptionEnding",
        severity: "warning",
        cause: None,
        reasons: &[Reason::ExemptionEndsSoon],
        summary: "Keys of <project> whose exemption ends within 30 days: <count>",
        description: "Afterwards the next matching entry of the policy applies.<examples> First open the status page \
            at `/?project=<project>&reason=<reason>`: it lists the keys.",
    },
    Expected {
        alert: "KmsRotationChangeLimitReached",
        severity: "warning",
        cause: None,
        reasons: &[Reason::ChangeLimit],
        summary: "Keys of <project> whose changes are postponed by max_changes_per_run: <count>",
        description: "Each further run changes guards.max_changes_per_run keys more. First run `kms-rotationd plan`: \
            is every change intended? The status page lists the postponed keys at \
            `/?project=<project>&reason=<reason>`.",
    },
    Expected {
        alert: "KmsRotationAuthenticationFailed",
        severity: "critical",
        cause: None,
        reasons: &[Reason::AuthenticationFailed],
        summary: "The cloud refuses the credentials of <project>",
        description: "Its keys are unknown, and none is repaired: <count> in number. First read the error on the \
            status page at `/?project=<project>`, or in the log (`journalctl -u kms-rotationd`).",
    },
    Expected {
        alert: "KmsRotationLoginUnavailable",
        severity: "warning",
        cause: None,
        reasons: &[Reason::LoginUnavailable],
        summary: "The login service of <project> is unavailable",
        description: "It does not answer, or it answers with an error, and the last credentials have expired. The keys \
            of the project are unknown, and none is repaired. First read the last answer on the status page at \
            `/?project=<project>`, or in the log (`journalctl -u kms-rotationd`).",
    },
    Expected {
        alert: "KmsRotationLoginUnavailable",
        severity: "critical",
        cause: None,
        reasons: &[Reason::LoginUnavailable],
        summary: "The login service of <project> has been unavailable for a day",
        description: "The project's keys have been unknown for a day, and none is repaired. First read the last answer \
            on the status page at `/?project=<project>`, or in the log (`journalctl -u kms-rotationd`).",
    },
];

/// The project whose keys have this reason. Its name must be encoded in an address.
fn project_of(reason: Reason) -> String {
    format!("all {reason}")
}

/// The labels and annotations of an alert.
fn alert(severity: &str, cause: Option<&str>, reason: Reason, summary: &str, description: &str) -> Value {
    let mut labels = Map::new();
    for (name, value) in [("job", "kms-rotationd"), ("instance", "a"), ("severity", severity)] {
        labels.insert(name.to_owned(), value.into());
    }
    labels.insert("project".to_owned(), project_of(reason).into());
    labels.insert("reason".to_owned(), reason.as_str().into());
    labels.extend(cause.map(|cause| ("cause".to_owned(), cause.into())));
    let of_project = |text: &str| {
        let text = text.replace("project=<project>", &format!("project=all+{reason}"));
        text.replace(PROJECT, &project_of(reason)).replace(REASON, reason.as_str())
    };
    let annotations = json!({
        "summary": of_project(summary), "description": of_project(description), "runbook": remedy(reason)
    });
    json!({"exp_labels": labels, "exp_annotations": annotations})
}

/// The alert on the number of keys, and the keys that it names.
fn count(expected: &Expected, reason: Reason, count: u32, examples: &str) -> Value {
    let filled = |text: &str| text.replace(COUNT, &count.to_string()).replace(EXAMPLES, examples);
    let Expected { severity, cause, summary, description, .. } = expected;
    alert(severity, *cause, reason, &filled(summary), &filled(description))
}

/// The series of a family for the keys of a project, with a constant value.
fn series(name: &str, reason: Reason, labels: &str, value: u32) -> Value {
    let project = project_of(reason);
    let labels = format!("job=\"kms-rotationd\",instance=\"a\",project=\"{project}\"{labels}");
    json!({"series": format!("kms_rotation_{name}{{{labels}}}"), "values": format!("{value}x60")})
}

/// Tests the alerts with these series after 25 hours: exactly the ones that `expected` has for a name.
fn assert_alerts(series: &[Value], expected: &[(&str, Vec<Value>)]) {
    let rules = ["thresholds.yaml", "rules.yaml"].map(|name| root().join("config/prometheus").join(name));
    let tests: Vec<_> = expected
        .iter()
        .map(|(name, alerts)| json!({"alertname": name, "eval_time": "25h", "exp_alerts": alerts}))
        .collect();
    let test = json!({
        "rule_files": rules, "evaluation_interval": "30m", "group_eval_order": GROUPS,
        "tests": [{"interval": "30m", "input_series": series, "alert_rule_test": tests}]
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("test.yaml"), test.to_string()).unwrap();
    promtool(&["test", "rules", "test.yaml"], folder.path());
}

fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = COUNTS.iter().map(|expected| expected.alert).collect();
    names.dedup();
    names
}

pub(crate) fn every_reason_fires_its_alerts_without_series_of_single_keys() {
    let all: Vec<_> =
        Reason::ALL.iter().map(|reason| series("findings", *reason, &format!(",reason=\"{reason}\""), 2_400)).collect();
    let of_name = |name: &str| {
        let named = COUNTS.iter().filter(|expected| expected.alert == name);
        named.flat_map(|each| each.reasons.iter().map(|reason| count(each, *reason, 2_400, ""))).collect()
    };
    assert_alerts(&all, &names().into_iter().map(|name| (name, of_name(name))).collect::<Vec<_>>());
}

/// The alerts of one key each, for the reasons whose cause is the key.
fn of_key(name: &str, reason: Reason, key: &str, alias: &str) -> Option<Value> {
    let page = format!("`/keys/all%20{reason}/{key}`");
    let shown = if alias.is_empty() { key } else { alias };
    let (severity, cause, summary, description) = match (name, reason) {
        ("KmsKeyOffPolicy", Reason::KeyDisabled | Reason::PendingDeletion) => (
            "critical",
            Some("key"),
            format!("Key {shown} of <project> is off policy (<reason>)"),
            format!(
                "The cloud does not rotate a key in this state, and no run can repair it; it does not make runs fail. \
                 First open the status page at {page}."
            ),
        ),
        ("KmsKeyFlapping", Reason::Flapping) => (
            "warning",
            None,
            format!("Something keeps changing the rotation of key {shown} of <project>"),
            format!(
                "The daemon repaired this guards.flap_repairs times within guards.flap_window and has stopped. First \
                 open the status page at {page}: it has the key's history."
            ),
        ),
        ("KmsKeyExemptionEnding", Reason::ExemptionEndsSoon) => (
            "warning",
            None,
            format!("The exemption of key {shown} of <project> ends within 30 days"),
            format!(
                "Afterwards the next matching entry of the policy applies. The exemption is in line 7 of the policy. \
                 First open the status page at {page}: it shows the reason and the last day."
            ),
        ),
        _ => return None,
    };
    let mut alert = alert(severity, cause, reason, &summary, &description);
    let labels = alert["exp_labels"].as_object_mut().unwrap();
    labels.insert("key_id".to_owned(), key.into());
    // Prometheus drops empty labels.
    labels.extend((!alias.is_empty()).then(|| ("alias".to_owned(), alias.into())));
    labels.extend((name == "KmsKeyExemptionEnding").then(|| ("entry".to_owned(), "7".into())));
    Some(alert)
}

pub(crate) fn an_alert_names_keys_where_their_series_exist() {
    let keys = [("k1", "pay-db"), ("k2", ""), ("k3", ""), ("k4", ""), ("k5", "")];
    let mut all = Vec::new();
    for reason in Reason::ALL {
        let of_reason = format!(",reason=\"{reason}\"");
        all.push(series("findings", *reason, &of_reason, 5));
        for (key, alias) in keys {
            let key = format!(",key_id=\"{key}\"");
            all.push(series("key_finding", *reason, &format!("{key}{of_reason}"), 1));
            all.push(series("key_info", *reason, &format!("{key},alias=\"{alias}\",entry=\"7\""), 1));
        }
    }
    let of_name = |name: &str| {
        let named = COUNTS.iter().filter(|expected| expected.alert == name);
        let pairs = named.flat_map(|each| each.reasons.iter().map(move |reason| (each, *reason)));
        let alerts = pairs.flat_map(|(each, reason)| {
            let single: Vec<_> = keys.iter().filter_map(|(key, alias)| of_key(name, reason, key, alias)).collect();
            // The same name may stand for another cause.
            let is_single = !single.is_empty() && each.cause != Some("project");
            if is_single { single } else { vec![count(each, reason, 5, " Among them: pay-db k2 k3 k4 k5.")] }
        });
        alerts.collect()
    };
    assert_alerts(&all, &names().into_iter().map(|name| (name, of_name(name))).collect::<Vec<_>>());
}
