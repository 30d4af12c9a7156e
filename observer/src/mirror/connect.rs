//! One connection: to the first host that accepts it and can be written, with the settings that presence and time limits
//! need. A connection pooler is refused.

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
                let tls =
                    tls.map_err(|error| DatabaseError::new(ErrorClass::Permanent, format!("{error:#}")))?;
                open(&config, tls).await?
            }
        };
        let backend_pid = check_server(&client, purpose).await?;
        Ok(Connected { client, ended, hints, host: host.name.clone(), backend_pid, socket })
    };
    match timeout(wait, reach).await {
        Ok(reached) => reached,
        Err(_) => Err(DatabaseError::broken(format!("no answer within {} s", wait.as_secs()))),
    }
}

/// Connects; the connection runs as a task until it ends.
async fn open<T>(
    config: &Config,
    tls: T,
) -> Result<(Client, Socket, oneshot::Receiver<DatabaseError>, Arc<Notify>), DatabaseError>
where
    T: tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = config.connect(tls).await.map_err(refused)?;
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

/// Classifies the error of a connection that was refused. A pooler refuses the settings in the startup message.
fn refused(error: tokio_postgres::Error) -> DatabaseError {
    let is_pooler = error.as_db_error().is_some_and(|error| {
        error.code().code() == "08P01" && error.message().contains("unsupported startup parameter")
    });
    if is_pooler { DatabaseError::through_pooler() } else { error.into() }
}

/// The settings as the startup message carries them: a blank within a value is escaped.
fn options() -> String {
    let option = |(key, value): &(&str, &str)| format!("-c {key}={}", value.replace(' ', "\\ "));
    PRESENCE_SETTINGS.iter().map(option).collect::<Vec<_>>().join(" ")
}

/// Checks that the server is one that observer can use; the number of its process.
async fn check_server(client: &Client, purpose: Purpose) -> Result<i32, DatabaseError> {
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
        let problem = format!("this is Postgres {version}, and observer needs 14 or newer");
        return Err(DatabaseError::permanent(problem, "upgrade it"));
    }
    let encoding: String = row.try_get(3)?;
    if encoding != "UTF8" {
        let problem = format!("the database's encoding is {encoding}, and observer needs UTF8");
        return Err(DatabaseError::permanent(problem, "create one with ENCODING 'UTF8' TEMPLATE template0"));
    }
    let idle: Option<String> = row.try_get(4)?;
    if purpose == Purpose::Presence && idle.as_deref() != Some("15s") {
        return Err(DatabaseError::through_pooler());
    }
    client
        .batch_execute(
            "SET search_path = pg_catalog; SET timezone = 'UTC'; SET client_min_messages = warning",
        )
        .await?;
    Ok(row.try_get(0)?)
}
