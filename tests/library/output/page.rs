//! The status page and the pages of keys, as the server sends them.

use kms_rotationd::rotation::decide::Reason;
use kms_rotationd::rotation::project::{Mode, PerKey};
use kms_rotationd::rotation::report::{KeyReport, ProjectReport};

use super::sample::{account, many, off, one_of_each, project, report};
use super::server::{Running, gunzip};

#[tokio::test]
async fn the_page_shows_problems_first_and_escapes_text() {
    let running = Running::with(one_of_each()).await;
    let answer = running.get("/", "").await;
    let page = answer.text();
    assert!(page.contains("<h1>2 of 5 keys on policy; 1 off policy; 1 unknown; 1 exempt</h1>"));
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("<tr data-status")).collect();
    let order: Vec<&str> = rows.iter().filter_map(|row| row.split('"').nth(1)).collect();
    assert_eq!(order, ["non_compliant", "unknown", "exempt", "compliant", "compliant"]);
    assert!(rows[1].contains("a&lt;b&gt;&amp;&quot;c"), "{}", rows[1]);
    assert!(page.contains("HTTP 502 &lt;html&gt;") && !page.contains("<html>"));
    assert!(page.contains("<p class=\"error\">the credentials were refused"));
    assert!(page.ends_with("</body></html>\n"));
}

#[tokio::test]
async fn the_page_filters_without_script() {
    let running = Running::with(many(400)).await;
    let rows = async |query: &str| {
        let answer = running.get(query, "").await;
        let page = answer.text();
        let rows = page.lines().filter(|line| line.starts_with("<tr data-status")).count();
        assert_eq!(page.contains("<p id=\"none\">No keys match.</p>"), rows == 0, "{query}");
        rows
    };
    assert_eq!(rows("/").await, 200);
    assert_eq!(rows("/?status=unknown").await, 10);
    assert_eq!(rows("/?status=unknown&q=LEDGER-17").await, 2);
    assert_eq!(rows("/?q=rotation+is+off").await, 10);
    assert_eq!(rows("/?q=http+502").await, 10);
    assert_eq!(rows("/?q=no-such-key").await, 0);
    assert_eq!(rows("/?q=%22%3E%3Cscript%3E").await, 0);
    let page = running.get("/?q=%22%3E%3Cb%3E", "").await;
    assert!(page.text().contains("value=\"&quot;&gt;&lt;b&gt;\""));
}

/// The name of the key in a row.
fn name(row: &str) -> &str {
    row.split_once("<a href=").unwrap().1.split(['<', '>']).nth(3).unwrap()
}

/// The names of the keys on a page, in order.
fn names(page: &str) -> Vec<&str> {
    let rows = page.lines().filter(|line| line.starts_with("<tr data-status"));
    rows.map(name).collect()
}

#[tokio::test]
async fn the_server_cuts_sorts_and_groups_the_keys() {
    let running = Running::with(many(450)).await;
    let page = async |query: &str| running.get(query, "").await.text().to_owned();
    let mut seen = Vec::new();
    for (number, caption) in [(1, "1 to 200 of 450 keys"), (2, "201 to 400 of 450 keys"), (3, "401 to 450 of 450 keys")]
    {
        let page = page(&format!("/?sort=name&page={number}")).await;
        assert!(page.contains(caption) && page.contains(&format!("page {number} of 3")), "{caption}");
        assert_eq!(page.contains("rel=\"next\""), number < 3);
        assert_eq!(page.contains("rel=\"prev\""), number > 1);
        seen.extend(names(&page).into_iter().map(str::to_owned));
    }
    assert!(seen.len() == 450 && seen.is_sorted());
    assert!(page("/?page=99").await.contains("401 to 450 of 450 keys"), "the last page");
    let backwards = page("/?sort=-name").await;
    assert!(names(&backwards).iter().rev().is_sorted());
    assert!(backwards.contains("aria-sort=\"descending\""));

    let grouped = page("/?group=reason").await;
    let groups: Vec<_> = grouped.lines().filter(|line| line.starts_with("<tr class=\"group\">")).collect();
    let told =
        "rotation is off <span class=\"more\">12 keys</span> <a href=\"/?reason=rotation_disabled&amp;group=reason\">";
    assert!(groups.iter().any(|group| group.contains(told)), "{groups:#?}");
    assert!(groups.last().unwrap().contains("no reason"), "{groups:#?}");
    let only = page("/?reason=rotation_disabled&group=reason").await;
    assert_eq!(names(&only).len(), 12);
}

