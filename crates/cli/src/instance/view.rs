//! `handover instance view`: the guest's screen in a viewer of VNC or SPICE.
//!
//! The viewer connects to a socket of this process, which passes each connection on to the daemon. So the screen has no port
//! of its own: everyone who may use the daemon can see it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use api::Instance as Machine;
use api::client::{Client, Message, Receiver, Sender, segment};
use clap::Args;
use model::{Code, Refusal};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::access;
use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::{terminal, values};

/// The size of a read from a viewer, in bytes.
const CHUNK: usize = 16 << 10;

/// Look at the guest's screen
#[derive(Debug, Args)]
#[command(after_help = "\
Starts vncviewer (TigerVNC) for VNC, remote-viewer (virt-viewer) for SPICE, and ends with it. Without a desktop, or with \
--no-viewer, it says where a viewer can connect, and ends with Ctrl-C. From another computer: \
`ssh -L 5900:SOCKET HOST`, and connect the viewer to localhost:5900.")]
pub struct View {
    /// Name or id of the instance, as `handover instance list` shows it
    instance: String,
    /// Start no viewer
    #[arg(long)]
    no_viewer: bool,
    /// Show how viewers reach the screen by its address: password and, for SPICE, certificate
    #[arg(long, conflicts_with_all = ["no_viewer", "listen", "viewer_file"])]
    access: bool,
    /// Print the same as a file for remote-viewer (`remote-viewer FILE`); it has the password
    #[arg(long, conflicts_with_all = ["no_viewer", "listen", "json"])]
    viewer_file: bool,
    /// Listen on this address for viewers, such as 127.0.0.1:5900; without a password: everyone who can connect to it sees the screen
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = values::listen_address)]
    listen: Option<SocketAddr>,
}

impl View {
    pub fn run(self, connection: &Connection) -> Done {
        let what = format!("look at {}", self.instance);
        if self.access || self.viewer_file {
            return access::run(connection, &self.instance, self.viewer_file);
        }
        connection.talk(async |client| self.serve(client).await).map_err(Failure::to(what))
    }

