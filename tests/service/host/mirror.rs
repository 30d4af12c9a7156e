//! Tests the mirror inside the unit's sandbox.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::system::{DropIn, as_user, eventually, installed, start};

const CREDENTIAL: &str = "/etc/observer/database_url";

/// The configuration that docs/mirror.md tells an operator to write.
struct Configured {
    _drop_in: DropIn,
}

impl Configured {
    fn new(database_url: &str) -> Self {
        fs::write(CREDENTIAL, database_url).expect("write as root");
        fs::set_permissions(CREDENTIAL, fs::Permissions::from_mode(0o600)).expect("only root reads it");
        let settings = format!("LoadCredential=database_url:{CREDENTIAL}\nIPAddressAllow=localhost\n");
        Self { _drop_in: DropIn::new("mirror", &settings) }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let _ = fs::remove_file(CREDENTIAL);
    }
}

/// Returns the words of the first message of a Postgres client: names and values by turns.
fn startup(mut client: TcpStream) -> Vec<String> {
    client
        .set_nonblocking(false)
        .and_then(|()| client.set_read_timeout(Some(Duration::from_secs(10))))
        .expect("a socket");
    let mut length = [0; 4];
    client.read_exact(&mut length).expect("a length");
    let length = usize::try_from(u32::from_be_bytes(length)).expect("a length");
    assert!((8..10_000).contains(&length), "{length}");
    let mut message = vec![0; length - 4];
    client.read_exact(&mut message).expect("the rest");
    let (protocol, words) = message.split_at(4);
    assert_eq!(protocol, 196_608_u32.to_be_bytes(), "version 3");
    words.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[test]
fn the_mirror_takes_the_database_from_a_credential_and_connects_by_tcp() {
    let _alone = installed();
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    server.set_nonblocking(true).expect("a socket");
    let port = server.local_addr().expect("an address").port();
    let _configured = Configured::new(&format!("postgresql://mirror@127.0.0.1:{port}/fleet?sslmode=disable"));
    start();
    let mut client = None;
    eventually("it connects", || match server.accept() {
        Ok((stream, _)) => client.replace(stream).is_none(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            false
        }
    });
    let result = startup(client.expect("it connected"));
    for pair in [["user", "mirror"], ["database", "fleet"]] {
        assert!(result.windows(2).any(|words| words == pair), "{pair:?}: {result:?}");
    }
    // The server closed the connection: the daemon reports that and continues.
    eventually("it is reported", || {
        let status = as_user("member", &["status", "--json"]).json();
        status.pointer("/mirror/state").is_some_and(|state| state == "retrying")
    });
}
