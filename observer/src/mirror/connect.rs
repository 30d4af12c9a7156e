//! One connection: to the first host that accepts it and can be written, with the settings that presence and time limits
//! need. A connection pooler is refused where something is written.

use std::future::poll_fn;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

use super::error::{DatabaseError, ErrorClass};
use super::target::{ConnectionTarget, HostTarget};

/// How long TCP, TLS and login at one address may take together, unless `connect_timeout` says otherwise.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// How many addresses of one host are tried.
const ADDRESSES_MAX: usize = 8;
/// How long data may stay unacknowledged by the peer's kernel.
const TCP_UNACKNOWLEDGED: Duration = Duration::from_secs(10);
/// The first version with `idle_session_timeout`.
pub(super) const SERVER_VERSION_MIN: i32 = 140_000;

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A command reads, and a person waits for it.
    Read,
    /// A command writes, which a standby does not allow.
    Change,
    /// The daemon mirrors and holds the presence lock.
    Presence,
}

/// Settings with which the server ends a silent or stuck client, whatever the network reports (docs/mirror.md explains each).
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
    // Another level may be set for the role, with which batches fail that run beside readers.
    ("default_transaction_isolation", "read committed"),
];

/// Settings of who writes. Who reads has them for each transaction: see [`super::reading`].
const WRITER_SETTINGS: &str =
    "SET search_path = pg_catalog; SET timezone = 'UTC'; SET client_min_messages = warning";
/// A setting that has no effect. A server that has another value of it than this connection asked for is behind a pooler.
const MARK: &str = "observer.connection";

/// An open connection.
pub struct Connected {
    /// Sends statements.
    pub client: Client,
    /// Resolves with the reason when the connection has ended.
    pub ended: oneshot::Receiver<DatabaseError>,
    /// Notified when a hint came, if the connection listens.
    pub hints: Arc<Notify>,
    /// Host and port.
    pub host: String,
    /// The server's process for it.
    pub backend_pid: i32,
    /// A pooler is between: settings, cursors and notifications may be another client's after each transaction.
    pub is_pooled: bool,
    /// Closes the connection when it is dropped.
    pub(super) socket: Socket,
}

/// The task that owns the socket. Dropping this closes the socket, whatever the server has not answered yet.
pub(super) struct Socket(AbortHandle);

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects to the first of `target`'s hosts that accepts the connection and serves the purpose. The error is that of a host
/// that answered, if there is one, rather than that of a host that is down.
pub async fn connect(target: &ConnectionTarget, purpose: Purpose) -> Result<Connected, DatabaseError> {
    let mut worst: Option<DatabaseError> = None;
    for host in target.hosts() {
        let wait = host.config.get_connect_timeout().copied().filter(|wait| !wait.is_zero());
        let wait = wait.unwrap_or(CONNECT_WAIT);
        let found = addresses(&host.config, wait).await;
        let attempts = match found {
            Ok(configs) => configs.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        for attempt in attempts {
            let reached = match attempt {
                Ok(config) => connect_address(target, &host, config, wait, purpose).await,
                Err(error) => Err(error),
            };
            let error = match reached {
                Ok(connected) => return Ok(connected),
                Err(error) => error,
            };
            let error = DatabaseError { message: format!("{}: {}", host.name, error.message), ..error };
            let is_graver = error.class == ErrorClass::Permanent
                && worst.as_ref().is_some_and(|worst| worst.class != ErrorClass::Permanent);
            if worst.is_none() || is_graver {
                worst = Some(error);
            }
        }
    }
    Err(worst.unwrap_or_else(|| DatabaseError::permanent("no host", "name one with host=")))
}

/// One configuration for each address of a host: an address that does not answer takes no time from the next.
async fn addresses(config: &Config, wait: Duration) -> Result<Vec<Config>, DatabaseError> {
    let ([Host::Tcp(name)], []) = (config.get_hosts(), config.get_hostaddrs()) else {
        return Ok(vec![config.clone()]);
    };
    let unknown = |why: String| DatabaseError::broken(format!("its address is not found: {why}"));
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
    target: &ConnectionTarget,
    host: &HostTarget,
    mut config: Config,
    wait: Duration,
    purpose: Purpose,
) -> Result<Connected, DatabaseError> {
    config.connect_timeout(wait);
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_UNACKNOWLEDGED);
    }
    config.keepalives_idle(Duration::from_secs(5));
    config.keepalives_interval(Duration::from_secs(3));
    config.keepalives_retries(3);
    if purpose != Purpose::Read {
        // A standby takes no mirror, whatever the connection string allows.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    let mark = RandomState::new().hash_one(host.name.as_str()).to_string();
    let mut marked = config.clone();
    let given = config.get_options().map(|options| format!("{options} ")).unwrap_or_default();
    marked.options(given + &options(purpose, &mark));
    let reach = async {
        let (client, socket, ended, hints) = match open_as_asked(target, host, &marked).await {
            // A pooler refuses settings that it cannot keep. Who reads does without them.
            Err(Refused::ByPooler) if purpose == Purpose::Read => {
                open_as_asked(target, host, &config).await?
            }
            opened => opened?,
        };
        let Server { backend_pid, is_pooled } = check_server(&client, purpose, &mark).await?;
        Ok(Connected { client, ended, hints, host: host.name.clone(), backend_pid, is_pooled, socket })
    };
    match timeout(wait, reach).await {
        Ok(reached) => reached,
        Err(_) => Err(DatabaseError::broken(format!("no answer within {} s", wait.as_secs()))),
    }
}

