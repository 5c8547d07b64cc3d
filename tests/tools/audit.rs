//! The audit report in a real browser, on paper, and judged by the published validators of its machine formats.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use kms_rotationd::audit::model::Report;
use kms_rotationd::audit::{Request, cbom, html, make, ocsf, oscal};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::browser::Browser;
use super::repository::root;
use super::status_page::HARD_TO_READ;
use super::story::story;

/// The interpreter that has the validators.
pub(crate) const PYTHON: &str = "python-with-report-validators";
const VISIBLE_ROWS: &str =
    "return [...document.querySelectorAll('.verdicts tbody tr')].filter((row) => row.checkVisibility()).length";

type Format = fn(&Report, &mut dyn Write) -> io::Result<()>;

const FORMATS: [(&str, Format); 3] = [("ocsf", ocsf::write), ("oscal", oscal::write), ("cbom", cbom::write)];

fn report(log: &Path) -> Report {
    make(&Request { folders: vec![log.to_owned()], sample: 3, seed: 7, ..Request::default() }).unwrap()
}

fn text(format: Format, report: &Report) -> String {
    let mut out = Vec::new();
    format(report, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The story of half a year with this many keys, as a page on the disk.
fn page(keys: usize, simulated: bool) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.html");
    std::fs::write(&file, text(html::write, &report(story(keys, simulated).path()))).unwrap();
    (folder, file)
}

/// Whether a validator accepts the document, and what it says if not.
fn judged(format: &str, document: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(format!("{format}.json"));
    std::fs::write(&file, document).unwrap();
    let ran = Command::new(PYTHON).arg(root().join("tests/tools/validate_report.py")).arg(format).arg(&file).output();
    let ran = ran.unwrap();
    if ran.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ran.stderr).into_owned()) }
}

pub(crate) fn the_published_validators_accept_the_machine_formats() {
    for (keys, simulated) in [(16, false), (8, true)] {
        let report = report(story(keys, simulated).path());
        for (name, format) in FORMATS {
            assert_eq!(judged(name, &text(format, &report)), Ok(()), "{name}");
        }
    }
}

/// Breaks a document.
type Break = fn(&mut Value);

pub(crate) fn the_published_validators_refuse_broken_documents() {
    let report = report(story(8, false).path());
    let broken: [(usize, Break); 7] = [
        (0, |event| event["class_uid"] = "2003".into()),
        (0, |event| event["compliance"]["status_id"] = 7.into()),
        (0, |event| event["nowhere"] = true.into()),
        (1, |document| document["assessment-results"]["uuid"] = "1".into()),
        (1, |document| {
            document["assessment-results"]["results"][0]["findings"][0]["target"]["status"]["state"] = "maybe".into();
        }),
        (2, |document| {
            let properties = &mut document["components"][0]["cryptoProperties"];
            properties["relatedCryptoMaterialProperties"]["state"] = "retired".into();
        }),
        (2, |document| document["components"][0]["verdict"] = "met".into()),
    ];
    for (at, (format, break_it)) in broken.into_iter().enumerate() {
        let (name, write) = FORMATS[format];
        let text = text(write, &report);
        let mut document: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(judged(name, &document.to_string()), Ok(()), "{name}");
        break_it(&mut document);
        assert!(judged(name, &document.to_string()).is_err(), "{name}: {at} is accepted");
    }
}

pub(crate) fn the_report_is_readable_in_light_and_dark_and_needs_no_network() {
    let (_folder, file) = page(8, true);
    let browser = Browser::of_file(&file);
    assert_eq!(browser.text("return document.body.firstElementChild.className"), "simulated");
    for mode in ["light", "dark"] {
        let features = json!([{"name": "prefers-color-scheme", "value": mode}]);
        browser.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
        assert_eq!(browser.find(HARD_TO_READ), json!([]), "{mode}");
    }
    assert_eq!(browser.find("return performance.getEntriesByType('resource').length"), 0);
    assert_eq!(browser.complaints(), Vec::<Value>::new());
    // Every table has headings with a scope, and every bar has a text.
    let unscoped = "return document.querySelectorAll('th:not([scope])').length";
    let bars =
        "return [...document.querySelectorAll('svg.bar')].filter((bar) => !bar.getAttribute('aria-label')).length";
    assert_eq!((browser.find(unscoped), browser.find(bars)), (json!(0), json!(0)));
}

