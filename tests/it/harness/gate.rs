//! A gate in this process, configured by a YAML file in a directory of its own.

use std::fmt::Write;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hearthgate::config::Config;
use hearthgate::denial::Denial;
use hearthgate::server::{Running, StartOptions, start};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Authority, Client, eventually, within};

/// The host that every gate has.
pub const HOST: &str = "ha.test";

/// A configuration to be.
#[derive(Clone)]
pub struct Setup {
    https: Vec<&'static str>,
    listen: String,
    admin: String,
    access_log: String,
    sections: String,
    hosts: Vec<HostSetup>,
}

#[derive(Clone)]
struct HostSetup {
    name: String,
    upstream: String,
    keys: String,
    certificate: Vec<String>,
}

impl HostSetup {
    fn new(name: &str, upstream: String) -> Self {
        Self { name: name.into(), upstream, keys: String::new(), certificate: vec![name.into()] }
    }
}

impl Setup {
    /// `ha.test` in front of `upstream`, which nobody looks at unless a request does.
    pub fn new(upstream: SocketAddr) -> Self {
        Self::with_upstream(&format!("{{url: \"http://{upstream}\", health_check: 0s}}"))
    }

    /// The same with the value of `upstream:` as YAML.
    pub fn with_upstream(upstream: &str) -> Self {
        let hosts = vec![HostSetup::new(HOST, upstream.into())];
        Self {
            https: vec!["127.0.0.1:0"],
            listen: String::new(),
            admin: "listen: off".into(),
            access_log: "enabled: false".into(),
            sections: String::new(),
            hosts,
        }
    }

    /// Replaces the keys of `admin`, but for the socket.
    pub fn admin(mut self, yaml: &str) -> Self {
        self.admin = yaml.into();
        self
    }

    /// Turns the access log on.
    pub fn access_log(mut self, file: &Path) -> Self {
        self.access_log = format!("file: {}", file.display());
        self
    }

    /// Adds a top-level section, for instance `limits: {header_count: 10}`.
    pub fn section(mut self, yaml: &str) -> Self {
        writeln!(self.sections, "{yaml}").unwrap();
        self
    }

    /// Adds a key to `listen`.
    pub fn listen(mut self, yaml: &str) -> Self {
        write!(self.listen, ", {yaml}").unwrap();
        self
    }

    pub fn https(mut self, address: &'static str) -> Self {
        self.https = vec![address];
        self
    }

    /// Adds a key to the host named last.
    pub fn key(mut self, yaml: &str) -> Self {
        let host = self.hosts.last_mut().unwrap();
        writeln!(host.keys, "    {yaml}").unwrap();
        self
    }

    /// Adds a host. A `*` in the name is in its certificate as well.
    pub fn host(mut self, name: &str, upstream: SocketAddr) -> Self {
        let upstream = format!("{{url: \"http://{upstream}\", health_check: 0s}}");
        self.hosts.push(HostSetup::new(name, upstream));
        self
    }

    /// Gives the host named last another name.
    pub fn alias(mut self, name: &str) -> Self {
        self.hosts.last_mut().unwrap().certificate.push(name.into());
        self.key(&format!("aliases: [\"{name}\"]"))
    }

    fn yaml(&self, directory: &TempDir) -> String {
        let path = directory.path().display();
        let mut yaml = format!(
            "state_directory: {path}/state\nadmin: {{{}, socket: {path}/admin.sock}}\n\
             access_log: {{{}}}\n{}listen: {{https: {:?}, http: [\"127.0.0.1:0\"]{}}}\nhosts:\n",
            self.admin, self.access_log, self.sections, self.https, self.listen,
        );
        for host in &self.hosts {
            let stem = stem(&host.name);
            write!(
                yaml,
                "  \"{}\":\n    upstream: {}\n    certificate: {{chain_file: {stem}.chain.pem, key_file: {stem}.key.pem}}\n{}",
                host.name, host.upstream, host.keys
            )
            .unwrap();
        }
        yaml
    }

    /// Writes the configuration file, certificates and all, for a gate that somebody else starts.
    pub fn lay_out(&self) -> (TempDir, Authority, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("state")).unwrap();
        let authority = Authority::new();
        let file = directory.path().join("hearthgate.yaml");
        issue(&authority, &directory, self);
        std::fs::write(&file, self.yaml(&directory)).unwrap();
        (directory, authority, file)
    }

    pub async fn start(self) -> Gate {
        let (directory, authority, file) = self.lay_out();
        let config = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        let running = start(config, Some(file.clone()), StartOptions::default()).await.unwrap();
        Gate { running, authority, file, directory }
    }
}

fn issue(authority: &Authority, directory: &TempDir, setup: &Setup) {
    for host in &setup.hosts {
        let names: Vec<_> = host.certificate.iter().map(String::as_str).collect();
        authority.issue(&names).write(directory.path(), &stem(&host.name));
    }
}

