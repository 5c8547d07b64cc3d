//! The page of one key: its history from the evidence log, or since the start of the process.

use kms_simulator::Key;
use rustix::process::Signal;

use super::cloud::{Cloud, many, off, rotating};
use super::program::Daemon;
use super::site::{Policy, Site};
use super::{KEY, PROJECT, key_id};

/// The text of a key's page without its markup.
fn page(daemon: &Daemon<'_>) -> String {
    let (status, page) = daemon.get(&format!("/keys/payments/{KEY}"));
    assert_eq!(status, 200, "{page}");
    page.split("<h2>History</h2>").nth(1).unwrap().to_owned()
}

#[track_caller]
fn assert_has(page: &str, told: &[&str]) {
    for told in told {
        assert!(page.contains(told), "{told}: {page}");
    }
}

#[test]
fn the_history_of_a_key_is_read_from_the_evidence_log_also_after_a_restart() {
    let cloud = Cloud::of([off()]);
    let policy = Policy { evidence: "{directory: evidence}".to_owned(), ..Policy::of_one_key(cloud.url()) };
    let site = Site::new(&policy);
    let daemon = site.run();
    daemon.await_runs(1);
    let first = page(&daemon);
    let repaired = "A write took effect: set the interval to 90 days<p class=\"more\">request ";
    assert_has(&first, &["From the evidence log.", "It was seen for the first time", "enable rotation", repaired]);
    assert_eq!(daemon.stop().code, Some(0));

    cloud.set_key(PROJECT, rotating(180));
    let again = site.run();
    again.await_runs(1);
    let second = page(&again);
    assert_has(&second, &[repaired, "The setting was changed from 90 days to 180 days, and not by this program"]);
    let [newest, oldest] = ["and not by this program", "for the first time"].map(|told| second.find(told).unwrap());
    assert!(newest < oldest, "the newest comes first");
}

#[test]
fn without_an_evidence_log_the_history_is_since_the_start() {
    let cloud = Cloud::of([rotating(90)]);
    let site = Site::new(&Policy { mode: "monitor", ..Policy::of_one_key(cloud.url()) });
    let daemon = site.run();
    daemon.await_runs(1);
    assert_has(&page(&daemon), &["Since this process has started.", "Nothing has changed."]);
    cloud.set_key(PROJECT, off());
    daemon.signal(Signal::HUP);
    daemon.await_runs(2);
    assert_has(
        &page(&daemon),
        &["The setting was changed from 90 days to off, and not by this program", "rotation is off"],
    );
    let (status, text) = daemon.get(&format!("/keys/payments/{}", key_id(7)));
    assert_eq!((status, &*text), (404, "the last run has no such key; / lists all keys\n"));
}

#[test]
fn a_key_page_escapes_what_the_cloud_and_the_policy_say() {
    let cloud = Cloud::of([Key::new(KEY).alias("<script>alert(1)</script>")]);
    let policy = Policy { mode: "monitor", ..Policy::at(cloud.url()) };
    let policy = policy.entry(&format!("{{key_id: {KEY}, rotation_interval: 90}} # <b>why</b>"));
    let site = Site::new(&policy);
    let daemon = site.run();
    daemon.await_runs(1);
    let (_, page) = daemon.get(&format!("/keys/payments/{KEY}"));
    assert_has(&page, &["&lt;script&gt;alert(1)&lt;/script&gt;", "# &lt;b&gt;why&lt;/b&gt;"]);
    assert!(!page.contains("<script>alert") && !page.contains("<b>why"), "{page}");
}

#[test]
fn a_run_under_way_is_shown_with_its_progress() {
    let cloud = Cloud::start(super::cloud::setup(many(30)).latency(std::time::Duration::from_millis(200)));
    let policy = Policy { mode: "monitor", concurrency: 1, ..Policy::of_keys(cloud.url(), (0..30).map(key_id)) };
    let site = Site::new(&policy);
    let daemon = site.run();
    super::eventually("keys are read", || daemon.metric("kms_rotation_run_keys{state=\"done\"}").unwrap() >= 2.0);
    assert_eq!(daemon.metric("kms_rotation_run_in_progress"), Some(1.0));
    assert_eq!(daemon.metric("kms_rotation_run_keys{state=\"total\"}"), Some(30.0));
    let (_, page) = daemon.get("/");
    assert_has(&page, &["<h1>first run under way: ", "Run under way (start) since ", "<tr data-status="]);
    assert!(!page.contains(" 0 keys") && !page.contains("<b>0</b> all"), "{page}");
    assert_eq!(daemon.get("/readyz").0, 503);
}