pub(crate) fn the_report_is_printed_on_pages_with_every_part() {
    let (_folder, file) = page(40, false);
    let browser = Browser::of_file(&file);
    // A filter on the screen leaves out nothing on paper.
    browser.click(".controls button.not_met");
    let features = json!([{"name": "prefers-color-scheme", "value": "dark"}]);
    browser.devtools("Emulation.setEmulatedMedia", &json!({"media": "print", "features": features}));
    assert_eq!(browser.find(VISIBLE_ROWS), 40);
    assert_eq!(browser.text("return getComputedStyle(document.body).color"), "rgb(24, 32, 44)", "dark on white");
    let printed = browser.pdf();
    assert!(printed.starts_with(b"%PDF-"));
    let text = String::from_utf8_lossy(&printed);
    let pages = text.matches("/Type /Page\n").count();
    assert!((8..40).contains(&pages), "{pages} pages");
    assert!(text.contains("/MediaBox [0 0 841"), "A4, landscape");
}

pub(crate) fn rows_are_filtered_by_mouse_and_keyboard_and_all_are_there_without_a_script() {
    let (_folder, file) = page(16, false);
    let browser = Browser::of_file(&file);
    let focus = "const at = document.activeElement; return at.textContent || at.placeholder || at.localName";
    let visible = "const style = getComputedStyle(document.activeElement); return parseFloat(style.outlineWidth) >= 2";
    browser.tab();
    assert_eq!((browser.text(focus), browser.find(visible)), ("Skip to the verdicts".into(), json!(true)));
    browser.enter();
    assert_eq!(browser.text("return location.hash"), "#verdicts-1");
    browser.tab();
    assert_eq!((browser.text(focus), browser.find(visible)), ("Filter rows".into(), json!(true)));
    browser.press("cards".chars());
    assert_eq!(browser.find(VISIBLE_ROWS), 2);
    browser.tab();
    assert_eq!(browser.find(visible), json!(true));
    browser.enter();
    assert_eq!(browser.text("return document.activeElement.getAttribute('aria-pressed')"), "true");
    assert_eq!(browser.text("return document.querySelector('.controls [role=status]').textContent"), "2 of 16 rows");
    assert_eq!(browser.complaints(), Vec::<Value>::new());
    browser.devtools("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    browser.devtools("Page.reload", &json!({}));
    browser.await_found("return document.querySelectorAll('.controls').length", &json!(0));
    assert_eq!(browser.find(VISIBLE_ROWS), 16);
}

pub(crate) fn two_thousand_keys_are_shown_and_filtered() {
    let (_folder, file) = page(2_000, false);
    let size = std::fs::metadata(&file).unwrap().len();
    assert!(size < 8 << 20, "{size} bytes");
    let browser = Browser::of_file(&file);
    assert_eq!(browser.find(VISIBLE_ROWS), 2_000);
    browser.click("#verdicts-1 .controls input");
    browser.press("cards-7".chars());
    assert_eq!(browser.find(VISIBLE_ROWS), 11, "7 and 70 to 79");
    assert_eq!(browser.complaints(), Vec::<Value>::new());
}

pub(crate) fn the_report_fits_a_narrow_window() {
    let (_folder, file) = page(8, false);
    let browser = Browser::of_file(&file);
    let narrow = json!({"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": false});
    browser.devtools("Emulation.setDeviceMetricsOverride", &narrow);
    // Wide tables are scrolled within themselves.
    let overflow = "const root = document.documentElement; return root.scrollWidth - root.clientWidth";
    assert_eq!(browser.find(overflow), 0);
    // For the picture in the documents, and for people who change the page.
    if let Some(folder) = std::env::var_os("REPORT_PICTURES") {
        take_pictures(&browser, &file, Path::new(&folder));
    }
}

/// Pictures of the page in light and dark, and the PDF.
fn take_pictures(browser: &Browser, file: &Path, folder: &Path) {
    std::fs::copy(file, folder.join("report.html")).unwrap();
    std::fs::write(folder.join("narrow.png"), browser.screenshot()).unwrap();
    for (name, mode, height) in [("light", "light", 1_500), ("dark", "dark", 1_500), ("whole", "light", 6_000)] {
        let features = json!([{"name": "prefers-color-scheme", "value": mode}]);
        browser.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
        let size = json!({"width": 1_400, "height": height, "deviceScaleFactor": 1, "mobile": false});
        browser.devtools("Emulation.setDeviceMetricsOverride", &size);
        std::fs::write(folder.join(format!("{name}.png")), browser.screenshot()).unwrap();
    }
    let size = json!({"width": 1_200, "height": 800, "deviceScaleFactor": 1, "mobile": false});
    browser.devtools("Emulation.setDeviceMetricsOverride", &size);
    browser.find("location.hash = 'verdicts-1'");
    std::fs::write(folder.join("verdicts.png"), browser.screenshot()).unwrap();
    std::fs::write(folder.join("report.pdf"), browser.pdf()).unwrap();
}
