//! Decodes the web configuration file: TLS, users and token of the daemon's HTTP server.
//!
//! It has the format of `--web.config.file` of the Prometheus exporters (exporter-toolkit's
//! `docs/web-configuration.md`), so that one file configures them and this program; `bearer_token_file` is our own.
//! The decoder and the messages are those of the policy. Fields that are not supported are refused, never ignored. The
//! file contains hashes, so it is never printed, and its problems are shown without the source below them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::yaml::Problems;
use crate::yaml::decode::{Decoder, Field, optional};
use crate::yaml::schema::{FieldKind, FieldSchema, Schema, Text};
use crate::yaml::tree::{Node, Value};
use crate::yaml::wording::quoted;

const WEB: Schema = Schema {
    unsupported: &[("rate_limit", "remove it: connections and password checks are limited already")],
    ..Schema::of(
        "the web configuration",
        &[
            FieldSchema::optional("tls_server_config", FieldKind::Mapping(&TLS), "TLS settings"),
            FieldSchema::optional("http_server_config", FieldKind::Mapping(&HTTP), "HTTP settings"),
            FieldSchema::optional("basic_auth_users", FieldKind::Mapping(&USERS), "users with a password"),
            FieldSchema::optional("bearer_token_file", FieldKind::Path, "contains a bearer token that allows access"),
        ],
    )
};
const TLS: Schema = Schema {
    unsupported: &[
        ("cert", "use `cert_file` with the path of a PEM file"),
        ("key", "use `key_file` with the path of a PEM file"),
        ("client_ca", "use `client_ca_file` with the path of a PEM file"),
        ("client_allowed_sans", "use a `client_ca_file` that signs only the allowed clients"),
        ("cipher_suites", "remove it: only strong ones are offered"),
        ("prefer_server_cipher_suites", "remove it: the client's preference applies"),
        ("curve_preferences", "remove it: only strong ones are offered"),
    ],
    ..Schema::of(
        "`tls_server_config`",
        &[
            FieldSchema::required("cert_file", FieldKind::Path, "certificate chain of the server (PEM)"),
            FieldSchema::required("key_file", FieldKind::Path, "its private key (PEM)"),
            FieldSchema::default(
                "client_auth_type",
                FieldKind::Choice(|| CLIENTS.into()),
                "\"NoClientCert\"",
                "whether clients need a certificate",
            ),
            FieldSchema::optional("client_ca_file", FieldKind::Path, "CA certificates of the clients (PEM)"),
            FieldSchema::default("min_version", FieldKind::Choice(versions), "\"TLS12\"", "oldest TLS version"),
            FieldSchema::default("max_version", FieldKind::Choice(versions), "\"TLS13\"", "newest TLS version"),
        ],
    )
};
const HTTP: Schema = Schema {
    unsupported: &[("headers", "remove it: every response has the headers it needs")],
    ..Schema::of(
        "`http_server_config`",
        &[FieldSchema::default("http2", FieldKind::Boolean, "false", "must be `false`: only HTTP/1.1 is supported")],
    )
};
/// Its fields are user names, so the table is empty.
const USERS: Schema = Schema::of("`basic_auth_users`", &[]);

const NAME: Text = Text { what: "a user name", longest: 256 };
const NO_CERTIFICATE: &str = "NoClientCert";
const IF_GIVEN: &str = "VerifyClientCertIfGiven";
const REQUIRED: &str = "RequireAndVerifyClientCert";
const CLIENTS: [&str; 3] = [NO_CERTIFICATE, IF_GIVEN, REQUIRED];
/// Not supported: a certificate that is not verified proves nothing.
const UNVERIFIED: [&str; 2] = ["RequestClientCert", "RequireAnyClientCert"];

fn versions() -> Vec<&'static str> {
    TlsVersion::ALL.map(TlsVersion::as_str).into()
}

/// The costs of bcrypt that are accepted: 4 is its lowest, and above 16 a check takes more than four seconds.
const COSTS: std::ops::RangeInclusive<u32> = 4..=16;

/// A decoded web configuration.
pub struct WebConfig {
    /// TLS settings; `None` for plain HTTP.
    pub tls: Option<Tls>,
    /// Users with a password. Without users and token, access is open.
    pub users: Vec<User>,
    /// The file with the bearer token.
    pub bearer_token_file: Option<PathBuf>,
}

impl WebConfig {
    /// The paths of files with secrets.
    pub(crate) fn secret_files(&self) -> impl Iterator<Item = &Path> {
        let key = self.tls.as_ref().map(|tls| &tls.key_file);
        key.into_iter().chain(&self.bearer_token_file).map(PathBuf::as_path)
    }