    async fn serve(self, client: Client) -> Result<(), Refusal> {
        let path = format!("/instances/{}", segment(&self.instance));
        let machine: Machine = client.get(&path).await?;
        let protocol = protocol(&machine)?;
        if !matches!(machine.state.as_str(), "Running" | "Paused") {
            return Err(Refusal::new(
                Code::InvalidState,
                format!("{} does not run: it is {}", machine.name, machine.state),
                format!("`handover instance start {}` starts it", machine.name),
            ));
        }
        let door = Door::open(self.listen, protocol).await?;
        let at = door.at(protocol);
        if self.listen.is_some_and(|address| !address.ip().is_loopback()) {
            terminal::note(
                "note: this address has no password and no encryption: everyone who can connect to it can see and control the guest",
            );
        }
        let viewer = if self.no_viewer { None } else { start(protocol, &at) };
        if viewer.is_none() {
            let program = if protocol == "spice" { "remote-viewer" } else { "vncviewer" };
            terminal::note(&format!(
                "connect a viewer of {protocol} to {at}, such as `{program} {at}`; Ctrl-C ends this"
            ));
        }
        let ended = async {
            let closed = async {
                match viewer {
                    Some(mut viewer) => drop(viewer.wait().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = closed => {}
                () = interrupted() => {}
            }
        };
        door.pass_on(Arc::new(client), format!("{path}/display"), ended).await
    }
}

/// The protocol of the machine's screen.
fn protocol(machine: &Machine) -> Result<&str, Refusal> {
    let protocol = machine.display.as_ref().and_then(|display| display.protocol.as_deref());
    protocol.ok_or_else(|| {
        Refusal::new(
            Code::InvalidState,
            format!("the instance {} has no screen", machine.name),
            format!(
                "`handover instance set {} --display vnc` gives it one while it is stopped; `handover instance console` needs none",
                machine.name
            ),
        )
    })
}

/// Where viewers connect.
enum Door {
    /// A socket in a directory of this user's, which is removed at the end.
    Unix {
        listener: UnixListener,
        dir: tempfile::TempDir,
    },
    Tcp {
        listener: TcpListener,
        address: SocketAddr,
    },
}

impl Door {
    async fn open(address: Option<SocketAddr>, protocol: &str) -> Result<Self, Refusal> {
        let opened: io::Result<Self> = match address {
            Some(address) => match TcpListener::bind(address).await {
                Ok(listener) => {
                    Ok(Self::Tcp { address: listener.local_addr().unwrap_or(address), listener })
                }
                Err(error) => Err(error),
            },
            None => tempfile::Builder::new().prefix("handover-").tempdir().and_then(|dir| {
                let listener = UnixListener::bind(socket(dir.path(), protocol))?;
                Ok(Self::Unix { listener, dir })
            }),
        };
        opened.map_err(|error| {
            Refusal::new(
                Code::Internal,
                format!("cannot listen for viewers: {error}"),
                "choose another address with --listen",
            )
        })
    }

    /// Where viewers connect, as they take it.
    fn at(&self, protocol: &str) -> String {
        match self {
            Self::Tcp { address, .. } => format!("{protocol}://{address}"),
            Self::Unix { dir, .. } => socket(dir.path(), protocol).display().to_string(),
        }
    }

    /// Passes connections on until `end`.
    async fn pass_on(
        self,
        client: Arc<Client>,
        path: String,
        end: impl Future<Output = ()>,
    ) -> Result<(), Refusal> {
        let mut viewers: JoinSet<Result<String, Refusal>> = JoinSet::new();
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return Ok(()),
                Some(Ok(passed)) = viewers.join_next() => match passed {
                    Ok(reason) if reason.is_empty() => {}
                    Ok(reason) => terminal::note(&format!("disconnected: {reason}")),
                    // The others go on.
                    Err(refusal) => terminal::note(&format!("a viewer was not connected: {}", refusal.message)),
                },
                accepted = self.accept() => {
                    let (output, input) = accepted.map_err(|error| lost(&error))?;
                    let (client, path) = (Arc::clone(&client), path.clone());
                    viewers.spawn(async move {
                        let (sender, receiver) = client.socket(&path).await?;
                        pass(output, input, sender, receiver).await
                    });
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<(FromViewer, ToViewer)> {
        Ok(match self {
            Self::Unix { listener, .. } => {
                let (from, to) = listener.accept().await?.0.into_split();
                (Box::new(from), Box::new(to))
            }
            Self::Tcp { listener, .. } => {
                let (from, to) = listener.accept().await?.0.into_split();
                (Box::new(from), Box::new(to))
            }
        })
    }
}

type FromViewer = Box<dyn AsyncRead + Send + Unpin>;
type ToViewer = Box<dyn AsyncWrite + Send + Unpin>;

fn socket(dir: &Path, protocol: &str) -> PathBuf {
    dir.join(protocol)
}

/// Passes bytes on until one side ends. Returns the daemon's reason.
async fn pass(
    mut from: FromViewer,
    mut to: ToViewer,
    mut sender: Sender,
    mut receiver: Receiver,
) -> Result<String, Refusal> {
    let mut chunk = vec![0; CHUNK];
    loop {
        tokio::select! {
            read = from.read(&mut chunk) => match read {
                Ok(length) if length > 0 => {
                    let bytes = chunk.get(..length).unwrap_or_default().to_vec();
                    sender.send(bytes.into()).await?;
                }
                _ => {
                    sender.close().await;
                    return Ok(String::new());
                }
            },
            message = receiver.next() => match message? {
                Message::Bytes(bytes) => {
                    if to.write_all(&bytes).await.is_err() {
                        return Ok(String::new());
                    }
                }
                Message::Text(_) => {}
                Message::Closed(reason) => return Ok(reason),
            },
        }
    }
}

/// Starts a viewer, if this is a desktop that has one.
fn start(protocol: &str, at: &str) -> Option<tokio::process::Child> {
    let is_desktop =
        ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some());
    let (program, argument) = match protocol {
        "spice" if at.starts_with('/') => ("remote-viewer", format!("spice+unix://{at}")),
        "spice" => ("remote-viewer", at.to_owned()),
        // TigerVNC's takes a socket's path, and HOST::PORT.
        _ => (
            "vncviewer",
            at.trim_start_matches("vnc://").replacen(':', "::", usize::from(!at.starts_with('/'))),
        ),
    };
    let viewer = || {
        let mut command = Command::new(program);
        command.arg(argument).stdin(Stdio::null()).kill_on_drop(true).spawn()
    };
    is_desktop.then(viewer)?.ok()
}

/// Returns when this process is asked to end, so that the socket is removed before.
async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

fn lost(error: &io::Error) -> Refusal {
    Refusal::new(Code::Internal, format!("cannot accept a viewer: {error}"), "start it again")
}
