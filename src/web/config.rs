//! The web configuration file: TLS and logins of the daemon's HTTP server.
//!
//! It has the format of the exporters' `--web.config.file` (prometheus/exporter-toolkit, `docs/web-configuration.md`),
//! so that they and this program can use one file; `bearer_token_file` is our own. It is decoded like a policy, with
//! the same messages. Fields that are not supported here are refused, each with what is expected instead. The file
//! holds hashes, so that its problems are reported without the source lines.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::yaml::decode::given;
use crate::yaml::decode::{Decoder, Field};
use crate::yaml::problem::{Problems, quoted};
use crate::yaml::schema::{Kind, Known, Schema, Text};
use crate::yaml::tree::{Node, Value};

const WEB: Schema = Schema {
    unsupported: &[("rate_limit", "it left out: the number of connections and of password checks is bounded already")],
    ..Schema::of(
        "the web configuration",
        &[
            Known::optional("tls_server_config", Kind::Mapping(&TLS), "how TLS is spoken"),
            Known::optional("http_server_config", Kind::Mapping(&HTTP), "what of HTTP is spoken"),
            Known::optional("basic_auth_users", Kind::Mapping(&USERS), "who may ask with a password"),
            Known::optional("bearer_token_file", Kind::Path, "holds a token; whoever sends it may ask"),
        ],
    )
};
const TLS: Schema = Schema {
    unsupported: &[
        ("cert", "`cert_file`, the path of a PEM file"),
        ("key", "`key_file`, the path of a PEM file"),
        ("client_ca", "`client_ca_file`, the path of a PEM file"),
        ("client_allowed_sans", "a `client_ca_file` that vouches for nobody else"),
        ("cipher_suites", "it left out: only strong ones are offered"),
        ("prefer_server_cipher_suites", "it left out: the client's preference holds"),
        ("curve_preferences", "it left out: only strong ones are offered"),
    ],
    ..Schema::of(
        "`tls_server_config`",
        &[
            Known::required(
                "cert_file",
                Kind::Path,
                "the server's certificate and what leads to its authority, in PEM",
            ),
            Known::required("key_file", Kind::Path, "its private key, in PEM"),
            Known::default(
                "client_auth_type",
                Kind::Choice(|| CLIENTS.into()),
                "\"NoClientCert\"",
                "what clients show",
            ),
            Known::optional("client_ca_file", Kind::Path, "who vouches for clients, in PEM"),
            Known::default("min_version", Kind::Choice(versions), "\"TLS12\"", "the oldest version"),
            Known::default("max_version", Kind::Choice(versions), "\"TLS13\"", "the newest version"),
        ],
    )
};
const HTTP: Schema = Schema {
    unsupported: &[("headers", "it left out: every answer has the headers that it needs")],
    ..Schema::of(
        "`http_server_config`",
        &[Known::default("http2", Kind::Boolean, "false", "`false`: HTTP/1.1 is spoken")],
    )
};
/// Its fields are user names, so that the table is empty.
const USERS: Schema = Schema::of("`basic_auth_users`", &[]);

const NAME: Text = Text { what: "the name of a user", longest: 256 };
const NO_CERTIFICATE: &str = "NoClientCert";
const IF_GIVEN: &str = "VerifyClientCertIfGiven";
const REQUIRED: &str = "RequireAndVerifyClientCert";
const CLIENTS: [&str; 3] = [NO_CERTIFICATE, IF_GIVEN, REQUIRED];
/// A certificate that is not verified proves nothing.
const UNVERIFIED: [&str; 2] = ["RequestClientCert", "RequireAnyClientCert"];

fn versions() -> Vec<&'static str> {
    TlsVersion::ALL.map(TlsVersion::as_str).into()
}

/// Below, bcrypt is not defined; above (four seconds), a single check would delay all others.
const COSTS: std::ops::RangeInclusive<u32> = 4..=16;

/// The content of the file.
pub struct WebConfig {
    /// None for plain HTTP.
    pub tls: Option<Tls>,
    /// The users. Without users and token, no login is needed.
    pub users: Vec<User>,
    /// A file with a token; requests with that token are admitted.
    pub bearer_token_file: Option<PathBuf>,
}

impl WebConfig {
    /// The named files whose content is secret.
    pub fn secret_files(&self) -> impl Iterator<Item = &Path> {
        let key = self.tls.as_ref().map(|tls| &tls.key_file);
        key.into_iter().chain(&self.bearer_token_file).map(PathBuf::as_path)
    }

