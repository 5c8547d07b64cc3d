//! The status page in a real browser: with and without its script, by mouse and by keyboard.

use kms_simulator::Key;
use serde_json::{Value, json};

use super::browser::Browser;
use super::cloud::{Cloud, many, setup};
use super::program::Daemon;
use super::site::{Policy, Site};
use super::{PROJECT, key_id};

/// The visible rows, one in each line: the status and the name of the key.
const ROWS: &str = r##"
    const seen = [...document.querySelectorAll("#keys tbody tr")].filter((row) => row.checkVisibility());
    return seen.map((row) => row.dataset.status + " " + row.querySelector(".key b, .key code").textContent).join("\n");
"##;
const PROBLEMS: &str = "non_compliant <b onclick=\"x\">pay</b>\nnon_compliant pay-orders";
const ALL: &str = "non_compliant <b onclick=\"x\">pay</b>\nnon_compliant pay-orders\nunknown alias/nowhere\n\
                   uncovered forgotten\nexempt legacy\ncompliant ledger";
/// The focused element: the text of a link, or the name of another element; empty if the focus is not visible.
const FOCUS: &str = r#"
    const at = document.activeElement;
    const style = getComputedStyle(at);
    const seen = at.matches(":focus-visible") && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    if (at === document.body) return "body";
    return seen ? (at.matches("a") ? at.textContent : at.localName) : "";
"#;
/// The texts with a contrast below 4.5 to 1, the minimum of WCAG 2.2 (criterion 1.4.3, with its definitions of contrast
/// ratio and relative luminance).
pub(crate) const HARD_TO_READ: &str = r#"
    const linear = (part) => part <= 0.04045 * 255 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4;
    const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
    const light = ([red, green, blue]) => 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const colour = parts(getComputedStyle(at).backgroundColor);
        if (colour.length === 3 || colour[3] === 1) return colour;
      }
      throw new Error("nothing is behind " + element.outerHTML);
    };
    const found = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let count = 0;
    for (let text = texts.nextNode(); text; text = texts.nextNode()) {
      const element = text.parentElement;
      if (!text.textContent.trim() || element.matches("script") || !element.checkVisibility()) continue;
      const [one, other] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
      const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      count += 1;
      if (ratio < 4.5) found.push(text.textContent.trim() + " " + ratio.toFixed(2));
    }
    if (count < 40) found.push("only " + count + " texts were looked at");
    return found;
"#;

/// A cloud and a policy in monitor mode, with a key of each status, and one with HTML as its name.
fn every_status() -> (Cloud, Site) {
    let named = |n: usize, alias: &str| Key::new(key_id(n)).alias(alias);
    let cloud = Cloud::of([
        named(0, "ledger").rotating(90),
        named(1, "<b onclick=\"x\">pay</b>"),
        named(2, "pay-orders").rotating(365),
        named(3, "legacy"),
        named(4, "forgotten"),
    ]);
    let policy = Policy { mode: "monitor", ..Policy::of_keys(cloud.url(), (0..3).map(key_id)) };
    let policy = policy
        .entry("{alias: legacy, exempt: {reason: 'retired, <i>SEC-112</i>', until: 2099-03-31}}")
        .entry("{alias: nowhere, rotation_interval: 90}");
    let site = Site::new(&policy);
    (cloud, site)
}

/// A browser with the page of a daemon after its first run.
fn looking_at(daemon: &Daemon<'_>) -> Browser {
    daemon.await_runs(1);
    Browser::at(&daemon.address)
}

pub(crate) fn the_page_lists_every_key_with_its_reasons_and_problems_first() {
    let (_cloud, site) = every_status();
    let daemon = site.run();
    let browser = looking_at(&daemon);
    assert_eq!(
        browser.text("return document.title"),
        "1 of 6 keys on policy; 2 off policy; 1 unknown; 1 uncovered; 1 exempt · kms-rotationd"
    );
    assert_eq!(browser.text(ROWS), ALL);
    let row = |n: usize| browser.text(&format!("return document.querySelectorAll('#keys tbody tr')[{n}].innerText"));
    let told = [
        ["off policy", "rotation is off", "would enable rotation"],
        ["off policy", "interval differs from policy", "365 days"],
        ["unknown", "no key of this project has this alias", "policy line"],
        ["uncovered", "not matched by any policy entry", &key_id(4)],
        ["exempt", "exempted by the policy until 2099-03-31: retired, <i>SEC-112</i>", "policy line"],
        ["on policy", "90 days", &key_id(0)],
    ];
    for (at, told) in told.iter().enumerate() {
        let row = row(at);
        assert!(told.iter().all(|told| row.contains(told)), "{told:?} in {row}");
    }
    let numbers = browser.text("return document.getElementById('statuses').innerText.replace(/\\s+/g, ' ')");
    assert_eq!(numbers, "6 all 2 off policy 1 unknown 1 uncovered 1 exempt 1 on policy");
    // No script failed, and the page did not violate its security policy.
    assert_eq!(browser.complaints(), Vec::<Value>::new());
}

