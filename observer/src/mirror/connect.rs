//! One connection: to the first host that takes it and can be written, with the settings that presence and time
//! limits need, refused where a pooler stands between.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

use super::sqlstate::{Trouble, Verdict};
use super::target::{HostTarget, Target};

/// TCP, TLS and login at one address, all together, unless `connect_timeout` says otherwise.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Addresses of one host that are tried.
const ADDRESSES_MAX: usize = 8;
/// How long what was sent may stay unacknowledged by the peer's kernel.
const TCP_UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// The first version with `idle_session_timeout`.
pub(super) const SERVER_VERSION_MIN: i32 = 140_000;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A command that reads, and a person waits for it.
    Read,
    /// One that writes: not to a standby.
    Change,
    /// The daemon's: holds the presence lock.
    Presence,
}

/// What the server shall do by itself. The server ends a silent or stuck client, whatever the network
/// says (docs/mirror.md has each).
const PRESENCE_SETTINGS: [(&str, &str); 10] = [
    ("idle_session_timeout", "15s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("lock_timeout", "5s"),
    ("statement_timeout", "20s"),
    ("client_connection_check_interval", "2s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "3"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10s"),
    // Somebody may have set it for the role: then batches would fail that run beside readers.
    ("default_transaction_isolation", "read committed"),
];

/// An open connection.
pub struct Connected {
    /// For statements.
    pub client: Client,
    /// Resolves when the connection has ended, with why.
    pub ended: oneshot::Receiver<Trouble>,
    /// Told when a notification came, if it listens.
    pub hints: Arc<Notify>,
    /// Host and port.
    pub host: String,
    /// The server's process for it.
    pub backend_pid: i32,
    _socket: Socket,
}

/// The task that has the socket: with it the socket is closed, whatever the server has not answered yet.
struct Socket(AbortHandle);

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects to the first of `target`'s hosts that accepts and serves what is asked for. The error is that of the host
/// where most was achieved: the one that answered, rather than the one that is down.
pub async fn connect(target: &Target, purpose: Purpose) -> Result<Connected, Trouble> {
    let mut worst: Option<Trouble> = None;
    for host in target.hosts() {
        let wait = host.config.get_connect_timeout().copied().filter(|wait| !wait.is_zero());
        let wait = wait.unwrap_or(CONNECT_WAIT);
        let found = addresses(&host.config, wait).await;
        let attempts = match found {
            Ok(configs) => configs.into_iter().map(Ok).collect(),
            Err(trouble) => vec![Err(trouble)],
        };
        for attempt in attempts {
            let reached = match attempt {
                Ok(config) => connect_address(target, &host, config, wait, purpose).await,
                Err(trouble) => Err(trouble),
            };
            let trouble = match reached {
                Ok(connected) => return Ok(connected),
                Err(trouble) => trouble,
            };
            let trouble = Trouble { message: format!("{}: {}", host.name, trouble.message), ..trouble };
            let graver = |worst: &Trouble| {
                matches!(worst.verdict, Verdict::Stop(_)) || !matches!(trouble.verdict, Verdict::Stop(_))
            };
            if !worst.as_ref().is_some_and(graver) {
                worst = Some(trouble);
            }
        }
    }
    Err(worst.unwrap_or_else(|| Trouble::new(Verdict::Stop(""), "no host; name one with host=")))
}

/// The addresses of a host, each to be tried for itself: one that is silent takes no time from the next.
async fn addresses(config: &Config, wait: Duration) -> Result<Vec<Config>, Trouble> {
    let ([Host::Tcp(name)], []) = (config.get_hosts(), config.get_hostaddrs()) else {
        return Ok(vec![config.clone()]);
    };
    let unknown = |why: String| Trouble::new(Verdict::Reconnect, format!("its address is not found: {why}"));
    let looked = timeout(wait, lookup_host((name.as_str(), 0))).await;
    let found = looked
        .map_err(|_| unknown(format!("no answer within {} s", wait.as_secs())))?
        .map_err(|error| unknown(error.to_string()))?;
    let at = |address: SocketAddr| {
        let mut config = config.clone();
        config.hostaddr(address.ip());
        config
    };
    Ok(found.take(ADDRESSES_MAX).map(at).collect())
}

async fn connect_address(
    target: &Target,
    host: &HostTarget,
    mut config: Config,
    wait: Duration,
    purpose: Purpose,
) -> Result<Connected, Trouble> {
    config.connect_timeout(wait);
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_UNACKNOWLEDGED);
    }
    config.keepalives_idle(Duration::from_secs(5));
    config.keepalives_interval(Duration::from_secs(3));
    config.keepalives_retries(3);
    if purpose == Purpose::Presence {
        let given = config.get_options().map(|options| format!("{options} ")).unwrap_or_default();
        config.options(given + &options());
    }
    if purpose != Purpose::Read {
        // A standby takes no mirror, whatever the connection string allows.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    let reach = async {
        let (client, socket, ended, hints) = match config.get_ssl_mode() {
            SslMode::Disable => open(&config, NoTls).await?,
            _ => {
                let tls = target.tls().connector(host.mode);
                let tls = tls.map_err(|error| Trouble::new(Verdict::Stop(""), format!("{error:#}")))?;
                open(&config, tls).await?
            }
        };
        let backend_pid = look(&client, purpose).await?;
        Ok(Connected { client, ended, hints, host: host.name.clone(), backend_pid, _socket: socket })
    };
    match timeout(wait, reach).await {
        Ok(reached) => reached,
        Err(_) => Err(Trouble::new(Verdict::Reconnect, format!("no answer within {} s", wait.as_secs()))),
    }
}

