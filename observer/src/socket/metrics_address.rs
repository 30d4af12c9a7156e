//! Where metrics are served: `listen` of `[metrics]`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::text::bytes::{quoted, to_line};

/// An address that only this machine reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsAddress {
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// An address of the loopback, and a port.
    Loopback(SocketAddr),
}

impl MetricsAddress {
    /// Takes an absolute path, or a loopback address with a port. The error ends with the next step.
    pub fn parse(text: &str) -> Result<Self, String> {
        const NEXT: &str = "write \"/run/observer/metrics.sock\", \"127.0.0.1:9431\" or \"[::1]:9431\"";
        if text.starts_with('/') {
            return match text.contains('\0') || text.ends_with('/') {
                true => Err(format!("{} is no path of a socket: {NEXT}", quoted(text))),
                false => Ok(Self::Unix(text.into())),
            };
        }
        let Ok(address) = text.parse::<SocketAddr>() else {
            return Err(format!(
                "listen is an absolute path, or a loopback address with a port, found {}: {NEXT}",
                quoted(text)
            ));
        };
        if !address.ip().is_loopback() {
            return Err(format!(
                "metrics are served to this machine alone, and others may reach {}: {NEXT}, and have a proxy on this \
                 machine serve others",
                quoted(text)
            ));
        }
        if address.port() == 0 {
            return Err(format!("{} has no port that could be scraped: {NEXT}", quoted(text)));
        }
        Ok(Self::Loopback(address))
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => f.write_str(&to_line(path.as_os_str().as_encoded_bytes())),
            Self::Loopback(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_served() {
        for text in ["/run/observer/metrics.sock", "127.0.0.1:9431", "127.255.0.9:1", "[::1]:65535"] {
            assert_eq!(MetricsAddress::parse(text).map(|address| address.to_string()), Ok(text.to_owned()));
        }
        let cases = [
            ("0.0.0.0:9431", "others may reach"),
            ("[::]:9431", "others may reach"),
            ("192.0.2.7:9431", "others may reach"),
            ("128.0.0.1:9431", "others may reach"),
            ("[::ffff:127.0.0.1]:9431", "others may reach"),
            ("[fe80::1]:9431", "others may reach"),
            ("127.0.0.1:0", "has no port"),
            ("127.0.0.1", "an absolute path, or a loopback address"),
            ("127.0.0.1:65536", "an absolute path, or a loopback address"),
            ("localhost:9431", "an absolute path, or a loopback address"),
            (":9431", "an absolute path, or a loopback address"),
            ("9431", "an absolute path, or a loopback address"),
            ("metrics.sock", "an absolute path, or a loopback address"),
            ("", "an absolute path, or a loopback address"),
            ("/run/observer/", "is no path of a socket"),
            ("/run/\0", "is no path of a socket"),
        ];
        for (text, expected) in cases {
            let error = MetricsAddress::parse(text).expect_err(text);
            assert!(error.contains(expected) && error.contains("write \"/run/observer"), "{text}: {error}");
        }
    }
}
