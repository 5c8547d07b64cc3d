//! The example for Alertmanager: `amtool` checks it, and a real Alertmanager with it sends mail, chat messages and JSON
//! to servers of the test.
//!
//! Only addresses, files and waiting times of the example are changed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use kms_rotationd::rotation::decide::Reason;
use kms_rotationd::rotation::remedies::remedy;
use kms_simulator::OperationSet;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cloud::{Cloud, rotating};
use super::program::{Program, get};
use super::prometheus::Prometheus;
use super::repository::{blocks, root, text};
use super::site::{Policy, Site};
use super::stand_in::{StandIn, answer};
use super::{KEY, PROJECT, eventually};

const CONFIG: &str = "config/prometheus/alertmanager.yaml";
const MAIL_PASSWORD: &str = "mail-password-of-a-file";
const WEBHOOK_TOKEN: &str = "webhook-token-of-a-file";

/// The name of Debian's program, and the file without which it does not start.
const OF_DEBIAN: (&str, &str) = ("prometheus-alertmanager", "/usr/share/prometheus/alertmanager/default.tmpl");

/// The name of the installed program.
pub(crate) fn program() -> Result<&'static str, String> {
    let (name, templates) = OF_DEBIAN;
    if super::installed("alertmanager").is_ok() {
        return Ok("alertmanager");
    }
    super::installed(name)?;
    if Path::new(templates).is_file() { Ok(name) } else { Err(format!("{name} does not start without {templates}")) }
}

/// A received mail.
#[derive(Clone, Default)]
struct Mail {
    login: String,
    to: String,
    /// Head and body, without the encoding for long lines.
    text: String,
}

/// A mail server on a free port of the loopback. It serves until the tests end.
struct MailServer {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Mail>>>,
}

impl MailServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let into = Arc::clone(&into);
                thread::spawn(move || {
                    // The client closes the connection when it ends.
                    let _ = receive(stream, &into);
                });
            }
        });
        Self { address, received }
    }

    fn received(&self) -> Vec<Mail> {
        self.received.lock().unwrap().clone()
    }
}

/// One session of SMTP (RFC 5321), with the login `PLAIN` (RFC 4954).
fn receive(mut stream: TcpStream, into: &Mutex<Vec<Mail>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut mail = Mail::default();
    stream.write_all(b"220 ready\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        let reply = match line.split_once([' ', ':']).map_or(&*line, |(command, _)| command) {
            "EHLO" => "250-test\r\n250 AUTH PLAIN",
            "AUTH" => {
                line.rsplit(' ').next().unwrap().clone_into(&mut mail.login);
                "235 accepted"
            }
            "RCPT" => {
                mail.to = line;
                "250 ok"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                let data = lines.by_ref().map_while(Result::ok).take_while(|line| line != ".");
                // A line that begins with a dot is sent with one more.
                let data: Vec<_> = data.map(|line| line.strip_prefix('.').unwrap_or(&line).to_owned()).collect();
                mail.text = decoded(&data.join("\n"));
                into.lock().unwrap().push(mail.clone());
                "250 ok"
            }
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        stream.write_all(format!("{reply}\r\n").as_bytes())?;
    }
    Ok(())
}

/// Text in quoted-printable (RFC 2045, section 6.7), decoded.
fn decoded(text: &str) -> String {
    let joined = text.replace("=\n", "");
    let mut parts = joined.split('=');
    let mut decoded = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        // The head is not encoded and has equals signs of its own.
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                decoded.extend(&part.as_bytes()[2..]);
            }
            None => decoded.extend([b"=", part.as_bytes()].concat()),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A running Alertmanager with the example, and what it sends to.
struct Alertmanager {
    address: String,
    mail: MailServer,
    /// Chat at `/chat`, and the program for JSON at `/webhook`.
    web: StandIn,
    _program: Program,
    _folder: TempDir,
}

