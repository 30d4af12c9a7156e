//! The checks of `observer doctor` about the database: name, network, login, schema, rights, presence, clock.

use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::config::Host;
use uuid::Uuid;

use super::ask::{query_one, query_opt};
use super::clock::server_ahead_ns;
use super::connect::{Connected, Purpose, connect};
use super::error::DatabaseError;
use super::presence::holder;
use super::schema::{self, LATEST};
use super::sql;
use super::target::{ConnectionTarget, DatabaseUrl, HostTarget};
use crate::api::check::{Check, Verdict};
use crate::clock::boottime;

/// How long one address may take to accept a connection.
const TCP_WAIT: Duration = Duration::from_secs(5);
/// A difference of the clocks from which times in the database mislead, ns.
const CLOCK_APART_NS: u64 = 2_000_000_000;

/// What a writer has to be allowed, and whether this login is.
const RIGHTS: &str = "SELECT session_user::text,
    pg_catalog.has_schema_privilege(session_user, 'observer', 'USAGE'),
    pg_catalog.pg_has_role(session_user, 'observer_writer', 'MEMBER')";

/// Checks the way to the database, and what it has for the host `host_id`. Writes nothing.
pub async fn doctor(url: &DatabaseUrl, host_id: Option<Uuid>) -> Vec<Check> {
    match url.target() {
        Ok(target) => reach_and_log_in(&target, host_id).await,
        Err(error) => vec![Check::of("mirror: connection string", Err(error))],
    }
}

/// The same of a connection string that was read.
pub async fn reach_and_log_in(target: &ConnectionTarget, host_id: Option<Uuid>) -> Vec<Check> {
    let mut checks = Vec::new();
    for host in target.hosts() {
        checks.extend(reach(&host).await);
    }
    match login(target).await {
        Ok((connected, check)) => {
            checks.push(check);
            checks.extend(logged_in(&connected.client, host_id).await);
        }
        Err(error) => checks.push(failed("mirror: login", &error)),
    }
    checks
}

fn failed(name: &str, error: &DatabaseError) -> Check {
    Check::new(name, Verdict::Fails, &*error.message)
}

/// Whether the name of a host is known, and its addresses accept connections.
async fn reach(host: &HostTarget) -> Vec<Check> {
    let name = format!("mirror: {}", host.name);
    let port = host.config.get_ports().first().copied().unwrap_or(5432);
    let addresses = match (host.config.get_hosts(), host.config.get_hostaddrs()) {
        (_, [address, ..]) => vec![(*address, port).into()],
        ([Host::Tcp(name_of_host)], []) => {
            match timeout(TCP_WAIT, lookup_host((name_of_host.as_str(), port))).await {
                Ok(Ok(found)) => found.collect(),
                Ok(Err(error)) => {
                    let detail = format!(
                        "its address is not found ({error}): correct the name, or the servers in /etc/resolv.conf; in the service, \
                     their addresses have to be in IPAddressAllow="
                    );
                    return vec![Check::new(name, Verdict::Fails, detail)];
                }
                Err(_) => {
                    let detail = format!(
                        "its address was not found within {} s: correct the servers in /etc/resolv.conf",
                        TCP_WAIT.as_secs()
                    );
                    return vec![Check::new(name, Verdict::Fails, detail)];
                }
            }
        }
        // A socket of this machine: the login tries it.
        _ => return Vec::new(),
    };
    let mut checks = Vec::new();
    for address in addresses {
        let began = boottime();
        let (verdict, detail) = match timeout(TCP_WAIT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => {
                let took = Duration::from_nanos(boottime().0.saturating_sub(began.0));
                (
                    Verdict::Fine,
                    format!("{address} accepts connections, after {:.1} ms", took.as_secs_f64() * 1e3),
                )
            }
            Ok(Err(error)) => (
                Verdict::Limited,
                format!("{address} refuses ({error}): is the server running, and listen_addresses set?"),
            ),
            Err(_) => (
                Verdict::Limited,
                format!("{address} does not answer within {} s: look for a firewall", TCP_WAIT.as_secs()),
            ),
        };
        checks.push(Check::new(name.clone(), verdict, detail));
    }
    checks
}

/// Logs in as the daemon does.
async fn login(target: &ConnectionTarget) -> Result<(Connected, Check), DatabaseError> {
    let connected = connect(target, Purpose::Presence).await?;
    let row = query_one(
        &connected.client,
        "SELECT pg_catalog.current_setting('server_version'), s.ssl, s.version
            FROM pg_catalog.pg_stat_ssl s WHERE s.pid = pg_catalog.pg_backend_pid()",
        &[],
    )
    .await?;
    let (version, is_encrypted, protocol): (String, bool, Option<String>) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let how = if is_encrypted { protocol.unwrap_or_else(|| "TLS".into()) } else { "no TLS".into() };
    let detail = format!("{}: Postgres {version}, {how}, no pooler", connected.host);
    Ok((connected, Check::new("mirror: login", Verdict::Fine, detail)))
}

