//! The API's sockets: which there are, and what can be wrong with binding them.

use super::auth::ListenerKind;
use crate::tls_files::TlsError;
use nearmost_config::{BrokerConfig, TlsFiles};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::{TcpListener, UnixListener};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Where the API listens.
#[derive(Clone, Debug, Default)]
pub struct Listeners {
    /// API, metrics and redirects; HTTPS when `tls` is set.
    pub http: Vec<SocketAddr>,
    /// Plain HTTP that gives redirects and nothing else.
    pub redirect: Vec<SocketAddr>,
    /// Certificate and key.
    pub tls: Option<TlsFiles>,
    /// The admin socket.
    pub socket: Option<PathBuf>,
    /// Open connections over TCP, all together.
    pub max_connections: usize,
}

impl From<&BrokerConfig> for Listeners {
    fn from(config: &BrokerConfig) -> Listeners {
        Listeners {
            http: config.http.listen.clone(),
            redirect: config.http.redirect_listen.clone(),
            tls: config.http.tls.clone(),
            socket: Some(config.admin.socket.clone()),
            max_connections: config.http.max_connections,
        }
    }
}

/// Why the API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Another program has the port.
    #[error("port in use: {what} asked for {addr}")]
    PortInUse {
        /// Who asked.
        what: &'static str,
        /// For what.
        addr: SocketAddr,
    },
    /// The system refuses the address.
    #[error("{what} cannot listen on {addr}: {source}")]
    Bind {
        /// Who asked.
        what: &'static str,
        /// For what.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// An address that others can reach, without TLS.
    #[error(
        "HTTP API cannot listen on {0} without TLS: others can reach that address; set http.tls, or listen on a loopback address"
    )]
    TlsRequired(SocketAddr),
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Two metrics of one name: a defect of the program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Another broker serves the admin socket.
    #[error("admin socket {}: another broker is serving it", .0.display())]
    SocketInUse(PathBuf),
    /// Something else is where the admin socket should be.
    #[error("admin socket {}: there is a file that is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// Something that no broker left is where the admin socket is made before it is put in place.
    #[error("admin socket: {} is in the way: it is neither a folder nor a socket; remove it", .0.display())]
    InTheWay(PathBuf),
    /// The admin socket cannot be made.
    #[error("admin socket {}: {source}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound TCP listener.
pub(super) struct TcpBound {
    pub(super) listener: TcpListener,
    pub(super) kind: ListenerKind,
    pub(super) tls: bool,
    pub(super) addr: SocketAddr,
}

/// Binds every TCP listener, or names the one that cannot be.
pub(super) fn bind_tcp(listeners: &Listeners) -> Result<Vec<TcpBound>, ApiError> {
    let mut bound = Vec::new();
    for addr in &listeners.http {
        let kind = match addr.ip().to_canonical().is_loopback() {
            true => ListenerKind::Loopback,
            false => ListenerKind::Public,
        };
        if kind == ListenerKind::Public && listeners.tls.is_none() {
            return Err(ApiError::TlsRequired(*addr));
        }
        bound.push(tcp("HTTP API", *addr, &listeners.http, kind, listeners.tls.is_some())?);
    }
    for addr in &listeners.redirect {
        bound.push(tcp("HTTP redirects", *addr, &listeners.redirect, ListenerKind::Redirect, false)?);
    }
    Ok(bound)
}

fn tcp(
    what: &'static str,
    addr: SocketAddr,
    all: &[SocketAddr],
    kind: ListenerKind,
    tls: bool,
) -> Result<TcpBound, ApiError> {
    let listen = || TcpListener::from_std(bound(addr, all)?.into());
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => ApiError::PortInUse { what, addr },
        _ => ApiError::Bind { what, addr, source },
    };
    let listener = listen().map_err(fail)?;
    let addr = listener.local_addr().map_err(|source| ApiError::Bind { what, addr, source })?;
    Ok(TcpBound { listener, kind, tls, addr })
}

/// The TCP port of an address, listening; `all` are asked for beside it.
///
/// # Errors
/// When anyone else listens there, or it may not be had.
pub(crate) fn bound(addr: SocketAddr, all: &[SocketAddr]) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(all.iter().any(|other| is_v4_twin(addr, *other)))?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// `[::]` takes IPv4 too, unless an IPv4 address of the same port is asked for beside it.
fn is_v4_twin(v6: SocketAddr, other: SocketAddr) -> bool {
    matches!(other.ip(), IpAddr::V4(_)) && v6.ip().is_unspecified() && other.port() == v6.port()
}