    /// All named files.
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

/// The server's TLS settings.
#[derive(Debug)]
pub struct Tls {
    /// The server's certificate and its intermediates, in PEM.
    pub cert_file: PathBuf,
    /// Its private key, in PEM.
    pub key_file: PathBuf,
    /// Whether clients need a certificate.
    pub clients: ClientAuth,
    /// The oldest version.
    pub min_version: TlsVersion,
    /// The newest version.
    pub max_version: TlsVersion,
}

/// Whether clients need a certificate, with the file of the authorities that verify it.
#[derive(Debug, PartialEq)]
pub enum ClientAuth {
    /// Clients are not asked for a certificate.
    None,
    /// A certificate is optional, and verified if there is one.
    IfGiven(PathBuf),
    /// Only clients with a verified certificate are admitted.
    Required(PathBuf),
}

/// A version of TLS that is offered.
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
    /// The name.
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

/// Decodes the content of the file at `path`. Relative paths in it start from its folder, as with the exporters. The
/// problems beside the configuration are warnings.
///
/// # Errors
///
/// All problems of the content.
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
        let bearer_token_file = fields.get("bearer_token_file").map(|field| self.beside_it(field, folder));
        if let Some(field) = fields.get("http_server_config") {
            self.http(field);
        }
        Some(WebConfig {
            tls: given(tls)?,
            users: given(users)?.unwrap_or_default(),
            bearer_token_file: given(bearer_token_file)?,
        })
    }

    fn tls(&mut self, field: Field<'_>, folder: &Path) -> Option<Tls> {
        let fields = self.fields(field, &TLS)?;
        let cert_file = fields.get("cert_file").and_then(|field| self.beside_it(field, folder));
        let key_file = fields.get("key_file").and_then(|field| self.beside_it(field, folder));
        let clients = self.clients(fields.get("client_auth_type"), fields.get("client_ca_file"), folder);
        let min = fields.get("min_version").map(|field| self.choice(field, &TlsVersion::ALL, TlsVersion::as_str));
        let max = fields.get("max_version").map(|field| self.choice(field, &TlsVersion::ALL, TlsVersion::as_str));
        let (min, max) = (given(min)?.unwrap_or(TlsVersion::Tls12), given(max)?.unwrap_or(TlsVersion::Tls13));
        if let Some(field) = fields.get("max_version").filter(|_| max < min) {
            self.error(field.span(), "`max_version` is older than `min_version`, expected a range of versions");
        }
        Some(Tls { cert_file: cert_file?, key_file: key_file?, clients: clients?, min_version: min, max_version: max })
    }

    fn clients(&mut self, kind: Option<Field<'_>>, ca: Option<Field<'_>>, folder: &Path) -> Option<ClientAuth> {
        let file = ca.map(|field| self.beside_it(field, folder));
        let chosen = match kind {
            None => NO_CERTIFICATE,
            Some(field) if field.node.text().is_some_and(|text| UNVERIFIED.contains(&text)) => {
                self.mismatch(field, &format!("one that verifies: `{IF_GIVEN}` or `{REQUIRED}`"));
                return None;
            }
            Some(field) => self.choice(field, &CLIENTS, |kind| kind)?,
        };
        match (chosen, ca) {
            (NO_CERTIFICATE, Some(ca)) => {
                let message = format!("`client_ca_file` is given, expected `client_auth_type: {REQUIRED}` with it");
                self.error(ca.key, message);
                None
            }
            (NO_CERTIFICATE, None) => Some(ClientAuth::None),
            (_, None) => {
                let at = kind?.key;
                self.error(at, format!("`client_auth_type` is `{chosen}`, expected `client_ca_file` with it"));
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
            self.mismatch(field, "`false`: HTTP/1.1 is what is spoken here");
        }
    }

    fn users(&mut self, field: Field<'_>) -> Option<Vec<User>> {
        let Value::Mapping(pairs) = &field.node.value else {
            // An empty value would need no login, which is not meant by a file that has this field.
            let message = "`basic_auth_users` is no mapping, expected one from names of users to bcrypt hashes";
            self.error(field.span(), message);
            return None;
        };
        if pairs.is_empty() {
            self.error(field.span(), "`basic_auth_users` is empty, expected at least one user")
                .help("leave it out where everybody may ask");
            return None;
        }
        let mut users: Vec<User> = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            let named = Field { name: "the name of a user", key: key.span, node: key };
            let Some(name) = self.name(named, &NAME) else { continue };
            if name.contains(':') {
                // The first colon ends the name in what a client sends (RFC 7617).
                self.error(key.span, format!("the user {} has a colon in its name, expected none", quoted(name)));
            } else if users.iter().any(|user| user.name == name) {
                self.error(key.span, format!("duplicate user {}, expected each once", quoted(name)));
            } else if let Some((hash, cost)) = value.text().and_then(|text| Some((text, bcrypt_cost(text)?))) {
                users.push(User { name: name.to_owned(), hash: hash.to_owned(), cost });
            } else {
                // The value is not quoted: it may be the password itself.
                let message = format!(
                    "the user {} has no bcrypt hash of cost {} to {}, expected one such as `htpasswd -nBC 10 {}` prints",
                    quoted(name),
                    COSTS.start(),
                    COSTS.end(),
                    quoted(name).trim_matches('`')
                );
                self.error(key.span, message);
            }
        }
        (users.len() == pairs.len()).then_some(users)
    }

    /// The path of a file, relative to the folder of the configuration file.
    fn beside_it(&mut self, field: Field<'_>, folder: &Path) -> Option<PathBuf> {
        self.file_path(field).map(|path| folder.join(path))
    }
}