impl Alertmanager {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mail, web) = (MailServer::start(), StandIn::start(|_| answer("200 OK", "", "ok")));
        let file = |name: &str, content: &str| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            path.display().to_string()
        };
        let mut config = String::new();
        let mut changed = BTreeSet::new();
        for line in text(CONFIG).lines() {
            let field = line.split_once(": ").map_or(line, |(field, _)| field);
            let name = field.trim_start_matches([' ', '-']);
            let value = match name {
                "smtp_smarthost" => format!("{}\n  smtp_require_tls: false", mail.address),
                "smtp_auth_password_file" => file("mail", MAIL_PASSWORD),
                "api_url_file" => file("chat", &format!("{}/chat", web.url())),
                "url" => format!("{}/webhook", web.url()),
                "credentials_file" => file("token", WEBHOOK_TOKEN),
                "group_wait" => "0s".to_owned(),
                "group_interval" => "1s".to_owned(),
                _ => {
                    config.extend([line, "\n"]);
                    continue;
                }
            };
            assert!(!value.is_empty() && changed.insert(name.to_owned()), "{line}");
            config.extend([field, ": ", &value, "\n"]);
        }
        assert_eq!(changed.len(), 7, "{changed:?}");
        fs::write(folder.path().join("alertmanager.yaml"), config).unwrap();
        let mut command = Command::new(self::program().unwrap());
        command.args(["--config.file=alertmanager.yaml", "--storage.path=data", "--log.format=json"]);
        command.args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="]).current_dir(folder.path());
        let program = Program::start(command);
        let address = program.await_line("msg", "Listening on")["address"].as_str().unwrap().to_owned();
        Self { address, mail, web, _program: program, _folder: folder }
    }

    /// Sends alerts as Prometheus does.
    fn send(&self, alerts: &[Value]) {
        let body = Value::from(alerts).to_string();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = "POST /api/v2/alerts HTTP/1.0\r\ncontent-type: application/json";
        write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut status = String::new();
        BufReader::new(stream).read_line(&mut status).unwrap();
        assert!(status.contains(" 200 "), "{status}");
    }

    /// The instances of the alerts that another alert inhibits.
    fn inhibited(&self) -> BTreeSet<String> {
        let (_, body) = get(&self.address, "/api/v2/alerts");
        let alerts: Vec<Value> = serde_json::from_str(&body).unwrap();
        let inhibited = alerts.iter().filter(|alert| alert["status"]["inhibitedBy"] != json!([]));
        inhibited.map(|alert| alert["labels"]["case"].as_str().unwrap().to_owned()).collect()
    }

    /// The title and the text of each chat message.
    fn chat(&self) -> Vec<[String; 2]> {
        let messages = self.web.bodies("chat").into_iter().map(|body| serde_json::from_str::<Value>(&body).unwrap());
        let part = |message: &Value, name: &str| message["attachments"][0][name].as_str().unwrap().to_owned();
        messages.map(|message| ["title", "text"].map(|name| part(&message, name))).collect()
    }

    /// The documents that the program for JSON has got.
    fn json(&self) -> Vec<Value> {
        self.web.bodies("webhook").into_iter().map(|body| serde_json::from_str(&body).unwrap()).collect()
    }
}

/// Every alert of the rules, once for each severity: name, severity, and its annotations as they are written.
fn kinds() -> Vec<(String, &'static str, Value)> {
    let rules: Value = serde_saphyr::from_str(&text("config/prometheus/rules.yaml")).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let mut kinds = Vec::new();
    for rule in rules.filter(|rule| rule["alert"].is_string()) {
        for severity in ["warning", "critical"] {
            if rule["labels"]["severity"].as_str().unwrap().contains(severity) {
                kinds.push((rule["alert"].as_str().unwrap().to_owned(), severity, rule["annotations"].clone()));
            }
        }
    }
    assert!(kinds.len() > 25, "{}", kinds.len());
    kinds
}

