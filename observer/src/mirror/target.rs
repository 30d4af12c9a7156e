//! Reads and parses the connection string of the database, a URL or `key=value …`. The parameters that libpq supports and
//! tokio-postgres does not (`sslmode=verify-full`, `sslrootcert`, `sslcert`, `sslkey`) are taken out before tokio-postgres
//! parses the rest. Errors show names of keys and nothing else of the text, which may hold a password anywhere.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::tls::{TlsFiles, TlsMode};

/// Bytes of the largest file with a connection string.
const URL_BYTES_MAX: u64 = 64 << 10;
/// What to do where a file with a connection string is not read.
const READ_NEXT: &str =
    "give the daemon's user the right to read it, or name another with --database-url-file";
/// The directory of the server's socket on this machine, for a string that names no host.
const SOCKET_DIR_DEFAULT: &str = "/run/postgresql";
/// The credential (systemd's LoadCredential) that holds a connection string.
const CREDENTIAL: &str = "database_url";

/// The place of the connection string. It is read again for each connection, so that a changed password needs no restart.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// In the configuration or, without a password, in an argument.
    Text(String),
    /// In a file that only the daemon reads.
    File(PathBuf),
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl DatabaseUrl {
    /// The connection string in an argument. A password is refused, because everybody on the machine can read arguments.
    /// The error ends with the next step.
    pub fn from_argument(text: &str) -> Result<Self, String> {
        let target = ConnectionTarget::parse(text).map_err(|error| format!("{error:#}"))?;
        if target.has_secret() {
            return Err(
                "holds a password, which everybody on this machine could read: write it into a file that \
                        only its user may read and name that with --database-url-file"
                    .into(),
            );
        }
        Ok(Self::Text(text.into()))
    }

    /// The file with this name. A name that looks like a connection string is an error, which does not show it.
    pub fn from_file(path: PathBuf) -> Result<Self, String> {
        let name = path.to_string_lossy();
        if name.contains("://") || (name.contains('=') && !name.starts_with(['/', '.'])) {
            return Err("this is a connection string, and the name of a file that holds one is wanted: write it into a file that \
                        only its user may read"
                .into());
        }
        Ok(Self::File(path))
    }

    /// The credential that systemd provides to this service, if there is one. `dir` is `$CREDENTIALS_DIRECTORY`.
    pub fn from_credentials(dir: Option<&Path>) -> Option<Self> {
        dir.map(|dir| dir.join(CREDENTIAL)).filter(|path| path.exists()).map(Self::File)
    }

    /// Reads and parses the connection string.
    pub fn target(&self) -> Result<ConnectionTarget> {
        match self {
            Self::Text(text) => ConnectionTarget::parse(text),
            Self::File(path) => {
                let opened = File::open(path).with_context(|| unreadable(path))?;
                ConnectionTarget::read(path, opened)
            }
        }
    }
}

fn unreadable(path: &Path) -> String {
    format!("cannot read the connection string in {}; {READ_NEXT}", path.display())
}

/// A parsed connection string.
pub struct ConnectionTarget {
    /// Everything but TLS, for all hosts.
    config: Config,
    mode: Option<TlsMode>,
    tls: TlsFiles,
}

/// One host of a [`ConnectionTarget`].
pub struct HostTarget {
    /// The configuration for this host alone.
    pub config: Config,
    /// Name and port for people, without secrets.
    pub name: String,
    /// How the server proves its identity.
    pub mode: TlsMode,
}

impl ConnectionTarget {
    /// Reads and parses the connection string in `opened`, which is the file at `path`.
    pub fn read(path: &Path, opened: File) -> Result<Self> {
        let mut text = String::new();
        opened.take(URL_BYTES_MAX + 1).read_to_string(&mut text).with_context(|| unreadable(path))?;
        ensure!(
            text.len() as u64 <= URL_BYTES_MAX,
            "{} is larger than {URL_BYTES_MAX} bytes; {READ_NEXT}",
            path.display()
        );
        Self::parse(text.trim()).with_context(|| format!("in {}", path.display()))
    }