/// The admin socket, and the file that goes with it.
pub(super) struct UnixBound {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl Drop for UnixBound {
    fn drop(&mut self) {
        // One that is gone already needs no removal.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds the admin socket, readable and writable by its owner only. The file of a broker that died
/// is replaced, that of one that lives is an error.
pub(super) async fn bind_unix(path: &Path) -> Result<UnixBound, ApiError> {
    let fail = |source| ApiError::Socket { path: path.into(), source };
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(fail(e)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(ApiError::NotASocket(path.into())),
        Ok(_) => match tokio::net::UnixStream::connect(path).await {
            Ok(_) => return Err(ApiError::SocketInUse(path.into())),
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {}
            // A full backlog: someone is there.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(ApiError::SocketInUse(path.into()));
            }
            Err(e) => return Err(fail(e)),
        },
    }
    let mut name = path.as_os_str().to_owned();
    name.push("~");
    let folder = PathBuf::from(name);
    match clear(&folder).map_err(fail)? {
        Cleared::Yes => {}
        Cleared::InTheWay => return Err(ApiError::InTheWay(folder)),
    }
    let listener = bind_in_private(path, &folder).map_err(fail)?;
    Ok(UnixBound { listener, path: path.into() })
}

/// Whether a name is free now.
enum Cleared {
    Yes,
    /// What is there is not a broker's.
    InTheWay,
}

/// Removes the folder of a broker that died in [`bind_in_private`], or a socket of that name. A link
/// is not followed: what it leads to is not ours.
fn clear(folder: &Path) -> io::Result<Cleared> {
    let gone = |left: io::Result<()>| match left {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    let kind = match std::fs::symlink_metadata(folder) {
        Ok(meta) => meta.file_type(),
        Err(e) => return gone(Err(e)).map(|()| Cleared::Yes),
    };
    if kind.is_dir() {
        gone(std::fs::remove_file(folder.join("s")))?;
        gone(std::fs::remove_dir(folder))?;
    } else if kind.is_socket() {
        gone(std::fs::remove_file(folder))?;
    } else {
        return Ok(Cleared::InTheWay);
    }
    Ok(Cleared::Yes)
}

/// Makes the socket in a folder that nobody else may enter, closes it to others, and only then puts it
/// in place: at no moment can anybody else connect.
fn bind_in_private(path: &Path, folder: &Path) -> io::Result<UnixListener> {
    let new = folder.join("s");
    std::fs::DirBuilder::new().mode(0o700).create(folder)?;
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    std::fs::remove_dir(folder)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_admin_socket_is_made_out_of_reach_and_what_was_left_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let folder = dir.path().join("admin.sock~");
        std::fs::create_dir(&folder).unwrap();
        drop(std::os::unix::net::UnixListener::bind(folder.join("s")).unwrap());
        // Nobody is let in before the socket is in its place: the folder would stop them.
        let bound = bind_unix(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!folder.exists());
        drop(bound);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("precious"), "").unwrap();
        let said = bind_unix(&path).await.err().unwrap().to_string();
        assert!(said.contains("admin.sock"), "{said}");
        assert!(folder.join("precious").exists() && !path.exists());
    }

    #[tokio::test]
    async fn a_socket_in_the_folders_place_is_removed_and_a_link_or_a_file_is_left_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let folder = dir.path().join("admin.sock~");
        drop(std::os::unix::net::UnixListener::bind(&folder).unwrap());
        drop(bind_unix(&path).await.unwrap());
        assert!(!folder.exists());
        std::fs::write(&folder, "precious").unwrap();
        let named = |result: Result<UnixBound, ApiError>| match result {
            Err(ApiError::InTheWay(what)) => what == folder,
            _ => false,
        };
        assert!(named(bind_unix(&path).await));
        assert_eq!(std::fs::read(&folder).unwrap(), b"precious");
        std::fs::remove_file(&folder).unwrap();
        let other = dir.path().join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("s"), "precious").unwrap();
        std::os::unix::fs::symlink(&other, &folder).unwrap();
        assert!(named(bind_unix(&path).await));
        assert!(other.join("s").exists() && folder.is_symlink() && !path.exists());
    }
}
