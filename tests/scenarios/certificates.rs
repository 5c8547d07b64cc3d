//! Refused certificates: the reason, and the action.

use rcgen::{BasicConstraints, CertificateParams, IsCa, date_time_ymd};

use super::KEY;
use super::cloud::Cloud;
use super::front::{Authority, Front};
use super::site::{Policy, Site};

/// The error of a run with certificates of this authority.
fn error(authority: &Authority, ca_file: Option<&str>) -> String {
    let cloud = Cloud::of([super::cloud::off()]);
    let front = Front::tls(cloud.url(), authority);
    error_at(&front, ca_file)
}

fn error_at(front: &Front, ca_file: Option<&str>) -> String {
    let policy = Policy { max_elapsed: "300ms", ..Policy::of_one_key(&front.https()) };
    let site = Site::new(&policy.field("ca_file: private/ca.pem"));
    std::fs::create_dir(site.path("private")).unwrap();
    if let Some(pem) = ca_file {
        site.write("private/ca.pem", pem);
    }
    let applied = site.apply();
    assert_eq!((applied.code, &*applied.key(KEY)), (Some(1), "unknown: read_failed"));
    applied.report().error()
}

#[test]
fn ca_file_is_suggested_only_if_it_would_help() {
    type Change = fn(&mut CertificateParams);
    let changes: [(Change, &str); 4] = [
        (|params| params.not_after = date_time_ymd(2020, 1, 2), "has expired 2020-01-02T00:00:00Z"),
        (|params| params.not_before = date_time_ymd(2900, 1, 2), "is not valid before 2900-01-02T00:00:00Z"),
        (|params| params.subject_alt_names.retain(|name| format!("{name:?}").contains("cloud")), "for another name"),
        (|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "is that of an authority"),
    ];
    for (change, expected) in changes {
        let authority = Authority::issuing("authority", change);
        let error = error(&authority, Some(&authority.pem));
        assert!(error.contains("its certificate") && error.contains(expected), "{error}");
        assert!(!error.contains("ca_file") && !error.contains("://"), "{error}");
    }
    // Another authority, with the same name and with another.
    for name in ["authority", "other"] {
        let error = error(&Authority::new(), Some(&Authority::issuing(name, |_| {}).pem));
        assert!(error.contains("is not trusted") && error.contains("ca_file private/ca.pem"), "{error}");
    }
}

#[test]
fn an_unusable_ca_file_is_named_with_the_reason() {
    let authority = Authority::new();
    let cut = authority.pem.replace("-----END CERTIFICATE-----", "");
    let garbled = authority.pem.replacen("\nM", "\n!", 1);
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let second = format!("{}{empty}", authority.pem);
    for (pem, expected) in [
        (None, "cannot read ca_file private/ca.pem: No such file"),
        (Some(""), "ca_file private/ca.pem has no certificate"),
        (Some(&*cut), "ca_file private/ca.pem is not valid PEM"),
        (Some(&garbled), "ca_file private/ca.pem is not valid PEM"),
        (Some(empty), "certificate 1 in ca_file private/ca.pem is broken"),
        (Some(&second), "certificate 2 in ca_file private/ca.pem is broken"),
    ] {
        let error = error(&authority, pem);
        assert!(error.contains(expected) && !error.contains("system's CA"), "{error}");
    }
}

#[test]
fn a_connection_that_ends_early_is_reported_without_a_librarys_documentation() {
    let authority = Authority::new();
    let error = error_at(&Front::silent(&authority), Some(&authority.pem));
    assert!(error.contains("was lost: the other side has closed the connection") && !error.contains("://"), "{error}");
}