    /// The paths of all files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let of_tls = self.tls.iter().flat_map(|tls| {
            let authorities = match &tls.clients {
                ClientAuth::None => None,
                ClientAuth::IfGiven(file) | ClientAuth::Required(file) => Some(file),
            };
            [Some(&tls.cert_file), Some(&tls.key_file), authorities].into_iter().flatten()
        });
        of_tls.chain(&self.bearer_token_file).map(PathBuf::as_path)
    }
}

/// TLS settings.
#[derive(Debug)]
pub struct Tls {
    /// Certificate chain of the server (PEM).
    pub cert_file: PathBuf,
    /// Its private key (PEM).
    pub key_file: PathBuf,
    /// Whether clients need a certificate.
    pub clients: ClientAuth,
    /// Oldest version.
    pub min_version: TlsVersion,
    /// Newest version.
    pub max_version: TlsVersion,
}

/// Whether clients need a certificate, and the file of its CA.
#[derive(Debug, PartialEq)]
pub enum ClientAuth {
    /// No certificate is requested.
    None,
    /// A certificate is optional, but must be signed by these authorities.
    IfGiven(PathBuf),
    /// A certificate signed by these authorities is required.
    Required(PathBuf),
}

/// A supported version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

impl TlsVersion {
    const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];

    fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "TLS12",
            Self::Tls13 => "TLS13",
        }
    }
}

/// A user with a password.
pub struct User {
    pub name: String,
    /// The bcrypt hash of the password.
    pub hash: String,
    /// The hash's cost.
    pub cost: u32,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Reads the bytes of the file at `path`. Relative paths in it are relative to its folder, as with the exporters. The
/// problems in the result are warnings.
///
/// # Errors
///
/// All problems of the file.
pub fn read(
    bytes: &[u8],
    path: &Path,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<(WebConfig, Problems), Problems> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.display().to_string();
    // No field depends on the time.
    let now = SystemTime::UNIX_EPOCH;
    crate::yaml::read(bytes, &name, &environment, now, "`tls_server_config` or `basic_auth_users`", |decoder, root| {
        decoder.web(root, folder)
    })
}

impl Decoder<'_> {
    fn web(&mut self, root: &Node<'_>, folder: &Path) -> Option<WebConfig> {
        let fields = self.fields(Field { name: "the file's content", key: root.span, node: root }, &WEB)?;
        let tls = fields.get("tls_server_config").map(|field| self.tls(field, folder));
        let users = fields.get("basic_auth_users").map(|field| self.users(field));
        let bearer_token_file = fields.get("bearer_token_file").map(|field| self.relative_path(field, folder));
        if let Some(field) = fields.get("http_server_config") {
            self.http(field);
        }
        Some(WebConfig {
            tls: optional(tls)?,
            users: optional(users)?.unwrap_or_default(),
            bearer_token_file: optional(bearer_token_file)?,
        })
    }

    fn tls(&mut self, field: Field<'_>, folder: &Path) -> Option<Tls> {
        let fields = self.fields(field, &TLS)?;
        let cert_file = fields.get("cert_file").and_then(|field| self.relative_path(field, folder));
        let key_file = fields.get("key_file").and_then(|field| self.relative_path(field, folder));
        let clients = self.clients(fields.get("client_auth_type"), fields.get("client_ca_file"), folder);
        let min = fields.get("min_version").map(|field| self.choice(field, &TlsVersion::ALL, TlsVersion::as_str));
        let max = fields.get("max_version").map(|field| self.choice(field, &TlsVersion::ALL, TlsVersion::as_str));
        let (min, max) = (optional(min)?.unwrap_or(TlsVersion::Tls12), optional(max)?.unwrap_or(TlsVersion::Tls13));
        if let Some(field) = fields.get("max_version").filter(|_| max < min) {
            self.error(
                field.span(),
                "`max_version` is older than `min_version`, expected the same version or a newer one",
            );
        }
        Some(Tls { cert_file: cert_file?, key_file: key_file?, clients: clients?, min_version: min, max_version: max })
    }