    /// Parses a URL (`postgresql://…`) or `key=value …`. Errors name keys, never values, and end with the next step.
    pub fn parse(text: &str) -> Result<Self> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let (rest, tls_pairs) = if is_url { split_url(text) } else { split_pairs(text)? };
        let next = if is_url {
            "write postgresql://USER@HOST/DATABASE?KEY=VALUE, with special characters as %XX"
        } else {
            "write host=HOST dbname=DATABASE user=USER"
        };
        let Ok(mut config) = rest.parse::<Config>() else {
            bail!("the connection string has a key or value that is not understood; {next}");
        };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host_path(SOCKET_DIR_DEFAULT);
        }
        let (hosts, addresses) = (config.get_hosts().len(), config.get_hostaddrs().len());
        ensure!(
            hosts == 0 || addresses == 0 || hosts == addresses,
            "host and hostaddr differ in number; name one address for each host"
        );
        let (mut mode, mut tls) = (None, TlsFiles::default());
        for (key, value) in tls_pairs {
            match key.as_str() {
                "sslmode" => mode = Some(TlsMode::parse(&value)?),
                "sslrootcert" if value == "system" => tls.roots = None,
                "sslrootcert" => tls.roots = Some(value.into()),
                "sslcert" => tls.certificate = Some(value.into()),
                _ => tls.key = Some(value.into()),
            }
        }
        ensure!(
            tls.certificate.is_some() == tls.key.is_some(),
            "sslcert and sslkey belong together; name both or neither"
        );
        Ok(Self { config, mode, tls })
    }

    /// The files that it names, which are read for each connection.
    pub fn files(&self) -> Vec<PathBuf> {
        let TlsFiles { roots, certificate, key } = &self.tls;
        [roots, certificate, key].into_iter().flatten().cloned().collect()
    }

    /// Whether it holds a password.
    pub fn has_secret(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// Whether a host of it is on another machine.
    pub fn is_remote(&self) -> bool {
        let hosts = self.config.get_hosts().iter();
        let mut names = hosts.filter_map(|host| match host {
            Host::Tcp(name) => Some(name),
            Host::Unix(_) => None,
        });
        names.any(|name| !is_loopback(name)) || self.config.get_hostaddrs().iter().any(|at| !at.is_loopback())
    }

    /// The files with certificates.
    pub fn tls(&self) -> &TlsFiles {
        &self.tls
    }

    /// The hosts in their order, each with a configuration of its own.
    pub fn hosts(&self) -> Vec<HostTarget> {
        let count = self.config.get_hosts().len().max(self.config.get_hostaddrs().len());
        (0..count).map(|at| self.host(at)).collect()
    }

    fn host(&self, at: usize) -> HostTarget {
        let all = &self.config;
        let mut config = settings(all);
        let ports = all.get_ports();
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        config.port(port);
        let address = all.get_hostaddrs().get(at).copied();
        if let Some(address) = address {
            config.hostaddr(address);
        }
        let (name, local) = match all.get_hosts().get(at) {
            Some(Host::Unix(path)) => {
                config.host_path(path);
                (format!("{} port {port}", path.display()), Locality::Socket)
            }
            Some(Host::Tcp(name)) => {
                config.host(name);
                (
                    format!("{name} port {port}"),
                    if is_loopback(name) { Locality::Loopback } else { Locality::Remote },
                )
            }
            None => {
                let loopback = address.is_some_and(|address| address.is_loopback());
                let name = address.map(|address| address.to_string()).unwrap_or_default();
                (format!("{name} port {port}"), if loopback { Locality::Loopback } else { Locality::Remote })
            }
        };
        let mode = match (local, self.mode) {
            // Only root on this machine could read the connection.
            (Locality::Socket, _) => TlsMode::Disable,
            (_, Some(TlsMode::Require)) if self.tls.roots.is_some() => TlsMode::VerifyCa,
            (_, Some(mode)) => mode,
            (Locality::Loopback, None) => TlsMode::Prefer,
            (Locality::Remote, None) => TlsMode::VerifyFull,
        };
        config.ssl_mode(mode.negotiation());
        HostTarget { config, name, mode }
    }
}