pub(crate) fn a_click_and_typed_text_filter_and_stay_in_the_address() {
    let (_cloud, site) = every_status();
    let daemon = site.run();
    let browser = looking_at(&daemon);
    browser.click("nav a[data-status=non_compliant]");
    browser.await_found("return location.search", &json!("?status=non_compliant"));
    assert_eq!(browser.text(ROWS), PROBLEMS);
    browser.click("#q");
    browser.press("ORDERS".chars());
    browser.await_found(ROWS, &json!("non_compliant pay-orders"));
    assert_eq!(browser.text("return document.getElementById('caption').textContent.split(';')[0]"), "1 to 1 of 1 key");
    // The address can be shared.
    let address = browser.text("return location.pathname + location.search");
    assert_eq!(address, "/?status=non_compliant&q=ORDERS");
    browser.open(&address);
    assert_eq!(browser.text(ROWS), "non_compliant pay-orders");
    browser.click("#q");
    browser.press(" not there".chars());
    browser.await_found("return document.getElementById('none')?.innerText ?? ''", &json!("No keys match."));
    assert_eq!(browser.text(ROWS), "");
    browser.click(".filters a");
    browser.await_found("return location.pathname + location.search", &json!("/"));
    assert_eq!(browser.text(ROWS), ALL);
    assert_eq!(browser.complaints(), Vec::<Value>::new());
}

pub(crate) fn keys_are_grouped_and_sorted_and_each_has_a_page() {
    let (_cloud, site) = every_status();
    let daemon = site.run();
    let browser = looking_at(&daemon);
    browser.find(
        "const by = document.getElementById('group'); by.value = 'reason'; by.dispatchEvent(new Event('change'))",
    );
    let groups = "return [...document.querySelectorAll('.group th')].map((group) => group.firstChild.textContent.trim()).join('; ')";
    let told = "the key does not exist in this project; rotation is off; interval differs from policy; exempted by the policy; \
                not matched by any policy entry; no reason";
    browser.await_found(groups, &json!(told));
    browser.click("th.c-interval a");
    browser.await_found("return location.search", &json!("?sort=interval&group=reason"));
    browser.open("/");
    browser.click("#keys tbody tr:nth-child(2) .key a");
    browser.await_found("return document.querySelector('h1').firstChild.textContent.trim()", &json!("pay-orders"));
    let page = browser.text("return document.body.innerText");
    for told in
        ["interval differs from policy", "kms-rotationd plan", "365 days", "policy.yaml", "rotation_interval: 90"]
    {
        assert!(page.contains(told), "{told}: {page}");
    }
    assert_eq!(browser.complaints(), Vec::<Value>::new());
}

pub(crate) fn without_a_script_the_server_filters() {
    let (_cloud, site) = every_status();
    let daemon = site.run();
    let browser = looking_at(&daemon);
    browser.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    browser.open("/");
    browser.click("nav a[data-status=non_compliant]");
    browser.await_found("return location.search", &json!("?status=non_compliant"));
    assert_eq!(browser.text(ROWS), PROBLEMS);
    browser.click("#q");
    browser.press("orders".chars());
    browser.click("form button");
    browser.await_found("return location.search", &json!("?status=non_compliant&group=&q=orders"));
    assert_eq!(browser.text(ROWS), "non_compliant pay-orders");
}

pub(crate) fn the_page_works_by_keyboard_with_a_visible_focus() {
    let (_cloud, site) = every_status();
    let daemon = site.run();
    let browser = looking_at(&daemon);
    let mut order = Vec::new();
    while order.len() < 60 && order.last().is_none_or(|last| last != "metrics") {
        browser.tab();
        order.push(browser.text(FOCUS));
    }
    let statuses = ["6 all", "2 off policy", "1 unknown", "1 uncovered", "1 exempt", "1 on policy"];
    let columns = ["Status", "Key", "Project", "Interval", "Last rotated", "Due", "Observed"];
    let first = [&["payments"], &statuses[..], &["select", "input"], &columns].concat();
    assert_eq!(order[..first.len()], first);
    assert!(
        order[first.len()..].starts_with(&["<b onclick=\"x\">pay</b>00000001-e727-4d9c-b35d-f84bb474a37f".to_owned()])
    );
    assert!(order.ends_with(&["JSON".to_owned(), "metrics".to_owned()]), "{order:?}");
    // A refresh of the page keeps the focus.
    browser.find("document.querySelector('nav a[data-status=non_compliant]').focus()");
    browser.find("document.getElementById('list').dataset.old = 'yes'");
    renew(&browser);
    browser.await_found("return document.getElementById('list').dataset.old ?? 'no'", &json!("no"));
    assert_eq!(browser.text("return document.activeElement.textContent"), "2 off policy");
}

