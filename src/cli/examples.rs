//! What `--help` of each command shows to start from: lines that can be pasted.

pub(super) const ALL: &str = "Start with:
  kms-rotationd check --policy policy.yaml
  kms-rotationd rehearse --policy policy.yaml
  kms-rotationd plan --policy policy.yaml

Exit codes: 0 all well; 1 a key failed, is unknown or still off policy, or the program could not go on; 2 usage error or \
invalid policy; 3 plan found changes to make and could read every key.";

pub(super) const RUN: &str = "Examples:
  Where the policy is /etc/kms-rotationd/policy.yaml:
    kms-rotationd run
  Metrics for another machine, in TLS and with a login:
    kms-rotationd run --listen 0.0.0.0:9847 --web-config /etc/kms-rotationd/web.yaml
  On all addresses, of IPv6 and of IPv4:
    kms-rotationd run --listen :9847
  For a log collector:
    kms-rotationd run --log-format json

SIGHUP or a changed policy file: read the policy again. SIGTERM or SIGINT: end after the calls in flight; another one \
a second or more later ends it at once.";

pub(super) const APPLY: &str = "Examples:
  Bring the keys to the policy, and tell by the exit code whether they are:
    kms-rotationd apply --policy policy.yaml
  Which keys are off policy or unknown, for a script:
    kms-rotationd apply --policy policy.yaml --output json |
      jq -r '.projects[].keys[] | select(.status == \"non_compliant\" or .status == \"unknown\") | .key_id'";

pub(super) const PLAN: &str = "Examples:
  What would a run change?
    kms-rotationd plan --policy policy.yaml
  In a pipeline that goes on where there are changes to make (3) and fails on errors (1, 2):
    kms-rotationd plan --policy policy.yaml || test $? -eq 3

Exit codes: 0 nothing to change; 1 a key could not be read, or is off policy for a reason that a run does not mend; 2 usage \
error or invalid policy; 3 changes to make, and every key could be read. What monitor mode holds back is listed under \
\"would change if enforced\" and has no effect on the exit code.";

pub(super) const CHECK: &str = "Examples:
  All that is wrong with a policy, with line and column:
    kms-rotationd check --policy policy.yaml
  The same for an editor or a pipeline:
    kms-rotationd check --policy policy.yaml --output json";

pub(super) const SCHEMA: &str = "Examples:
  For an editor, named in the policy's first line as: # yaml-language-server: $schema=policy.schema.json
    kms-rotationd schema > policy.schema.json";

pub(super) const REHEARSE: &str = "Examples:
  See what becomes of the policy's keys, on http://127.0.0.1:9847/:
    kms-rotationd rehearse --policy policy.yaml
  The same with every tenth call failing:
    kms-rotationd rehearse --policy policy.yaml --faults flaky";

pub(super) const HEALTHCHECK: &str = "Examples:
  The daemon of this container or machine, where --listen is the same for both:
    kms-rotationd healthcheck
  Has it ended its first run?
    kms-rotationd healthcheck --ready
  One on another machine:
    kms-rotationd healthcheck --url https://keys.example.com:9847 --ca-file /etc/ssl/private-ca.pem

It exits with 0 or 1, and says why on standard error. On the loopback a certificate is not verified unless --ca-file is \
given: nothing is sent there but the question.";

pub(super) const GENERATE: &str = "Examples:
  kms-rotationd generate completions bash > /usr/share/bash-completion/completions/kms-rotationd
  kms-rotationd generate man /usr/share/man/man1";
