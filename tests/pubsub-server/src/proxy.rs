//! A TCP proxy for faults below HTTP. It knows nothing of what it carries.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::background::{self, BACKLOG, Background};

/// Bytes moved at a time.
const BUFFER: usize = 64 << 10;
/// Modes that wait to be put in force: more than threads that set one at the same time.
const COMMANDS: usize = 16;
/// What an HTTP/1.1 server that knows no HTTP/2 answers to it.
const HTTP1_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What the proxy does with connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Connects them with the server.
    Forward,
    /// Holds them, old and new, and moves no byte. `Forward` makes them go on.
    Freeze,
    /// Moves what clients send, and nothing that the server answers. `Forward` makes it go on.
    FreezeAnswers,
    /// Refuses new ones, and resets old ones.
    Refuse,
    /// Accepts new ones and resets them; old ones too.
    Reset,
    /// Accepts new ones and closes them; old ones too.
    Close,
    /// Answers 400 in HTTP/1.1 to whatever new ones send, and closes them; old ones are closed.
    Http1,
}

/// A running proxy. Its port stays the same in every mode. Dropping it ends all connections.
pub struct Proxy {
    port: u16,
    accepted: Arc<AtomicU64>,
    commands: mpsc::Sender<(Mode, SyncSender<()>)>,
    _background: Background,
}

impl Proxy {
    /// Starts a proxy on a free port of 127.0.0.1. It forwards to this port there.
    pub fn start(target_port: u16) -> Self {
        let start = || {
            let runtime = background::runtime()?;
            let door = {
                let _entered = runtime.enter();
                Door::open(background::socket_on(0)?)?
            };
            let port = door.port()?;
            let accepted = Arc::new(AtomicU64::new(0));
            let (commands, received) = mpsc::channel(COMMANDS);
            let work = run(door, target_port, accepted.clone(), received);
            let _background = Background::run(runtime, work)?;
            Ok::<_, io::Error>(Self {
                port,
                accepted,
                commands,
                _background,
            })
        };
        start().expect("a proxy needs a free port, a socket and a thread")
    }

    /// Changes what it does. It is in force when this returns.
    pub fn set(&self, mode: Mode) {
        let (done, is_done) = sync_channel(1);
        self.commands
            .try_send((mode, done))
            .expect("the proxy runs and takes commands");
        is_done.recv().expect("the proxy runs");
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens, as clients want to be told: `http://127.0.0.1:…`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Number of connections that it accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// The proxy's port: it is kept while nothing listens there.
enum Door {
    Open(TcpListener),
    /// Whoever connects is refused.
    Shut(TcpSocket),
}

impl Door {
    fn open(socket: TcpSocket) -> io::Result<Self> {
        Ok(Self::Open(socket.listen(BACKLOG)?))
    }

    fn port(&self) -> io::Result<u16> {
        match self {
            Self::Open(listener) => Ok(listener.local_addr()?.port()),
            Self::Shut(socket) => Ok(socket.local_addr()?.port()),
        }
    }

    /// Opens or shuts it. Connections that nobody accepted are reset.
    fn set(self, open: bool) -> io::Result<Self> {
        match (self, open) {
            (Self::Open(listener), false) => {
                let port = listener.local_addr()?.port();
                drop(listener);
                Ok(Self::Shut(background::socket_on(port)?))
            }
            (Self::Shut(socket), true) => Self::open(socket),
            (door, _) => Ok(door),
        }
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        match self {
            Self::Open(listener) => Ok(listener.accept().await?.0),
            Self::Shut(_) => std::future::pending().await,
        }
    }
}

async fn run(
    mut door: Door,
    target_port: u16,
    accepted: Arc<AtomicU64>,
    mut commands: mpsc::Receiver<(Mode, SyncSender<()>)>,
) {
    let (mode, modes) = watch::channel(Mode::Forward);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some((new, done)) = commands.recv() => {
                door = door.set(new != Mode::Refuse).expect("nobody else takes the port");
                mode.send_replace(new);
                // Whoever asked may be gone.
                done.send(()).ok();
            }
            Ok(client) = door.accept() => {
                accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(carry(client, target_port, modes.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection until one of its ends or the mode ends it.
async fn carry(
    mut client: TcpStream,
    target_port: u16,
    mut modes: watch::Receiver<Mode>,
) -> io::Result<()> {
    let mode = *modes
        .wait_for(|mode| *mode != Mode::Freeze)
        .await
        .map_err(io::Error::other)?;
    match mode {
        Mode::Forward | Mode::Freeze | Mode::FreezeAnswers => {
            forward(client, target_port, modes).await
        }
        Mode::Refuse | Mode::Reset => client.set_zero_linger(),
        Mode::Close => Ok(()),
        Mode::Http1 => {
            // What is not read would make the end a reset.
            let mut request = [0; 1024];
            let _length = client.read(&mut request).await?;
            client.write_all(HTTP1_ANSWER).await?;
            client.shutdown().await
        }
    }
}

/// Connects a client with the server. A reset by one of them or by the mode reaches both.
async fn forward(
    mut client: TcpStream,
    target_port: u16,
    mut modes: watch::Receiver<Mode>,
) -> io::Result<()> {
    let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, target_port)).await;
    let Ok(mut server) = connected else {
        return client.set_zero_linger();
    };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let is_reset = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let requests = pump(from_client, to_server, modes.clone(), |mode| {
            mode == Mode::Freeze
        });
        let answers = pump(from_server, to_client, modes.clone(), |mode| {
            matches!(mode, Mode::Freeze | Mode::FreezeAnswers)
        });
        let is_over =
            |mode: &Mode| !matches!(mode, Mode::Forward | Mode::Freeze | Mode::FreezeAnswers);
        tokio::select! {
            mode = modes.wait_for(is_over) => {
                mode.is_ok_and(|mode| matches!(*mode, Mode::Refuse | Mode::Reset))
            }
            moved = async { tokio::try_join!(requests, answers) } => moved.is_err(),
        }
    };
    if is_reset {
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    Ok(())
}

/// Moves bytes until the source ends, while `is_frozen` says no.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut modes: watch::Receiver<Mode>,
    is_frozen: fn(Mode) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = tokio::select! {
            // A mode that came meanwhile is looked at below.
            _ = modes.changed() => 0,
            count = from.read(&mut buffer) => match count? {
                0 => return to.shutdown().await,
                count => count,
            },
        };
        modes
            .wait_for(|mode| !is_frozen(*mode))
            .await
            .map_err(io::Error::other)?;
        to.write_all(&buffer[..count]).await?;
    }
}
