//! A server with answers that a test sets and the simulator does not have: redirects, endless bodies, missing flags.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A server on a free port of the loopback. It serves until the tests end.
pub(crate) struct StandIn {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A received request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    #[cfg_attr(not(feature = "kubernetes"), expect(dead_code, reason = "only a cluster tells by it"))]
    pub(crate) method: String,
    pub(crate) path: String,
    /// In lower case.
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Asked {
    /// The last segment of the path.
    pub(crate) fn call(&self) -> &str {
        self.path.split('?').next().unwrap().rsplit('/').next().unwrap()
    }
}

/// An answer with this head, such as `302 Found`, and this body.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

impl StandIn {
    pub(crate) fn start(answer: impl Fn(&Asked) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                thread::spawn(move || {
                    // In some tests the client closes the connection before the end of the answer.
                    let _ = serve(stream, &log, &*answer);
                });
            }
        });
        Self { address, asked }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The request bodies of a call.
    pub(crate) fn bodies(&self, call: &str) -> Vec<String> {
        self.asked().into_iter().filter(|asked| asked.call() == call).map(|asked| asked.body).collect()
    }
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> String) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut lines = Vec::new();
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        lines.push(std::mem::take(&mut line).trim_end().to_owned());
    }
    let headers = lines.get(1..).unwrap_or_default().join("\n").to_ascii_lowercase();
    let length = headers.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body)?;
    let mut words = lines.first().map(|line| line.split(' ').map(str::to_owned)).into_iter().flatten();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let asked = Asked { method, path, headers, body: String::from_utf8(body).unwrap() };
    log.lock().unwrap().push(asked.clone());
    stream.write_all(answer(&asked).as_bytes())
}
