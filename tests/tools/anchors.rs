//! The recipes for anchors in docs/evidence.md, run as they stand there: git, a timestamp authority with openssl, and
//! Prometheus.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::cloud::{Cloud, off};
use crate::eventually;
use crate::evidence_log::{continued, copy_of, written};
use crate::prometheus::Prometheus;
use crate::repository::all_blocks;
use crate::site::{Policy, Site};

const LOG: &str = "/var/lib/kms-rotationd/evidence";

/// A timestamp authority of this test: openssl makes its certificate, and the reply to a request.
const AUTHORITY: &str = "\
[req]
distinguished_name = name
x509_extensions = certificate
prompt = no
[name]
CN = Timestamps
[certificate]
extendedKeyUsage = critical, timeStamping
[tsa]
default_tsa = authority
[authority]
serial = serial
crypto_device = builtin
signer_cert = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256
";

/// Runs commands in a folder; the program is on the path. Returns what they print, and whether the last one succeeded.
fn shell(folder: &Path, commands: &str) -> (String, bool) {
    let own = Path::new(env!("CARGO_BIN_EXE_kms-rotationd")).parent().unwrap();
    let mut shell = Command::new("sh");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = [own.as_os_str(), &path].join(OsStr::new(":"));
    // Git needs a name, and no settings of this machine.
    shell.env("PATH", path).env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        shell.env(format!("GIT_{role}_NAME"), "test").env(format!("GIT_{role}_EMAIL"), "test@example.com");
    }
    let ran = shell.args(["-ec", &format!("exec 2>&1\n{commands}")]).current_dir(folder).output().unwrap();
    (String::from_utf8(ran.stdout).unwrap(), ran.status.success())
}

/// The block of the document with this mark, on this log.
fn recipe(mark: &str, log: &Path) -> String {
    let blocks = all_blocks("docs/evidence.md");
    let block = blocks.iter().find(|block| block.mark == mark).unwrap_or_else(|| panic!("no block {mark}"));
    assert!(block.text.contains(LOG), "{}", block.text);
    block.text.replace(LOG, log.to_str().unwrap())
}

/// The number of anchors that agree with the log, and whether nothing is wrong.
#[track_caller]
fn assert_verified((text, succeeded): &(String, bool), succeeds: bool, anchors: &str) {
    assert!(*succeeded == succeeds && text.contains(&format!("anchors     {anchors}")), "{text}");
}

pub(crate) fn a_git_repository_keeps_anchors() {
    let (folder, log) = (TempDir::new().unwrap(), written());
    let (older, outer) = (copy_of(log.path()), folder.path());
    let made = shell(outer, "git init --quiet --bare server.git; git clone --quiet server.git anchors");
    assert!(made.1, "{}", made.0);
    for number in 0..3 {
        continued(log.path(), &format!("record {number}"), 10 + number);
        // Twice: without a new checkpoint there is no commit.
        for _ in 0..2 {
            let kept = shell(outer, &recipe("git: keep", log.path()));
            assert!(kept.1, "{}", kept.0);
        }
    }
    let commits = shell(outer, "git -C server.git rev-list --count --all").0;
    assert_eq!(commits, "3\n");
    assert_verified(&shell(outer, &recipe("git: verify", log.path())), true, "3 agree with it");
    let restored = shell(outer, &recipe("git: verify", older.path()));
    assert_verified(&restored, false, "none that agrees with it");
    assert!(restored.0.contains("TRUNCATED: 3 records found"), "{}", restored.0);
}

pub(crate) fn a_timestamp_of_a_checkpoint_verifies() {
    let (folder, log) = (TempDir::new().unwrap(), written());
    let outer = folder.path();
    fs::write(outer.join("tsa.cnf"), AUTHORITY).unwrap();
    fs::write(outer.join("serial"), "01\n").unwrap();
    let authority = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -config tsa.cnf -keyout tsa.key -out tsa.pem";
    let made = shell(outer, authority);
    assert!(made.1, "{}", made.0);
    let recipe_to_keep = recipe("timestamp: keep", log.path());
    // Instead of the request to the authority.
    let reply = "openssl ts -reply -config tsa.cnf -queryfile checkpoint.tsq -out checkpoint.tsr";
    let keep: Vec<_> =
        recipe_to_keep.lines().map(|line| if line.starts_with("curl ") { reply } else { line }).collect();
    let kept = shell(outer, &keep.join("\n"));
    assert!(kept.1 && keep.contains(&reply), "{}", kept.0);
    let verified = shell(outer, &recipe("timestamp: verify", log.path()));
    assert_verified(&verified, true, "1 agrees with it");
    assert!(verified.0.contains("Verification: OK"), "{}", verified.0);
    let changed = fs::read_to_string(outer.join("checkpoint")).unwrap().replace("\n3\n", "\n2\n");
    fs::write(outer.join("checkpoint"), changed).unwrap();
    let refused = shell(outer, &recipe("timestamp: verify", log.path()));
    assert!(!refused.1 && refused.0.contains("Verification: FAILED"), "{}", refused.0);
}

pub(crate) fn a_prometheus_keeps_anchors() {
    let cloud = Cloud::of([off()]);
    let evidence = "{directory: evidence, name: payments}".to_owned();
    let site = Site::new(&Policy { evidence, ..Policy::of_one_key(cloud.url()) });
    let daemon = site.run();
    let prometheus = Prometheus::watching(&daemon);
    let recipe = recipe("prometheus", &site.path("evidence"));
    let (request, verification) = recipe.split_once('\n').unwrap();
    let query = request.split('\'').nth(1).and_then(|data| data.strip_prefix("query=")).unwrap();
    eventually("the metric of a checkpoint", || prometheus.query(query).len() == 1);
    fs::write(site.path("kept-elsewhere"), prometheus.answer(query).1).unwrap();
    daemon.stop();
    assert_verified(&shell(site.folder(), verification), true, "1 agrees with it");
    // Somebody removes what the first run has recorded.
    let segment = site.path("evidence").join("00000000000000000000.jsonl");
    let content = fs::read_to_string(&segment).unwrap();
    let kept: Vec<_> = content.split_inclusive('\n').take(3).collect();
    fs::write(&segment, kept.concat()).unwrap();
    let cut = shell(site.folder(), verification);
    assert!(!cut.1 && cut.0.contains("TRUNCATED: 3 records found"), "{}", cut.0);
}