    fn clients(&mut self, kind: Option<Field<'_>>, ca: Option<Field<'_>>, folder: &Path) -> Option<ClientAuth> {
        let file = ca.map(|field| self.relative_path(field, folder));
        let chosen = match kind {
            None => NO_CERTIFICATE,
            Some(field) if field.node.text().is_some_and(|text| UNVERIFIED.contains(&text)) => {
                self.mismatch(field, &format!("`{IF_GIVEN}` or `{REQUIRED}`, which verify the certificate"));
                return None;
            }
            Some(field) => self.choice(field, &CLIENTS, |kind| kind)?,
        };
        match (chosen, ca) {
            (NO_CERTIFICATE, Some(ca)) => {
                let message = format!("`client_ca_file` has no effect with `client_auth_type: {NO_CERTIFICATE}`");
                self.error(ca.key, format!("{message}, expected `{REQUIRED}`"));
                None
            }
            (NO_CERTIFICATE, None) => Some(ClientAuth::None),
            (_, None) => {
                let at = kind?.key;
                self.error(at, format!("`client_auth_type: {chosen}` requires `client_ca_file`"));
                None
            }
            (chosen, Some(_)) => {
                let file = file??;
                Some(if chosen == IF_GIVEN { ClientAuth::IfGiven(file) } else { ClientAuth::Required(file) })
            }
        }
    }

    fn http(&mut self, field: Field<'_>) {
        let Some(fields) = self.fields(field, &HTTP) else { return };
        if let Some(field) = fields.get("http2")
            && self.boolean(field) == Some(true)
        {
            self.mismatch(field, "`false`, because only HTTP/1.1 is supported");
        }
    }

    fn users(&mut self, field: Field<'_>) -> Option<Vec<User>> {
        let Value::Mapping(pairs) = &field.node.value else {
            // An empty value is refused too: it would allow access without login.
            let message = "`basic_auth_users` is not a mapping, expected user names with their bcrypt hashes";
            self.error(field.span(), message);
            return None;
        };
        if pairs.is_empty() {
            self.error(field.span(), "`basic_auth_users` is empty, expected at least one user")
                .help("remove it to allow access without login");
            return None;
        }
        let mut users: Vec<User> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let named = Field { name: "the user name", key: key.span, node: key };
            let Some(name) = self.name(named, &NAME) else { continue };
            if name.contains(':') {
                // In a request the first colon ends the name (RFC 7617).
                self.error(key.span, format!("user name {} contains a colon", quoted(name))).help("remove the colon");
            } else if users.iter().any(|user| user.name == name) {
                self.error(key.span, format!("duplicate user {}", quoted(name))).help("remove one of them");
            } else if let Some((hash, cost)) = value.text().and_then(|text| Some((text, bcrypt_cost(text)?))) {
                users.push(User { name: name.to_owned(), hash: hash.to_owned(), cost });
            } else {
                // The value is not repeated: it may be the password.
                let user = quoted(name);
                let message =
                    format!("user {user} has no bcrypt hash with a cost of {} to {}", COSTS.start(), COSTS.end());
                let help = format!("create one with `htpasswd -nBC 10 {}`", user.trim_matches('`'));
                self.error(key.span, message).help(help);
            }
        }
        (users.len() == pairs.len()).then_some(users)
    }

    /// The path of a file. A relative one is relative to `folder`.
    fn relative_path(&mut self, field: Field<'_>, folder: &Path) -> Option<PathBuf> {
        self.file_path(field).map(|path| folder.join(path))
    }
}

