//! The examples in `--help` of each command, to copy and paste.

pub(super) const ALL: &str = "Start with:
  kms-rotationd init --cloud open-telekom-cloud --region eu-de --output-file policy.yaml
  kms-rotationd check --policy policy.yaml
  kms-rotationd rehearse --policy policy.yaml
  kms-rotationd plan --policy policy.yaml

Exit codes: 0 success; 1 a key failed, is unknown or still off policy, or the program cannot continue; 2 usage error \
or invalid policy; 3 plan found changes to make and could read every key, or evidence verify found no anchor to compare \
the log with; 4 report found that the evidence log does not verify.";

pub(super) const RUN: &str = "Examples:
  With the policy in /etc/kms-rotationd/policy.yaml:
    kms-rotationd run
  Metrics for other machines, with TLS and a login:
    kms-rotationd run --listen 0.0.0.0:9847 --web-config /etc/kms-rotationd/web.yaml
  On all IPv6 and IPv4 addresses:
    kms-rotationd run --listen :9847
  For a log collector:
    kms-rotationd run --log-format json

SIGHUP or a changed policy file reloads the policy. SIGTERM or SIGINT stops the daemon after the requests in flight; \
a further one, a second or more later, stops it immediately.";

pub(super) const APPLY: &str = "Examples:
  Apply the policy; the exit code is 0 if every key is on policy:
    kms-rotationd apply --policy policy.yaml
  Only one key, by its id or its alias:
    kms-rotationd apply --policy policy.yaml --key pay-orders
  Without an account, in a simulated cloud where one call in ten fails:
    kms-rotationd apply --policy policy.yaml --simulated=flaky
  List the keys that are off policy or unknown, in a script:
    kms-rotationd apply --policy policy.yaml --output json |
      jq -r '.projects[].keys[] | select(.status == \"non_compliant\" or .status == \"unknown\") | .key_id'";

pub(super) const PLAN: &str = "Examples:
  Show what a run would change:
    kms-rotationd plan --policy policy.yaml
  Show what a run would change of one key, and its setting:
    kms-rotationd plan --policy policy.yaml --key pay-orders
  Without an account, in a simulated cloud with keys made from the policy:
    kms-rotationd plan --policy policy.yaml --simulated
  In a pipeline that continues if there are changes to make (3), and fails on errors (1, 2):
    kms-rotationd plan --policy policy.yaml || test $? -eq 3

Exit codes: 0 nothing to change; 1 a key could not be read, or is off policy for a reason that a run cannot fix; 2 \
usage error or invalid policy; 3 changes to make, and every key could be read. Changes in monitor-only projects are \
listed under \"would change if enforced\" and do not affect the exit code.";

pub(super) const CHECK: &str = "Examples:
  Show every problem of a policy, with line and column:
    kms-rotationd check --policy policy.yaml
  The same as JSON, for an editor or a pipeline:
    kms-rotationd check --policy policy.yaml --output json
  A policy that another program writes:
    ./make-policy | kms-rotationd check --policy -
  Refuse warnings too, such as a secret file that does not exist on this machine:
    kms-rotationd check --policy policy.yaml --strict";

pub(super) const INIT: &str = "Examples:
  An account, with the credentials of the environment, as for Terraform or the SDKs:
    kms-rotationd init --cloud open-telekom-cloud --region eu-de --output-file policy.yaml
  The projects of a policy without keys, with credentials of any kind:
    kms-rotationd init --policy projects.yaml --output-file policy.yaml
  An account and the code for it; keys in the code get the intervals that it asks for:
    terraform show -json |
      kms-rotationd init --cloud huawei-cloud --region eu-west-101 --from-terraform - --output-file policy.yaml
  Only the code, without network:
    kms-rotationd init --from-terraform state.json --region eu-de

Then read its comments and run check and plan on it. Exit codes: 0 printed; 1 an account could not be read, and nothing \
is printed; 2 usage error, or an invalid file.";

pub(super) const SCHEMA: &str = "Examples:
  For an editor; refer to it in the first line of the policy: # yaml-language-server: $schema=policy.schema.json
    kms-rotationd schema > policy.schema.json";

pub(super) const REHEARSE: &str = "Examples:
  Watch the policy's keys on http://127.0.0.1:9847/:
    kms-rotationd rehearse --policy policy.yaml
  The same with a run every 10 seconds, while one call in ten fails:
    kms-rotationd rehearse --policy policy.yaml --every 10s --faults flaky
  The last 400 days within a minute, with an outage, a rotation that the cloud misses, and more:
    kms-rotationd rehearse --policy config/policy.story.yaml --fast-forward 400d
  The same with other keys and times, in a cloud that forgets to rotate every third key; end without serving:
    kms-rotationd rehearse --policy policy.yaml --fast-forward 400d --seed 2 --faults forgetful --once

With --once the exit code is 0 in whatever state the keys are.";