fn stem(host: &str) -> String {
    host.replace('*', "wildcard")
}

/// A gate that serves.
pub struct Gate {
    pub running: Running,
    pub authority: Authority,
    pub file: PathBuf,
    pub directory: TempDir,
}

impl Gate {
    /// The simplest gate in front of `upstream`.
    pub async fn start(upstream: SocketAddr) -> Self {
        Setup::new(upstream).start().await
    }

    /// Stops the gate and starts it again on what it has kept.
    pub async fn restart(self) -> Self {
        let Self { running, authority, file, directory } = self;
        running.stop().await;
        let config = Config::load(&file).unwrap_or_else(|error| panic!("{error}"));
        let running = start(config, Some(file.clone()), StartOptions::default()).await.unwrap();
        Self { running, authority, file, directory }
    }

    pub fn https(&self) -> SocketAddr {
        self.running.listeners.https[0]
    }

    pub fn http(&self) -> SocketAddr {
        self.running.listeners.http[0]
    }

    /// Writes a new configuration file, with certificates for its hosts, without telling the gate.
    pub fn write(&self, setup: &Setup) {
        issue(&self.authority, &self.directory, setup);
        std::fs::write(&self.file, setup.yaml(&self.directory)).unwrap();
    }

    pub fn dial(&self) -> Dial<'_> {
        Dial { gate: self, name: Some(HOST.into()), alpn: "http/1.1", from: None, announcement: Vec::new() }
    }

    /// An HTTP/1 client of `ha.test`.
    pub async fn client(&self) -> Client {
        self.client_of(HOST).await
    }

    pub async fn client_of(&self, name: &str) -> Client {
        self.dial().name(name).client().await
    }

    /// A client of the port that only redirects.
    pub async fn plain_client(&self) -> Client {
        Client::new(TcpStream::connect(self.http()).await.unwrap())
    }

    pub fn denials(&self, denial: Denial) -> u64 {
        self.running.metrics.denials(denial)
    }

    /// Waits until the gate has counted exactly `times` refusals for this reason, and none for another.
    pub async fn has_denied(&self, denial: Denial, times: u64) {
        let what = format!("{times} denied for {}", denial.reason());
        eventually(&what, || self.denials(denial) >= times).await;
        self.has_denied_only(&[(denial, times)]);
    }

    /// Ends of connections that are no refusals are left out.
    pub fn has_denied_only(&self, expected: &[(Denial, u64)]) {
        let mut counts = self.running.metrics.denial_counts();
        for ordinary in [Denial::KeepAlive, Denial::Http2Idle, Denial::RequestsPerConnection] {
            if !expected.iter().any(|(denial, _)| *denial == ordinary) {
                counts.remove(ordinary.reason());
            }
        }
        let expected = expected.iter().map(|(denial, times)| (denial.reason().to_owned(), *times)).collect();
        assert_eq!(counts, expected);
    }

    /// One sample of `/metrics`, by its name and labels as printed.
    pub fn metric(&self, sample: &str) -> Option<f64> {
        let families = self.running.metrics.registry().gather();
        let text = prometheus::TextEncoder::new().encode_to_string(&families).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ').map(str::to_owned));
        line.map(|value| value.parse().unwrap())
    }
}

/// How to connect.
pub struct Dial<'g> {
    gate: &'g Gate,
    name: Option<String>,
    alpn: &'static str,
    from: Option<IpAddr>,
    announcement: Vec<u8>,
}

impl Dial<'_> {
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    pub fn without_name(mut self) -> Self {
        self.name = None;
        self
    }

    pub fn alpn(mut self, alpn: &'static str) -> Self {
        self.alpn = alpn;
        self
    }

    /// The client's own address.
    pub fn from(mut self, ip: &str) -> Self {
        self.from = Some(ip.parse().unwrap());
        self
    }

    /// Bytes before the TLS handshake.
    pub fn announce(mut self, header: &[u8]) -> Self {
        self.announcement = header.to_vec();
        self
    }

    pub async fn tcp(&self) -> TcpStream {
        let address = self.gate.https();
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        if let Some(ip) = self.from {
            socket.bind(SocketAddr::new(ip, 0)).unwrap();
        }
        let mut socket = socket.connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        socket.write_all(&self.announcement).await.unwrap();
        socket
    }

    pub async fn tls(&self) -> io::Result<TlsStream<TcpStream>> {
        let mut config = self.gate.authority.client_config(&[self.alpn]);
        config.enable_sni = self.name.is_some();
        self.tls_with(Arc::new(config)).await
    }

    /// The same with a TLS client of the test's own, which may remember sessions.
    pub async fn tls_with(&self, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.name.clone().unwrap_or_else(|| HOST.into())).unwrap();
        let connect = TlsConnector::from(config).connect(name, self.tcp().await);
        within("a TLS handshake", connect).await
    }

    pub async fn client(&self) -> Client {
        Client::new(self.tls().await.unwrap())
    }
}
