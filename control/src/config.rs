//! What a server is started with, and why one does not start.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use subtle::ConstantTimeEq as _;

use crate::hub::Bounds;
use crate::store::{OpenError, StoreError};

/// What a server is started with.
#[derive(Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// Its SQLite file. Made where there is none; its folder must be there.
    pub data: PathBuf,
    /// The key of daemons and clients alike.
    pub token: Token,
    /// Names besides those of the loopback under which it may be called, without ports.
    pub hosts: Vec<String>,
    /// What it says of itself.
    pub version: String,
    /// How much tasks may ask for by their keys.
    pub bounds: Bounds,
}

/// Where a server listens.
#[derive(Debug)]
pub enum Listen {
    /// It binds this itself. Port 0 takes any.
    Address(SocketAddr),
    /// This is bound already.
    Bound(TcpListener),
}

/// The shared secret. It shows itself to nobody.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Takes the secret as it stands in its file, without white space around it.
    pub fn new(secret: impl AsRef<str>) -> Self {
        Self(secret.as_ref().trim().to_owned())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is the secret, in a time that does not tell how much of it was right.
    pub(crate) fn matches(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody listens there already.
    #[error("cannot listen on {address}: another program uses this port")]
    PortInUse {
        /// Where.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The listener that was handed over cannot be used.
    #[error("cannot use the listening socket: {source}")]
    Socket {
        /// What the system said.
        source: io::Error,
    },
    /// The data file cannot be used.
    #[error(transparent)]
    Data(#[from] OpenError),
    /// What is stored cannot be read back.
    #[error("the stored tasks cannot be read: {0}")]
    Load(#[source] StoreError),
    /// Everybody would be let in.
    #[error("the server's token is empty")]
    NoToken,
}

#[cfg(test)]
mod tests {
    use super::Token;

    /// Protects the token from logs, and the door from near misses.
    #[test]
    fn a_token_is_silent_and_exact() {
        let token = Token::new(" hunter2\n");
        assert!(!format!("{token:?}").contains("hunter2"));
        assert!(token.matches(b"hunter2"));
        for wrong in [&b""[..], b"hunter", b"hunter22", b"Hunter2", b" hunter2"] {
            assert!(!token.matches(wrong));
        }
    }
}