/// What is there for a daemon that is logged in.
async fn logged_in(client: &Client, host_id: Option<Uuid>) -> Vec<Check> {
    let mut checks = vec![answered("mirror: clock", clock(client)).await];
    let found = answered("mirror: schema", version(client)).await;
    let is_there = found.verdict != Verdict::Fails;
    checks.push(found);
    if is_there {
        checks.push(answered("mirror: rights", rights(client, host_id)).await);
        if let Some(host_id) = host_id {
            checks.push(answered("mirror: presence", presence(client, host_id)).await);
        }
    }
    checks
}

async fn answered(
    name: &str,
    check: impl Future<Output = Result<(Verdict, String), DatabaseError>>,
) -> Check {
    match check.await {
        Ok((verdict, detail)) => Check::new(name, verdict, detail),
        Err(error) => failed(name, &error),
    }
}

async fn version(client: &Client) -> Result<(Verdict, String), DatabaseError> {
    let found = schema::check(client).await?;
    Ok(match found < LATEST {
        true => (Verdict::Limited, schema::older_revision(found)),
        false => (Verdict::Fine, format!("version {found}, and this program knows {LATEST}")),
    })
}

async fn rights(client: &Client, host_id: Option<Uuid>) -> Result<(Verdict, String), DatabaseError> {
    let row = query_one(client, RIGHTS, &[]).await?;
    let (login, may_use, is_writer): (String, bool, bool) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if !may_use || !is_writer {
        let next = "GRANT observer_writer TO it, and map it in observer.writers (docs/schema.md, Roles)";
        return Ok((Verdict::Fails, format!("the login {login} is no member of observer_writer: {next}")));
    }
    let Some(host_id) = host_id else {
        return Ok((Verdict::Fine, format!("the login {login} is a member of observer_writer")));
    };
    let found = query_opt(client, sql::FIND_HOST, &[&host_id]).await?;
    Ok(match found {
        Some(_) => (Verdict::Fine, format!("the login {login} writes the rows of this host ({host_id})")),
        None => (
            Verdict::Limited,
            format!(
                "the login {login} sees no row of this host ({host_id}): the daemon makes it when it first connects, if \
                 observer.writers maps the login to it (docs/schema.md, Roles)"
            ),
        ),
    })
}

async fn presence(client: &Client, host_id: Uuid) -> Result<(Verdict, String), DatabaseError> {
    let Some(row) = query_opt(client, sql::FIND_HOST, &[&host_id]).await? else {
        return Ok((Verdict::Limited, "this host has never been present".into()));
    };
    let (host_no, backend): (i32, Option<i32>) = (row.try_get(0)?, row.try_get(3)?);
    Ok(match holder(client, host_no).await? {
        Some(found) if Some(found.backend_pid) == backend && found.same_role => {
            (Verdict::Fine, format!("this host is present (server process {})", found.backend_pid))
        }
        Some(found) => (
            Verdict::Fails,
            format!(
                "the role {} holds this host's lock (server process {}) and is not its writer: find out who that is, and end \
                 it with SELECT pg_terminate_backend({})",
                found.role, found.backend_pid, found.backend_pid
            ),
        ),
        None => (
            Verdict::Limited,
            "this host is not present: no daemon of it is connected; `observer status` says why".into(),
        ),
    })
}

async fn clock(client: &Client) -> Result<(Verdict, String), DatabaseError> {
    Ok(compared(server_ahead_ns(client).await?))
}

/// What is to be said of a server whose clock is so many ns ahead.
fn compared(apart: i64) -> (Verdict, String) {
    let seconds = Duration::from_nanos(apart.unsigned_abs()).as_secs_f64();
    let direction = if apart < 0 { "behind" } else { "ahead of" };
    let found = format!("the server's clock is {seconds:.3} s {direction} this host's");
    match apart.unsigned_abs() > CLOCK_APART_NS {
        true => (
            Verdict::Limited,
            format!(
                "{found}: times in the database are this host's; have both follow a time server (`timedatectl`)"
            ),
        ),
        false => (Verdict::Fine, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_seconds_apart_are_a_warning() {
        let (verdict, detail) = compared(1_500_000_000);
        assert_eq!(
            (verdict, &*detail),
            (Verdict::Fine, "the server's clock is 1.500 s ahead of this host's")
        );
        let (verdict, detail) = compared(-172_800_000_000_000);
        assert_eq!(verdict, Verdict::Limited);
        assert!(detail.starts_with("the server's clock is 172800.000 s behind this host's"), "{detail}");
    }
}