/// Connects; the connection runs as a task until it ends.
async fn open<T>(
    config: &Config,
    tls: T,
) -> Result<(Client, Socket, oneshot::Receiver<Trouble>, Arc<Notify>), Trouble>
where
    T: tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = config.connect(tls).await.map_err(refused)?;
    let (tell, ended) = oneshot::channel();
    let hints = Arc::new(Notify::new());
    let hint = Arc::clone(&hints);
    let task = tokio::spawn(async move {
        let trouble = loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(_))) => hint.notify_one(),
                Some(Ok(_)) => {}
                Some(Err(error)) => break error.into(),
                None => break Trouble::new(Verdict::Reconnect, "the connection was closed"),
            }
        };
        // Whoever waited may have gone on.
        let _ = tell.send(trouble);
    });
    Ok((client, Socket(task.abort_handle()), ended, hints))
}

/// A pooler does not know the settings that stand in the first message, and says so in its own words.
fn refused(error: tokio_postgres::Error) -> Trouble {
    let pooler = error.as_db_error().is_some_and(|told| {
        told.code().code() == "08P01" && told.message().contains("unsupported startup parameter")
    });
    if pooler { through_pooler() } else { error.into() }
}

/// Presence is a lock that a session holds; behind a pooler sessions are shared.
pub fn through_pooler() -> Trouble {
    let next = "name Postgres' own host and port in the connection string";
    Trouble::new(
        Verdict::Stop(next),
        format!("this is a connection pooler, and presence needs a session of its own; {next}"),
    )
}

/// As the first message carries them: a blank within a value is escaped.
fn options() -> String {
    let option = |(key, value): &(&str, &str)| format!("-c {key}={}", value.replace(' ', "\\ "));
    PRESENCE_SETTINGS.iter().map(option).collect::<Vec<_>>().join(" ")
}

/// Looks at what answers; its process number.
async fn look(client: &Client, purpose: Purpose) -> Result<i32, Trouble> {
    let row = client
        .query_one(
            "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_version_num')::int4,
                    pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_encoding'),
                    pg_catalog.current_setting('idle_session_timeout', true)",
            &[],
        )
        .await?;
    let version: i32 = row.try_get(1)?;
    if version < SERVER_VERSION_MIN {
        let version: String = row.try_get(2)?;
        let next = "upgrade it";
        let message = format!("this is Postgres {version}, and observer needs 14 or newer; {next}");
        return Err(Trouble::new(Verdict::Stop(next), message));
    }
    let encoding: String = row.try_get(3)?;
    if encoding != "UTF8" {
        let next = "create one with ENCODING 'UTF8' TEMPLATE template0";
        let message = format!("the database's encoding is {encoding}, and observer needs UTF8; {next}");
        return Err(Trouble::new(Verdict::Stop(next), message));
    }
    let idle: Option<String> = row.try_get(4)?;
    if purpose == Purpose::Presence && idle.as_deref() != Some("15s") {
        return Err(through_pooler());
    }
    client
        .batch_execute(
            "SET search_path = pg_catalog; SET timezone = 'UTC'; SET client_min_messages = warning",
        )
        .await?;
    Ok(row.try_get(0)?)
}