/// Whether a host is this machine.
#[derive(Clone, Copy)]
enum Locality {
    Socket,
    Loopback,
    Remote,
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A copy of the configuration without hosts and TLS.
fn settings(all: &Config) -> Config {
    let mut config = Config::new();
    if let Some(user) = all.get_user() {
        config.user(user);
    }
    if let Some(password) = all.get_password() {
        config.password(password);
    }
    if let Some(dbname) = all.get_dbname() {
        config.dbname(dbname);
    }
    if let Some(options) = all.get_options() {
        config.options(options);
    }
    if let Some(timeout) = all.get_connect_timeout() {
        config.connect_timeout(*timeout);
    }
    if let Some(timeout) = all.get_tcp_user_timeout() {
        config.tcp_user_timeout(*timeout);
    }
    config.application_name(all.get_application_name().unwrap_or("observer"));
    config.target_session_attrs(all.get_target_session_attrs());
    config.channel_binding(all.get_channel_binding());
    config.ssl_negotiation(all.get_ssl_negotiation());
    config
}

/// The keys that this module interprets.
const TLS_KEYS: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

type Pairs = Vec<(String, String)>;

/// Splits a URL into one without [`TLS_KEYS`], and the values of those keys.
fn split_url(text: &str) -> (String, Pairs) {
    let Some((before, query)) = text.split_once('?') else { return (text.into(), Vec::new()) };
    let (mut kept, mut tls_pairs) = (Vec::new(), Vec::new());
    for parameter in query.split('&') {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if TLS_KEYS.contains(&key) {
            tls_pairs.push((key.into(), percent_decode_str(value).decode_utf8_lossy().into_owned()));
        } else {
            kept.push(parameter);
        }
    }
    let question = if kept.is_empty() { "" } else { "?" };
    (format!("{before}{question}{}", kept.join("&")), tls_pairs)
}

/// Splits `key = value` pairs into those without [`TLS_KEYS`], and the values of those keys. Values may be quoted with `'`;
/// a character after `\` stands for itself.
fn split_pairs(text: &str) -> Result<(String, Pairs)> {
    let malformed = "the connection string is neither a URL nor key=value pairs; write host=HOST dbname=DATABASE user=USER";
    let (mut rest, mut tls_pairs) = (String::new(), Vec::new());
    let mut chars = text.trim().chars().peekable();
    while chars.peek().is_some() {
        let mut key = String::new();
        while let Some(c) = chars.next_if(|&c| c != '=') {
            key.push(c);
        }
        ensure!(chars.next() == Some('='), malformed);
        let key = key.trim().to_owned();
        ensure!(!key.is_empty() && !key.contains(char::is_whitespace), malformed);
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if_eq(&'\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some('\\') => value.extend(chars.next()),
                Some(c) => value.push(c),
                None if quoted => bail!(malformed),
                None => break,
            }
        }
        if TLS_KEYS.contains(&key.as_str()) {
            tls_pairs.push((key, value));
        } else {
            let value = value.replace('\\', "\\\\").replace('\'', "\\'");
            rest.push_str(&format!("{key}='{value}' "));
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
    }
    Ok((rest, tls_pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modes(text: &str) -> Vec<(String, TlsMode)> {
        ConnectionTarget::parse(text)
            .unwrap()
            .hosts()
            .into_iter()
            .map(|host| (host.name, host.mode))
            .collect()
    }

    #[test]
    fn both_forms_name_hosts_and_how_their_identity_is_verified() {
        let full =
            vec![("a port 5433".into(), TlsMode::VerifyFull), ("b port 5434".into(), TlsMode::VerifyFull)];
        assert_eq!(modes("postgresql://u@a:5433,b:5434/d?sslmode=verify-full&connect_timeout=3"), full);
        assert_eq!(modes("host=a,b port=5433,5434 user = u sslmode = 'verify-full' dbname=d"), full);
        // Without sslmode, a server that is not on this machine has to prove its identity.
        assert_eq!(modes("host=a,b port=5433,5434"), full);
        assert_eq!(modes("host=localhost"), [("localhost port 5432".into(), TlsMode::Prefer)]);
        assert_eq!(modes("postgresql://u@[::1]/d"), [("::1 port 5432".into(), TlsMode::Prefer)]);
        assert_eq!(modes("host=/tmp sslmode=require"), [("/tmp port 5432".into(), TlsMode::Disable)]);
        assert_eq!(modes("dbname=d"), [("/run/postgresql port 5432".into(), TlsMode::Disable)]);
        assert_eq!(
            modes("host=a sslmode=require sslrootcert=/r"),
            [("a port 5432".into(), TlsMode::VerifyCa)]
        );
    }

    #[test]
    fn parameters_of_certificates_are_taken_out_and_the_others_are_parsed() {
        let text = "postgresql://us%65r:p%40ss@h/d?sslrootcert=%2fetc%2Froot&sslcert=/c&sslkey=/k&options=-c%20x%3D1";
        let target = ConnectionTarget::parse(text).unwrap();
        assert_eq!(target.tls.roots.as_deref(), Some(Path::new("/etc/root")));
        assert_eq!(target.tls.key.as_deref(), Some(Path::new("/k")));
        let hosts = target.hosts();
        let config = &hosts.first().unwrap().config;
        assert_eq!((config.get_user(), config.get_password()), (Some("user"), Some(&b"p@ss"[..])));
        assert_eq!(config.get_options(), Some("-c x=1"));
        let target =
            ConnectionTarget::parse(r"password='it\'s \\ me' host=h sslkey='/a b' sslcert=/c").unwrap();
        assert_eq!(target.tls.key.as_deref(), Some(Path::new("/a b")));
        assert_eq!(target.hosts().first().unwrap().config.get_password(), Some(&br"it's \ me"[..]));
    }

    #[test]
    fn no_error_shows_what_could_be_a_password() {
        for text in [
            "password=hunter2 host",
            "password=hunter2 hunter2=1",
            "password='hunter2",
            "postgresql://u:hunter2@h:port/d",
            "postgresql://u:hunter2@h/d?hunter2=1",
            "postgresql://u:hunter2@h/d?sslmode=hunter2",
            "host=h password=hunter2 port=hunter2",
            "host=h sslmode=hunter2",
            "host=h password=hunter2 sslcert=/c",
        ] {
            let error = format!("{:#}", ConnectionTarget::parse(text).err().expect(text));
            assert!(!error.contains("hunter2"), "{text}: {error}");
            assert!(error.contains("; "), "no next step: {error}");
        }
        assert!(!format!("{:?}", DatabaseUrl::Text("password=hunter2".into())).contains("hunter2"));
    }

    #[test]
    fn an_argument_with_a_password_is_refused_with_the_next_step() {
        for text in ["host=h password=x", "postgresql://u:x@h/d", "postgresql://u@h/d?password=x"] {
            let error = DatabaseUrl::from_argument(text).unwrap_err();
            assert!(error.contains("--database-url-file"), "{error}");
        }
        assert!(DatabaseUrl::from_argument("postgresql://u@h/d").is_ok());
    }

    #[test]
    fn a_file_is_read_again_each_time_and_a_credential_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(DatabaseUrl::from_credentials(Some(dir.path())), None);
        let path = dir.path().join(CREDENTIAL);
        std::fs::write(&path, "host=a password=x\n").unwrap();
        let url = DatabaseUrl::from_credentials(Some(dir.path())).unwrap();
        let name = || url.target().unwrap().hosts().first().unwrap().name.clone();
        assert_eq!(name(), "a port 5432");
        std::fs::write(&path, "host=b\n").unwrap();
        assert_eq!(name(), "b port 5432");
        std::fs::remove_file(&path).unwrap();
        let error = format!("{:#}", url.target().err().unwrap());
        assert!(error.contains("--database-url-file"), "{error}");
    }
}