pub(super) const PROBE: &str = "Examples:
  Try a key that was made for this, and record the answers:
    kms-rotationd probe --policy policy.yaml --project payments --key throw-away --record cassette.json
  Rehearse with a simulated cloud that answers as recorded:
    kms-rotationd rehearse --policy policy.yaml --cassette cassette.json

About 25 calls, of which 11 to 13 write, to this key only. At the end, and after an error, SIGTERM or SIGINT, the key gets \
its setting back; a second signal, a second or more later, ends probe at once. Exit codes: 0 the script ended and the key \
is restored, however many answers differ from the documents; 1 a call failed, the key cannot be probed, or it is not \
restored; 2 usage error, invalid policy, or not confirmed.";

pub(super) const EVIDENCE: &str = "Examples:
  kms-rotationd evidence verify /var/lib/kms-rotationd/evidence --anchor kept-elsewhere
  kms-rotationd evidence checkpoint /var/lib/kms-rotationd/evidence > checkpoint

No command below uses the network, and none locks or changes the log: they work beside the running daemon and on a \
read-only copy.";

pub(super) const EVIDENCE_VERIFY: &str = "Examples:
  Compare the log with a checkpoint that was kept elsewhere:
    kms-rotationd evidence verify /var/lib/kms-rotationd/evidence --anchor kept-elsewhere
  With the journal that another machine collects:
    journalctl -u kms-rotationd | kms-rotationd evidence verify /var/lib/kms-rotationd/evidence --anchor -
  The logs of two replicas, as JSON:
    kms-rotationd evidence verify evidence-0 evidence-1 --anchor kept-elsewhere --output json

Exit codes: 0 consistent and anchored; 1 inconsistent: truncated, rewritten or forked; 2 usage error, no log, or a file \
without an anchor; 3 consistent, and no anchor could be checked. Logs in sub-folders after-... continue a log and are \
verified with it; each log needs an anchor of its own. The exit code is that of the worst log: 1, then 3, then 0.";

pub(super) const EVIDENCE_CHECKPOINT: &str = "Examples:
  Keep the checkpoint in a git repository that this machine can only append to:
    kms-rotationd evidence checkpoint /var/lib/kms-rotationd/evidence > anchors/checkpoint

If the log is continued in a sub-folder after-..., the checkpoint is that of the log that is written now.";

pub(super) const EVIDENCE_PROVE: &str = "Examples:
  Prove that record number 4711 is in the log:
    kms-rotationd evidence prove /var/lib/kms-rotationd/evidence --seq 4711 --output-file 4711.tlog-proof

The log is the one in DIR itself. For a log in a sub-folder after-..., name the sub-folder.";

pub(super) const EVIDENCE_PACK: &str = "Examples:
  Everything:
    kms-rotationd evidence pack /var/lib/kms-rotationd/evidence --output-file evidence.tar
  Half a year:
    kms-rotationd evidence pack /var/lib/kms-rotationd/evidence --from 2026-01-01 --to 2026-06-30 \
--output-file 2026-1.tar

The pack never contains a private key. With --to, it ends with the last segment that has a wanted record, and with a \
checkpoint that covers it: an anchor over more records cannot be compared with it.";

pub(super) const REPORT: &str = "Examples:
  The first half of a year, for a browser and for paper:
    kms-rotationd report --evidence /var/lib/kms-rotationd/evidence --from 2026-01-01 --to 2026-06-30 --output-file report.html
  With a checkpoint that was kept elsewhere, so that it shows that nothing older was changed:
    kms-rotationd report --evidence /var/lib/kms-rotationd/evidence --anchor checkpoint --output-file report.html
  Keys that did not meet the policy, in a script:
    kms-rotationd report --evidence /var/lib/kms-rotationd/evidence --format json |
      jq -r '.observers[].keys[] | select(.verdict == \"not_met\" or .verdict == \"not_shown\") | .key_id'

Without --from and --to the report is of the whole log. Days are in UTC and inclusive; after the newest record the \
report is cut, and says so. Exit codes: 0 every key that must rotate met the policy; 1 some did not, or the log does not \
show it; 2 usage error: no log, bad days, unknown project; 4 the log does not verify, and the report says so.";

pub(super) const HEALTHCHECK: &str = "Examples:
  The daemon in the same container or machine, with the same --listen:
    kms-rotationd healthcheck
  Check that its first run has finished:
    kms-rotationd healthcheck --ready
  A daemon on another machine:
    kms-rotationd healthcheck --url https://keys.example.com:9847 --ca-file /etc/ssl/private-ca.pem

Exits with 0 or 1, and prints the reason to standard error. On a loopback address the daemon's certificate is verified \
only with --ca-file: the request contains no secret.";

pub(super) const GENERATE: &str = "Examples:
  kms-rotationd generate completions bash > /usr/share/bash-completion/completions/kms-rotationd
  kms-rotationd generate man /usr/share/man/man1";