/// The cost of a hash of the form `$2b$10$` and 53 letters of bcrypt's alphabet; none for another form or a cost out of
/// range. Kept by hand because the bcrypt crate's parser of hashes does not return the cost.
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
    fn a_path_that_only_a_shell_would_replace_is_warned_of() {
        let text = "tls_server_config: {cert_file: ~/c, key_file: $HOME/k}\nbearer_token_file: \"t\\u200b\"\n";
        let (_, warnings) = super::read(text.as_bytes(), Path::new("/etc/web.yml"), |_| None).unwrap();
        let told = warnings.render_plain();
        let expected =
            ["`cert_file` begins with `~`", "`$NAME` is not replaced in `key_file`", "`bearer_token_file` has"];
        assert_eq!(told.lines().count(), expected.len(), "{told}");
        for (line, expected) in told.lines().zip(expected) {
            assert!(line.contains(expected), "{line}");
        }
    }

    #[test]
    fn the_exporters_own_fields_are_understood() {
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
    fn unsupported_fields_are_refused() {
        for (text, problem) in [
            ("rate_limit: {burst: 2}", "1:1: `rate_limit` is not supported here, expected it left out: the number of"),
            ("tls_server_config: {key: abc}", "1:21: `key` is not supported here, expected `key_file`"),
            (
                "tls_server_config: {cipher_suites: []}",
                "1:21: `cipher_suites` is not supported here, expected it left out",
            ),
            ("http_server_config: {headers: {}}", "1:22: `headers` is not supported here, expected it left out"),
            ("http_server_config: {http2: true}", "1:29: `http2` is the boolean true, expected `false`"),
            ("basic_auth_user: {}", "1:1: unknown field `basic_auth_user`, expected"),
            ("basic_auth_users:", "1:1: `basic_auth_users` is no mapping, expected one"),
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
            ("client_auth_type: RequireAnyClientCert", "expected one that verifies: `VerifyClientCertIfGiven` or"),
            ("client_auth_type: RequireAndVerifyClientCert", "expected `client_ca_file` with it"),
            ("client_ca_file: c", "expected `client_auth_type: RequireAndVerifyClientCert` with it"),
            ("min_version: TLS11", "`min_version` is the text `TLS11`, expected `TLS12` or `TLS13`"),
            ("min_version: TLS13, max_version: TLS12", "`max_version` is older than `min_version`"),
        ] {
            let problems = refused(&tls(more));
            assert!(problems.contains(problem), "{more}: {problems}");
        }
        let problems = refused("tls_server_config: {}");
        assert!(problems.contains("missing field `cert_file`") && problems.contains("missing field `key_file`"));
    }

    #[test]
    fn a_value_that_is_not_a_hash_is_refused_and_not_quoted() {
        for value in ["hunter2", "17", "''", "[hunter2]", &HASH[..59], &HASH.replace("$04$", "$17$")] {
            let problems = refused(&format!("basic_auth_users: {{alice: {value}}}"));
            assert!(problems.contains("the user `alice` has no bcrypt hash of cost 4 to 16"), "{problems}");
            assert!(!problems.contains("hunter2") && !problems.contains("abcdef"), "{problems}");
        }
        let problems = refused(&format!("basic_auth_users: {{a: {HASH}, a: {HASH}, 'b:c': {HASH}}}"));
        assert!(problems.contains("duplicate user `a`") && problems.contains("`b:c` has a colon"), "{problems}");
        assert!(!problems.contains("abcdef"), "{problems}");
    }
}