/// The cost of a bcrypt hash: `$2b$10$` and 53 characters of bcrypt's alphabet. `None` if the hash is invalid or its
/// cost is not accepted.
fn bcrypt_cost(text: &str) -> Option<u32> {
    let parts: Vec<&str> = text.split('$').collect();
    let ["", "2a" | "2b" | "2y", cost, rest] = parts[..] else { return None };
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    let is_hash = cost.len() == 2 && rest.len() == 53 && rest.bytes().all(letter);
    cost.parse().ok().filter(|cost| is_hash && COSTS.contains(cost))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "$2y$04$abcdefghijklmnopqrstuuJTqXG3hyyVPqDGLRBmyk2mIDTJzQpoy";

    fn read(text: &str) -> Result<WebConfig, Vec<String>> {
        let environment = |name: &str| (name == "DIR").then(|| "/run/c".to_owned());
        super::read(text.as_bytes(), Path::new("/etc/web.yml"), environment)
            .map(|(config, _)| config)
            .map_err(|problems| problems.to_string().lines().map(str::to_owned).collect())
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        match read(text) {
            Ok(_) => panic!("accepted: {text}"),
            Err(problems) => problems.join("\n"),
        }
    }

    #[test]
    fn a_path_that_only_a_shell_expands_is_a_warning() {
        let text = "tls_server_config: {cert_file: ~/c, key_file: $HOME/k}\nbearer_token_file: \"t\\u200b\"\n";
        let (_, warnings) = super::read(text.as_bytes(), Path::new("/etc/web.yml"), |_| None).unwrap();
        let shown = warnings.render_plain();
        let expected =
            ["`cert_file` starts with `~`", "`$NAME` in `key_file` is not expanded", "`bearer_token_file` contains"];
        assert_eq!(shown.lines().count(), expected.len(), "{shown}");
        for (line, expected) in shown.lines().zip(expected) {
            assert!(line.contains(expected), "{line}");
        }
    }

    #[test]
    fn the_fields_of_the_exporters_are_accepted() {
        let config = read(&format!(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: ${{DIR}}/server.key\n  \
             client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: /ca.crt\n  min_version: TLS13\n\
             http_server_config: {{http2: false}}\n\
             basic_auth_users: {{alice: {HASH}, \"bob\": '{HASH}'}}\nbearer_token_file: token\n"
        ))
        .unwrap();
        let tls = config.tls.unwrap();
        assert_eq!(tls.cert_file, Path::new("/etc/server.crt"));
        assert_eq!(tls.key_file, Path::new("/run/c/server.key"));
        assert_eq!(tls.clients, ClientAuth::Required("/ca.crt".into()));
        assert_eq!((tls.min_version, tls.max_version), (TlsVersion::Tls13, TlsVersion::Tls13));
        let names: Vec<_> = config.users.iter().map(|user| &*user.name).collect();
        assert_eq!((names, &*config.users[1].hash), (vec!["alice", "bob"], HASH));
        assert_eq!(config.bearer_token_file.as_deref(), Some(Path::new("/etc/token")));
        assert!(!format!("{:?}", config.users).contains("2y"));
    }

    #[test]
    fn unsupported_fields_are_refused_and_never_ignored() {
        for (text, problem) in [
            ("rate_limit: {burst: 2}", "1:1: `rate_limit` is not supported; remove it: connections"),
            ("tls_server_config: {key: abc}", "1:21: `key` is not supported; use `key_file`"),
            (
                "tls_server_config: {cipher_suites: []}",
                "1:21: `cipher_suites` is not supported; remove it: only strong",
            ),
            ("http_server_config: {headers: {}}", "1:22: `headers` is not supported; remove it: every response"),
            ("http_server_config: {http2: true}", "1:29: `http2` is the boolean true, expected `false`"),
            ("basic_auth_user: {}", "1:1: unknown field `basic_auth_user`, expected"),
            ("basic_auth_users:", "1:1: `basic_auth_users` is not a mapping, expected user names"),
            ("basic_auth_users: {}", "1:19: `basic_auth_users` is empty, expected at least one user"),
            ("", "1:1: the file is empty, expected `tls_server_config` or"),
        ] {
            let problems = refused(text);
            assert!(problems.contains(&format!("/etc/web.yml:{problem}")), "{text}: {problems}");
        }
    }

    #[test]
    fn inconsistent_tls_settings_are_refused() {
        let tls = |more: &str| format!("tls_server_config: {{cert_file: a, key_file: b, {more}}}");
        for (more, problem) in [
            (
                "client_auth_type: RequireAnyClientCert",
                "expected `VerifyClientCertIfGiven` or `RequireAndVerifyClientCert`, which verify",
            ),
            (
                "client_auth_type: RequireAndVerifyClientCert",
                "`client_auth_type: RequireAndVerifyClientCert` requires `client_ca_file`",
            ),
            (
                "client_ca_file: c",
                "no effect with `client_auth_type: NoClientCert`, expected `RequireAndVerifyClientCert`",
            ),
            ("min_version: TLS11", "`min_version` is the string `TLS11`, expected `TLS12` or `TLS13`"),
            ("min_version: TLS13, max_version: TLS12", "`max_version` is older than `min_version`"),
        ] {
            let problems = refused(&tls(more));
            assert!(problems.contains(problem), "{more}: {problems}");
        }
        let problems = refused("tls_server_config: {}");
        assert!(problems.contains("missing field `cert_file`") && problems.contains("missing field `key_file`"));
    }

    #[test]
    fn an_invalid_hash_is_refused_and_not_repeated() {
        for value in ["hunter2", "17", "''", "[hunter2]", &HASH[..59], &HASH.replace("$04$", "$17$")] {
            let problems = refused(&format!("basic_auth_users: {{alice: {value}}}"));
            assert!(problems.contains("user `alice` has no bcrypt hash with a cost of 4 to 16"), "{problems}");
            assert!(!problems.contains("hunter2") && !problems.contains("abcdef"), "{problems}");
        }
        let problems = refused(&format!("basic_auth_users: {{a: {HASH}, a: {HASH}, 'b:c': {HASH}}}"));
        assert!(problems.contains("duplicate user `a`") && problems.contains("`b:c` contains a colon"), "{problems}");
        assert!(!problems.contains("abcdef"), "{problems}");
    }
}