pub(crate) fn amtool_accepts_the_example_and_routes_by_severity() {
    let amtool = |arguments: &[&str]| {
        let ran = Command::new("amtool").args(arguments).current_dir(root()).output().unwrap();
        let printed = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(ran.status.success(), "amtool {arguments:?}: {printed:?}");
    };
    amtool(&["check-config", CONFIG]);
    let mut tested = BTreeSet::new();
    for (name, severity, _) in kinds() {
        let receiver = if severity == "critical" { "mail-and-chat" } else { "mail" };
        if tested.insert((name.clone(), severity)) {
            let labels = [format!("alertname={name}"), format!("severity={severity}"), "project=payments".to_owned()];
            let mut arguments =
                vec!["config", "routes", "test", "--config.file", CONFIG, "--verify.receivers", receiver];
            arguments.extend(labels.iter().map(String::as_str));
            amtool(&arguments);
        }
    }
}

pub(crate) fn each_kind_of_alert_is_sent_as_mail_and_a_critical_one_to_chat_and_program_too() {
    let alertmanager = Alertmanager::start();
    let kinds = kinds();
    // Of another project and instance each, so that none is grouped with another one or inhibits it.
    let project = |at: usize| format!("project-{at}.");
    let alerts = kinds.iter().enumerate().map(|(at, (name, severity, annotations))| {
        let mut annotations = annotations.clone();
        annotations["summary"] = format!("{} {}", project(at), annotations["summary"].as_str().unwrap()).into();
        let labels = json!({
            "alertname": name, "severity": severity, "job": "kms-rotationd", "instance": project(at),
            "project": project(at)
        });
        json!({"labels": labels, "annotations": annotations})
    });
    let alerts: Vec<_> = alerts.collect();
    alertmanager.send(&alerts);
    let critical: Vec<_> = alerts.iter().filter(|alert| alert["labels"]["severity"] == "critical").collect();
    eventually("all mail has come", || alertmanager.mail.received().len() >= alerts.len());
    eventually("all chat messages have come", || alertmanager.chat().len() >= critical.len());
    eventually("the program has got all", || alertmanager.json().len() >= critical.len());

    let (mail, chat, documents) = (alertmanager.mail.received(), alertmanager.chat(), alertmanager.json());
    assert_eq!((mail.len(), chat.len(), documents.len()), (alerts.len(), critical.len(), critical.len()));
    let texts = |alert: &Value| {
        ["summary", "description", "runbook"].map(|name| alert["annotations"][name].as_str().unwrap().to_owned())
    };
    for alert in &alerts {
        let [summary, description, runbook] = texts(alert);
        let mail = mail.iter().find(|mail| mail.text.contains(&summary)).unwrap_or_else(|| panic!("{summary}"));
        assert!(mail.text.contains(&description) && mail.text.contains(&runbook), "{}", mail.text);
        assert!(
            mail.text.contains("Subject: [firing] ") && mail.to.contains("<security@example.com>"),
            "{}",
            mail.text
        );
        let login = format!("\0kms-rotationd@example.com\0{MAIL_PASSWORD}");
        assert_eq!(mail.login, BASE64_STANDARD.encode(login), "the password is from the file");
    }
    for alert in critical {
        let [summary, description, runbook] = texts(alert);
        let [title, text] = chat.iter().find(|[_, text]| text.contains(&summary)).unwrap();
        assert_eq!(*title, format!("[firing] {summary}"));
        assert!(text.contains(&description) && text.contains(&runbook), "{text}");
        let of_alert = |document: &&Value| document["alerts"][0]["annotations"] == alert["annotations"];
        assert!(documents.iter().any(|document| of_alert(&document)), "{documents:?}");
    }
    let login = format!("authorization: bearer {WEBHOOK_TOKEN}");
    let to_program = alertmanager.web.asked().into_iter().filter(|asked| asked.call() == "webhook");
    assert!(to_program.into_iter().all(|asked| asked.headers.lines().any(|line| line == login)));
}