#[tokio::test]
async fn a_page_that_has_not_changed_is_not_sent_again() {
    let running = Running::with(many(50)).await;
    let first = running.get("/", "").await;
    let tag = first.header("etag").unwrap().to_owned();
    let again = running.get("/", &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!((again.status(), again.body.len()), (304, 0));
    let other = running.get("/?status=unknown", &format!("If-None-Match: {tag}\r\n")).await;
    assert_eq!(other.status(), 200);
    running.store.publish(many(51));
    assert_eq!(running.get("/", &format!("If-None-Match: {tag}\r\n")).await.status(), 200);
    let packed = running.get("/", "Accept-Encoding: gzip\r\n").await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(gunzip(&packed.body).ends_with("</body></html>\n") && packed.body.len() < 20_000, "{}", packed.body.len());
}

#[tokio::test]
async fn a_large_account_has_pages_of_bounded_size() {
    for keys in [8, 200, 2_400, 100_000] {
        let running = Running::with(many(keys)).await;
        let page = running.get("/", "").await;
        assert!(page.body.len() < 300_000, "{} bytes for {keys} keys", page.body.len());
        let grouped = running.get("/?group=reason&sort=-due&q=pay", "Accept-Encoding: gzip\r\n").await;
        assert!(grouped.body.len() < 40_000, "{} bytes for {keys} keys", grouped.body.len());
    }
}

#[tokio::test]
async fn an_error_of_many_projects_is_shown_once() {
    let mode = kms_rotationd::rotation::project::Mode::Enforce;
    let failing = |number: u64| ProjectReport {
        failure: Some(format!("authenticate: HTTP 401 (request {number})").into()),
        ..project(&format!("project-{number:02}"), mode, vec![super::sample::compliant(number)])
    };
    let running = Running::with(report((0..30).map(failing).collect())).await;
    let page = running.get("/", "").await.text().to_owned();
    let notice = "<p class=\"notice\">30 projects (project-00, project-01, project-02, project-03, project-04, 25 more): \
                  authenticate: HTTP 401</p>";
    assert!(page.contains(notice), "{page}");
    assert_eq!(page.matches("HTTP 401").count(), 1);
    assert_eq!(page.matches("the error above, as 29 other projects").count(), 20);
    assert!(page.contains("show the other 10"));
    let all = running.get("/?projects=all", "").await.text().to_owned();
    assert_eq!(all.matches("the error above").count(), 30);
}

#[tokio::test]
async fn a_keys_page_has_reason_remedy_setting_entry_and_history() {
    let running = Running::with(account()).await;
    let lines: Vec<_> = (1..=60).map(|line| format!("    - {{alias: line-{line}}} # <why>\n")).collect();
    running.store.policy_in_force([], PerKey::All, Some(lines.concat().into()));
    running.store.publish(account());
    let page = running.get("/", "").await.text().to_owned();
    let row = page.lines().find(|line| line.contains("<b>pay-00005</b>")).unwrap();
    let address = row.split_once("<a href=\"").unwrap().1.split_once('"').unwrap().0;
    let key = running.get(address, "").await;
    assert_eq!((key.status(), key.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for told in [
        "<title>pay-00005 · account · kms-rotationd</title>",
        "the key is disabled <code>key_disabled</code></h3><p>Enable the key in the KMS console",
        "<dt>The policy requires</dt><dd>on, 90 days",
        "line 17</p><pre>- {alias: line-17} # &lt;why&gt;\n</pre>",
        "Since this process has started.",
    ] {
        assert!(key.text().contains(told), "{told}: {}", key.text());
    }
    for wrong in ["/keys/account/nowhere", "/keys/other/x", "/keys/", "/keys/account", "/keys/%ff/x"] {
        assert_eq!(running.get(wrong, "").await.status(), 404, "{wrong}");
    }
}

#[tokio::test]
async fn only_the_first_of_keys_with_the_same_reasons_shows_what_to_do() {
    let disabled = |number| KeyReport { reasons: Reason::KeyDisabled.into(), ..off(number) };
    let keys = vec![off(0), disabled(1), off(2), disabled(3)];
    let page =
        Running::with(report(vec![project("p", Mode::Enforce, keys)])).await.get("/", "").await.text().to_owned();
    let rows = page.lines().filter(|line| line.contains("<details class=\"remedy\""));
    let opened: Vec<_> = rows.map(|row| row.contains("<details class=\"remedy\" open>")).collect();
    assert_eq!(opened, [true, true, false, false]);
}

#[tokio::test]
async fn the_page_shows_coverage_and_exemptions() {
    let running = Running::with(account()).await;
    let page = running.get("/", "").await.text().to_owned();
    assert!(page.contains("<b>24</b> uncovered</a>"));
    let row = |key: &str| page.lines().find(|line| line.starts_with("<tr") && line.contains(key)).unwrap();
    for (key, told) in [
        ("pay-00008", "exempted by the policy until 2027-03-31: retired in March, &lt;SEC-112&gt;</p>"),
        (
            "pay-00005",
            "<p>the key is disabled</p><details class=\"remedy\" open><summary>What to do</summary>Enable the key",
        ),
        ("pay-00009", "; the exemption ends soon</p>"),
        ("pay-00012", "not matched by any policy entry</p>"),
        ("pay-00012", "<span class=\"none\">not read</span></td><td data-label=\"Last rotated\">"),
        ("alias/legacy-hsm", "no key of this project has this alias</p><details"),
        ("entry@44", "the project's keys cannot all be listed".replace('\'', "&#39;").as_str()),
        ("pay-00003", "365 days<p class=\"more\">policy: 90 days or less</p>"),
    ] {
        assert!(row(key).contains(told), "{}", row(key));
    }
    assert!(!row("alias/legacy-hsm").contains("<b>"), "its name is said once");
    let notices: Vec<_> = page.lines().filter(|line| line.starts_with("<p class=\"notice mild\">")).collect();
    assert!(
        notices[0].contains("1 change postponed: the limit is 50 a run") && notices[0].contains("apply --allow-many"),
        "{notices:?}"
    );
    assert!(notices[1].contains("account: policy line 25: the selector matches no key"), "{notices:?}");
    assert!(notices[2].contains("closed: key list unavailable or incomplete"), "{notices:?}");
    assert_eq!(notices.len(), 3);

    for (query, rows) in [
        ("status=uncovered", 24),
        ("status=uncovered&q=pay-00012", 1),
        ("q=sec-112", 3),
        ("q=2027-03-31", 1),
        ("q=alias%2Flegacy", 1),
        ("q=policy+line+20", 3),
    ] {
        let answer = running.get(&format!("/?{query}"), "").await;
        let shown = answer.text().lines().filter(|line| line.starts_with("<tr data-status")).count();
        assert_eq!(shown, rows, "{query}");
    }
}