/// Why there is no connection.
enum Refused {
    /// A pooler does not support the settings in the startup message.
    ByPooler,
    Otherwise(DatabaseError),
}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Self {
        let is_pooler = error.as_db_error().is_some_and(|error| {
            error.code().code() == "08P01" && error.message().contains("unsupported startup parameter")
        });
        if is_pooler { Self::ByPooler } else { Self::Otherwise(error.into()) }
    }
}

impl From<Refused> for DatabaseError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::ByPooler => Self::through_pooler(),
            Refused::Otherwise(error) => error,
        }
    }
}

type Opened = (Client, Socket, oneshot::Receiver<DatabaseError>, Arc<Notify>);

/// Connects with TLS or without, as the connection string asks.
async fn open_as_asked(
    target: &ConnectionTarget,
    host: &HostTarget,
    config: &Config,
) -> Result<Opened, Refused> {
    if config.get_ssl_mode() == SslMode::Disable {
        return open(config, NoTls).await;
    }
    let tls = target.tls().connector(host.mode);
    let no_tls = |error| DatabaseError::new(ErrorClass::Permanent, format!("{error:#}"));
    open(config, tls.map_err(|error| Refused::Otherwise(no_tls(error)))?).await
}

/// Connects; the connection runs as a task until it ends.
async fn open<T>(config: &Config, tls: T) -> Result<Opened, Refused>
where
    T: tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = config.connect(tls).await?;
    let (report_end, ended) = oneshot::channel();
    let hints = Arc::new(Notify::new());
    let hint = Arc::clone(&hints);
    let task = tokio::spawn(async move {
        let error = loop {
            match poll_fn(|context| connection.poll_message(context)).await {
                Some(Ok(AsyncMessage::Notification(_))) => hint.notify_one(),
                Some(Ok(_)) => {}
                Some(Err(error)) => break error.into(),
                None => break DatabaseError::broken("the connection was closed"),
            }
        };
        // An error: nobody waits for the end of this connection any more.
        let _ = report_end.send(error);
    });
    Ok((client, Socket(task.abort_handle()), ended, hints))
}

/// The settings as the startup message carries them: a blank within a value is escaped.
fn options(purpose: Purpose, mark: &str) -> String {
    let settings = if purpose == Purpose::Presence { &PRESENCE_SETTINGS[..] } else { &[] };
    let settings = settings.iter().copied().chain([(MARK, mark)]);
    let option = |(key, value): (&str, &str)| format!("-c {key}={}", value.replace(' ', "\\ "));
    settings.map(option).collect::<Vec<_>>().join(" ")
}

/// What a server is.
struct Server {
    backend_pid: i32,
    is_pooled: bool,
}

/// Checks that the server is one that observer can use.
async fn check_server(client: &Client, purpose: Purpose, mark: &str) -> Result<Server, DatabaseError> {
    // A statement without a name leaves nothing in a pool.
    let row = client
        .query_typed_one(
            "SELECT pg_catalog.pg_backend_pid(), pg_catalog.current_setting('server_version_num')::int4,
                    pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_encoding'),
                    pg_catalog.current_setting('idle_session_timeout', true), pg_catalog.current_setting($1, true)",
            &[(&MARK, Type::TEXT)],
        )
        .await?;
    let version: i32 = row.try_get(1)?;
    if version < SERVER_VERSION_MIN {
        let version: String = row.try_get(2)?;
        let problem = format!("this is Postgres {version}, and observer needs 14 or newer");
        return Err(DatabaseError::permanent(problem, "upgrade it"));
    }
    let encoding: String = row.try_get(3)?;
    if encoding != "UTF8" {
        let problem = format!("the database's encoding is {encoding}, and observer needs UTF8");
        return Err(DatabaseError::permanent(problem, "create one with ENCODING 'UTF8' TEMPLATE template0"));
    }
    let (idle, marked): (Option<String>, Option<String>) = (row.try_get(4)?, row.try_get(5)?);
    let is_pooled = marked.as_deref() != Some(mark);
    let lacks_settings = purpose == Purpose::Presence && idle.as_deref() != Some("15s");
    if lacks_settings || (is_pooled && purpose != Purpose::Read) {
        return Err(DatabaseError::through_pooler());
    }
    if purpose != Purpose::Read {
        client.batch_execute(WRITER_SETTINGS).await?;
    }
    Ok(Server { backend_pid: row.try_get(0)?, is_pooled })
}