pub(crate) fn an_alert_about_the_cause_inhibits_those_that_follow_from_it() {
    let alertmanager = Alertmanager::start();
    let alert = |case: &str, name: &str, severity: &str, instance: &str, project: &str, reason: &str| {
        let labels = json!({
            "case": case, "alertname": name, "severity": severity, "job": "kms-rotationd", "instance": instance,
            "project": project, "reason": reason
        });
        json!({"labels": labels, "annotations": {"summary": "", "description": "", "runbook": ""}})
    };
    alertmanager.send(&[
        alert("cause", "KmsRotationAuthenticationFailed", "critical", "a", "refused", "authentication_failed"),
        alert("keys of the project", "KmsKeyUnknown", "warning", "a", "refused", "read_failed"),
        alert("material", "KmsRotationMaterialTooOld", "warning", "a", "refused", "material_too_old"),
        alert("runs", "KmsRotationRunsFailing", "warning", "a", "", ""),
        alert("evidence", "KmsRotationEvidenceNotWritten", "critical", "a", "", ""),
        alert("another project", "KmsKeyUnknown", "warning", "a", "well", "read_failed"),
        alert("another daemon", "KmsKeyUnknown", "warning", "b", "refused", "read_failed"),
        alert("later", "KmsKeyUnknown", "critical", "c", "unread", "read_failed"),
        alert("earlier", "KmsKeyUnknown", "warning", "c", "unread", "read_failed"),
        alert("another reason", "KmsKeyUnknown", "warning", "c", "unread", "not_found"),
        alert("down", "KmsRotationTargetDown", "critical", "d", "", ""),
        alert("keys of no daemon", "KmsKeyOffPolicy", "critical", "d", "payments", "access_denied"),
        alert("runs of no daemon", "KmsRotationRunsFailing", "warning", "d", "", ""),
    ]);
    let expected = ["keys of the project", "material", "runs", "earlier", "keys of no daemon", "runs of no daemon"];
    let expected: BTreeSet<_> = expected.into_iter().map(str::to_owned).collect();
    eventually("exactly these are inhibited", || alertmanager.inhibited() == expected);
}

pub(crate) fn a_key_off_policy_sends_mail_and_chat_messages_until_it_is_repaired() {
    let cloud = Cloud::of([rotating(90).alias("pay-db")]);
    let site = Site::new(&Policy::of_one_key(cloud.url()).every_second());
    let daemon = site.run();
    let alertmanager = Alertmanager::start();
    let prometheus = Prometheus::notifying(&daemon, &alertmanager.address);
    eventually("the key is reported on policy", || {
        !prometheus.query("kms_rotation_keys{status=\"compliant\"} == 1").is_empty()
    });
    assert!(alertmanager.mail.received().is_empty());

    cloud.behave(|behaviour| behaviour.forbidden = OperationSet::WRITES);
    assert!(cloud.change_key(PROJECT, KEY, |key| key.rotation.enabled = false));
    let summary = "Keys of payments off policy: 1 (access_denied)";
    // The mail in the document, in lines of another length.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let example =
        blocks("docs/monitoring.md", "text").into_iter().find(|block| block.starts_with("Subject: ")).unwrap();
    let (subject, body) = example.split_once('\n').unwrap();
    assert!(subject.ends_with(summary) && words(body).contains(remedy(Reason::AccessDenied)), "{example}");
    eventually("the mail in the document has come", || {
        let mails = alertmanager.mail.received();
        mails.iter().any(|mail| mail.text.contains(subject) && words(&mail.text).contains(&words(body)))
    });
    eventually("a chat message has come", || {
        let chat = alertmanager.chat();
        chat.iter().any(|[title, text]| subject.ends_with(title) && words(text).contains(&words(body)))
    });

    cloud.behave(|behaviour| behaviour.forbidden = OperationSet::default());
    let resolved = format!("Subject: [resolved] {summary}");
    eventually("a mail about the end has come", || {
        alertmanager.mail.received().iter().any(|mail| mail.text.contains(&resolved))
    });
}
