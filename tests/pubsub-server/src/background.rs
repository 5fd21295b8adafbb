//! A thread with a runtime of its own, so that blocking tests can drive what runs on it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;

use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// Connections that wait to be accepted. More than any test opens at once.
pub(crate) const BACKLOG: u32 = 1024;

/// A thread that ends when this is dropped.
pub(crate) struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A runtime for [`Background::run`]. Sockets made while it is entered belong to it.
pub(crate) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// A socket on this port of 127.0.0.1, or on a free one if it is 0. It does not listen yet.
pub(crate) fn socket_on(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?; // else connections that have just ended keep the port
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

impl Background {
    /// Runs `work` until it returns or this is dropped; it and all that it spawned are then
    /// dropped.
    pub(crate) fn run(
        runtime: Runtime,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let run = async {
            tokio::select! {
                () = work => {}
                _ = stopped => {}
            }
        };
        let thread = std::thread::Builder::new()
            .name("pubsub-server".to_owned())
            .spawn(move || runtime.block_on(run))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            // A second panic would hide the first one.
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the server's thread panicked"
            );
        }
    }
}