pub(crate) fn every_text_has_enough_contrast_in_light_and_dark_mode() {
    let (_cloud, site) = every_status();
    let daemon = site.run();
    // With a notice of each kind: the policy is refused, a selector matches nothing.
    daemon.await_runs(1);
    site.write("policy.yaml", "projects: []\n");
    daemon.await_message("policy reload failed; still using the previous policy");
    let browser = looking_at(&daemon);
    let mut pages = Vec::new();
    for scheme in ["light", "dark"] {
        let wanted = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        browser.devtools("Emulation.setEmulatedMedia", &wanted);
        assert_eq!(browser.find(HARD_TO_READ), json!([]), "{scheme}");
        pages.push(browser.text("return getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(pages[0], pages[1]);
}

pub(crate) fn two_thousand_keys_are_a_page_of_bounded_height() {
    let cloud = Cloud::of(many(2_000).into_iter().zip((30..40).cycle()).map(|(key, days)| key.rotating(days)));
    let policy = Policy::of_keys(cloud.url(), (0..2_000).map(key_id));
    let policy = Policy { mode: "monitor", concurrency: 32, ..policy };
    let site = Site::new(&policy);
    let daemon = site.run();
    let browser = looking_at(&daemon);
    let shown = "return document.getElementById('caption').textContent.split(';')[0]";
    assert_eq!(browser.text(shown), "1 to 200 of 2000 keys");
    let rows = "return document.querySelectorAll('#keys tbody tr').length";
    assert_eq!(browser.find(rows), 200);
    // Once it has the page, a refresh is an answer without a body.
    renew(&browser);
    let not_modified = "return performance.getEntriesByType('resource').some((entry) => entry.responseStatus === 304)";
    browser
        .await_found(&format!("document.dispatchEvent(new Event('visibilitychange')); {not_modified}"), &json!(true));
    browser.click("a[rel=next]");
    browser.await_found(shown, &json!("201 to 400 of 2000 keys"));
    browser.click("#q");
    browser.press("0000004A-".chars());
    browser.await_found(shown, &json!("1 to 1 of 1 key"));
}

pub(crate) fn keys_appear_while_the_first_run_reads_them() {
    let slow = setup(many(40)).latency(std::time::Duration::from_millis(300));
    let cloud = Cloud::start(slow);
    let policy = Policy { mode: "monitor", concurrency: 1, ..Policy::of_keys(cloud.url(), (0..40).map(key_id)) };
    let site = Site::new(&policy);
    let daemon = site.run();
    let browser = Browser::at(&daemon.address);
    let refreshed = |script: &str| format!("document.dispatchEvent(new Event('visibilitychange')); {script}");
    let has_rows = "return document.querySelectorAll('#keys tbody tr').length > 0";
    browser.await_found(&refreshed(has_rows), &json!(true));
    let headline = browser.text("return document.querySelector('h1').textContent");
    assert!(headline.starts_with("first run under way: ") && headline.ends_with(" of 40 keys read"), "{headline}");
    assert_eq!(browser.find("return document.querySelector('progress').max"), 40);
    browser.click("#keys tbody tr .key a");
    browser.await_found("return document.querySelector('h2')?.textContent", &json!("What to do"));
}

pub(crate) fn the_page_refreshes_itself_and_reports_a_lost_connection() {
    let (cloud, site) = every_status();
    let daemon = site.run();
    let browser = looking_at(&daemon);
    browser.click("nav a[data-status=unknown]");
    browser.await_found(ROWS, &json!("unknown alias/nowhere"));
    cloud.set_key(PROJECT, Key::new(key_id(7)).alias("nowhere").rotating(90));
    let address = daemon.address.clone();
    daemon.signal(rustix::process::Signal::HUP);
    daemon.await_runs(2);
    renew(&browser);
    browser.await_found(
        "return document.title",
        &json!("2 of 6 keys on policy; 2 off policy; 1 uncovered; 1 exempt · kms-rotationd"),
    );
    // The filter stays, although no key has the status now.
    assert_eq!(browser.text(ROWS), "");
    assert_eq!(browser.text("return document.querySelector('#statuses [aria-current]').textContent"), "0 unknown");
    daemon.stop();
    let lost = "return document.getElementById('lost').checkVisibility()";
    assert_eq!(browser.find(lost), false);
    renew(&browser);
    browser.await_found(lost, &json!(true));
    let again =
        Daemon::start(site.command(&["run", "--policy", "policy.yaml", "--listen", &address, "--log-format", "json"]));
    again.await_runs(1);
    renew(&browser);
    browser.await_found(lost, &json!(false));
}

pub(crate) fn a_narrow_window_is_not_scrolled_sideways() {
    let (_cloud, site) = every_status();
    let daemon = site.run();
    let browser = looking_at(&daemon);
    for width in [320, 600, 900, 1200, 1900] {
        let window = json!({"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": false});
        browser.devtools("Emulation.setDeviceMetricsOverride", &window);
        let [inner, needed] = ["clientWidth", "scrollWidth"]
            .map(|side| browser.find(&format!("return document.documentElement.{side}")).as_u64().unwrap());
        assert!(needed <= inner, "{needed} of {inner} at {width}");
        assert_eq!(browser.text(ROWS), ALL);
    }
}

/// Makes the page refresh at once instead of after fifteen seconds, as on a return from another tab.
fn renew(browser: &Browser) {
    browser.find("document.dispatchEvent(new Event('visibilitychange'))");
}
