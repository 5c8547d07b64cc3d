//! Servers between the program and its cloud: a TLS terminator, a recorder, a proxy.
//!
//! Each forwards bytes to one address and records those from the program. They serve until the tests end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A host name that cannot be resolved: only a proxy can reach it.
pub(crate) const HOST: &str = "kms.cloud.test";

/// A private authority, and a server's key and certificate from it.
pub(crate) struct Authority {
    /// The certificate for `ca_file`.
    pub(crate) pem: String,
    config: Arc<ServerConfig>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::issuing("authority", |_| {})
    }

    /// The same of this name, with another certificate for the server.
    pub(crate) fn issuing(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), HOST.to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        // The program's provider, not one that is installed for the whole process.
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        Self { pem: issuer.pem(), config: Arc::new(config) }
    }
}

/// How a front treats connections.
enum Manner {
    Plain,
    Tls(TlsAcceptor),
    /// TLS, closed at the first request.
    Silent(TlsAcceptor),
    /// A proxy for `CONNECT` that requires this `Proxy-Authorization`, or none.
    Proxy(Option<&'static str>),
    /// A proxy that always sends this answer, or none.
    Refusing(&'static str),
}

/// A front, and the bytes that it has received.
pub(crate) struct Front {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Front {
    /// Forwards clear text.
    pub(crate) fn plain(target: &str) -> Self {
        Self::start(target, Manner::Plain)
    }

    /// Terminates TLS.
    pub(crate) fn tls(target: &str, authority: &Authority) -> Self {
        Self::start(target, Manner::Tls(TlsAcceptor::from(Arc::clone(&authority.config))))
    }

    /// Terminates TLS, and closes the connection at the first request.
    pub(crate) fn silent(authority: &Authority) -> Self {
        Self::start("127.0.0.1:1", Manner::Silent(TlsAcceptor::from(Arc::clone(&authority.config))))
    }

    /// A proxy that always answers this, such as `403 Forbidden`; without an answer it closes the connection.
    pub(crate) fn refusing(answer: &'static str) -> Self {
        Self::start("127.0.0.1:1", Manner::Refusing(answer))
    }

    /// A proxy that connects to the target for every request.
    pub(crate) fn proxy(target: &str, authorization: Option<&'static str>) -> Self {
        Self::start(target, Manner::Proxy(authorization))
    }

    fn start(target: &str, manner: Manner) -> Self {
        let target: SocketAddr = target.rsplit('/').next().unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (log, manner) = (Arc::clone(&heard), Arc::new(manner));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let at = {
                        let mut heard = log.lock().unwrap();
                        heard.push(Vec::new());
                        heard.len() - 1
                    };
                    let ear = Ear { log: Arc::clone(&log), at };
                    let manner = Arc::clone(&manner);
                    // The program notices a broken connection.
                    tokio::spawn(async move { receive(stream, &manner, target, &ear).await });
                }
            });
        });
        Self { address, heard }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn http(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn https(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Number of connections.
    pub(crate) fn connections(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    /// All received bytes, as text in lower case.
    pub(crate) fn heard(&self) -> String {
        let heard = self.heard.lock().unwrap();
        let text = heard.iter().map(|bytes| String::from_utf8_lossy(bytes).to_ascii_lowercase());
        text.collect::<Vec<_>>().join("\n")
    }

    /// The values of this header in every request, in order.
    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        let start = format!("{name}: ");
        self.heard().lines().filter_map(|line| line.strip_prefix(&*start)).map(|text| text.trim().to_owned()).collect()
    }
}

/// Records one connection.
struct Ear {
    log: Arc<Mutex<Vec<Vec<u8>>>>,
    at: usize,
}

impl Ear {
    fn hear(&self, bytes: &[u8]) {
        self.log.lock().unwrap()[self.at].extend_from_slice(bytes);
    }
}

async fn receive(mut stream: TcpStream, manner: &Manner, target: SocketAddr, ear: &Ear) -> io::Result<()> {
    match manner {
        Manner::Plain => pass_on(stream, target, ear).await,
        Manner::Tls(acceptor) => pass_on(acceptor.accept(stream).await?, target, ear).await,
        Manner::Silent(acceptor) => {
            let mut stream = acceptor.accept(stream).await?;
            stream.read_u8().await.map(drop)
        }
        Manner::Refusing(answer) => {
            head(&mut stream, ear).await?;
            if !answer.is_empty() {
                stream.write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
            }
            stream.shutdown().await
        }
        Manner::Proxy(authorization) => {
            let head = head(&mut stream, ear).await?;
            let says = |line: &str| head.lines().any(|said| said.eq_ignore_ascii_case(line));
            let answer = match authorization {
                _ if !head.starts_with("CONNECT ") => "405 Method Not Allowed",
                Some(wanted) if !says(&format!("proxy-authorization: {wanted}")) => "407 Proxy Authentication Required",
                _ => "200 Connection Established",
            };
            stream.write_all(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()).await?;
            if answer.starts_with("200") { pass_on(stream, target, ear).await } else { stream.shutdown().await }
        }
    }
}

/// A proxy request, up to the empty line.
async fn head(stream: &mut TcpStream, ear: &Ear) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    ear.hear(&head);
    Ok(String::from_utf8_lossy(&head).into_owned())
}

async fn pass_on(stream: impl AsyncRead + AsyncWrite, target: SocketAddr, ear: &Ear) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let (mut back, mut there) = TcpStream::connect(target).await?.into_split();
    let forth = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                return there.shutdown().await;
            }
            ear.hear(&buffer[..count]);
            there.write_all(&buffer[..count]).await?;
        }
    };
    let and_back = async {
        tokio::io::copy(&mut back, &mut to).await?;
        to.shutdown().await
    };
    tokio::try_join!(forth, and_back).map(|_| ())
}
