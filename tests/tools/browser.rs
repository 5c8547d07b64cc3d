//! A real headless Chromium.
//!
//! Controlled over HTTP by the W3C's protocol and, for the rest, by Chromium's own one. Without a library: the existing
//! ones have another kind of licence, or enable features of `serde_json` that would change the program under test.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{DEADLINE, eventually, on_path};

const ENTER: char = '\u{e007}';
const TAB: char = '\u{e004}';

/// A window with the page of a daemon; closed when dropped.
pub(crate) struct Browser {
    driver: Driver,
    session: String,
    /// The daemon's base URL.
    origin: String,
}

/// The running driver.
struct Driver {
    process: Child,
    address: String,
    _said: BufReader<ChildStdout>,
    /// The home folder of driver and browser, deleted afterwards.
    _home: TempDir,
}

impl Browser {
    /// Whether Chromium starts; in some containers it cannot.
    pub(crate) fn starts() -> Result<(), String> {
        Self::start("").map(drop)
    }

    /// A window with the page at this address.
    #[track_caller]
    pub(crate) fn at(address: &str) -> Self {
        let browser = Self::start(address).unwrap();
        browser.open("/");
        browser
    }

    /// A window with a document on the disk.
    #[track_caller]
    pub(crate) fn of_file(file: &Path) -> Self {
        let browser = Self::start("").unwrap();
        browser.command("/url", &json!({"url": format!("file://{}", file.display())}));
        browser
    }

    /// The page as a PDF, in the size of its print style.
    #[track_caller]
    pub(crate) fn pdf(&self) -> Vec<u8> {
        let parameters = json!({"preferCSSPageSize": true, "printBackground": true});
        let printed = self.command("/goog/cdp/execute", &json!({"cmd": "Page.printToPDF", "params": parameters}));
        BASE64_STANDARD.decode(printed["data"].as_str().unwrap()).unwrap()
    }

    /// The window as a PNG.
    #[track_caller]
    pub(crate) fn screenshot(&self) -> Vec<u8> {
        let taken = self.driver.command("GET", &format!("{}/screenshot", self.session), &json!({}));
        BASE64_STANDARD.decode(taken.as_str().unwrap()).unwrap()
    }

    fn start(address: &str) -> Result<Self, String> {
        let driver = Driver::start();
        let options = json!({
            "binary": on_path("chromium"),
            // The sandbox does not work as root or in a container. Requests go only to the page under test, none to the
            // browser's maker.
            "args": [
                "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking",
                "--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--window-size=1400,900",
            ],
        });
        let wanted = json!({"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let begun = driver.answer("POST", "/session", &json!({"capabilities": {"alwaysMatch": wanted}}));
        let Some(id) = begun["sessionId"].as_str() else {
            return Err(format!("chromium does not start: {}", begun["message"]));
        };
        let session = format!("/session/{id}");
        Ok(Self { driver, session, origin: format!("http://{address}") })
    }

    fn command(&self, command: &str, parameters: &Value) -> Value {
        self.driver.command("POST", &format!("{}{command}", self.session), parameters)
    }

    /// Opens a page of the daemon.
    pub(crate) fn open(&self, path: &str) {
        self.command("/url", &json!({"url": format!("{}{path}", self.origin)}));
    }

    /// The result of a function with this body.
    #[track_caller]
    pub(crate) fn find(&self, body: &str) -> Value {
        self.command("/execute/sync", &json!({"script": body, "args": []}))
    }

    /// The same, if the result is a string.
    #[track_caller]
    pub(crate) fn text(&self, body: &str) -> String {
        self.find(body).as_str().unwrap().to_owned()
    }

    /// Waits until a function with this body returns this.
    #[track_caller]
    pub(crate) fn await_found(&self, body: &str, expected: &Value) {
        eventually(&format!("{body} is {expected}"), || self.find(body) == *expected);
    }

    /// Presses and releases keys, one after the other.
    pub(crate) fn press(&self, keys: impl IntoIterator<Item = char>) {
        let strokes: Vec<_> = keys.into_iter().flat_map(|key| [stroke("keyDown", key), stroke("keyUp", key)]).collect();
        self.act(&strokes);
    }

    /// Moves the focus to the next element.
    pub(crate) fn tab(&self) {
        self.press([TAB]);
    }

    pub(crate) fn enter(&self) {
        self.press([ENTER]);
    }

    fn act(&self, strokes: &[Value]) {
        self.command("/actions", &json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]}));
    }

    /// Clicks the first element that the selector finds.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let found = self.command("/element", &json!({"using": "css selector", "value": selector}));
        let element = found.as_object().unwrap().values().next().unwrap().as_str().unwrap();
        self.command(&format!("/element/{element}/click"), &json!({}));
    }

    /// A command of Chromium's own protocol.
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) {
        self.command("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}));
    }

    /// The browser's log since the last call: failed scripts, violations of the security policy.
    pub(crate) fn complaints(&self) -> Vec<Value> {
        self.command("/se/log", &json!({"type": "browser"})).as_array().unwrap().clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser ends with its session, not with the driver.
        let _ = self.driver.try_ask("DELETE", &self.session, "");
    }
}

fn stroke(kind: &str, key: char) -> Value {
    json!({"type": kind, "value": key})
}

impl Driver {
    #[track_caller]
    fn start() -> Self {
        // It exits if its IPv4 port is in use on IPv6: try another port.
        (0..20).find_map(|_| Self::try_start(Command::new("chromedriver"))).unwrap()
    }

    fn try_start(mut command: Command) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        command.arg("--port=0").env("HOME", home.path()).env("TMPDIR", home.path());
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while said.read_line(&mut line).unwrap() > 0 {
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                let address = format!("127.0.0.1:{}", port.trim().trim_end_matches('.'));
                return Some(Self { process, address, _said: said, _home: home });
            }
            line.clear();
        }
        process.wait().unwrap();
        None
    }

    /// The value of the answer to a command; panics on an error.
    #[track_caller]
    fn command(&self, method: &str, path: &str, parameters: &Value) -> Value {
        let value = self.answer(method, path, parameters);
        assert!(value["error"].is_null(), "{path} {parameters}: {value}");
        value
    }

    /// The value of the answer to a command, or its error.
    fn answer(&self, method: &str, path: &str, parameters: &Value) -> Value {
        let answer = self.try_ask(method, path, &parameters.to_string()).unwrap();
        serde_json::from_slice::<Value>(&answer).unwrap()["value"].take()
    }

    fn try_ask(&self, method: &str, path: &str, body: &str) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let length = body.len();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n{body}", self.address)?;
        // Not to the end of the connection: the browser keeps the driver's connections open.
        let mut stream = BufReader::new(stream);
        let mut length = 0;
        let mut line = String::new();
        while stream.read_line(&mut line)? > 2 {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            line.clear();
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
