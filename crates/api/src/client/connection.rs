//! A request over its own connection.

use std::io;
use std::path::Path;

use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use model::{Code, Refusal};
use tokio::net::{TcpStream, UnixStream};

use super::Endpoint;

/// Connects, sends the request, and waits for the head of the answer.
pub async fn exchange<B>(
    endpoint: &Endpoint,
    request: Request<B>,
) -> Result<Response<Incoming>, Refusal>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match endpoint {
        Endpoint::Unix(path) => match UnixStream::connect(path).await {
            Ok(stream) => over(TokioIo::new(stream), request, endpoint).await,
            Err(error) => Err(no_socket(path, &error)),
        },
        Endpoint::Tcp(authority) => match TcpStream::connect(authority.as_str()).await {
            Ok(stream) => over(TokioIo::new(stream), request, endpoint).await,
            Err(error) => Err(Refusal::new(
                Code::DaemonUnreachable,
                format!("no daemon answers at {endpoint}: {error}"),
                "start it: handover serve --listen ADDRESS:PORT --token-file FILE",
            )),
        },
    }
}

async fn over<B, I>(
    io: I,
    request: Request<B>,
    endpoint: &Endpoint,
) -> Result<Response<Incoming>, Refusal>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let broken = |error: hyper::Error| {
        Refusal::new(
            Code::DaemonUnreachable,
            format!(
                "the connection to {endpoint} was lost: {error}; the request may have been carried out"
            ),
            "check the daemon (systemctl status handover) and its log (journalctl -u handover); when it runs again, it \
             finishes or rolls back what was interrupted: `handover claims` and `handover instance list` show the result",
        )
    };
    let (mut sender, connection) = http1::handshake(io).await.map_err(broken)?;
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.map_err(broken)
}

fn no_socket(path: &Path, error: &io::Error) -> Refusal {
    let path = path.display();
    let start = "start it: systemctl start handover, or handover serve; `systemctl status handover` shows whether it is \
                 starting already";
    let (reason, remedy) = match error.kind() {
        io::ErrorKind::NotFound => (format!("no daemon is running: no socket {path}"), start),
        io::ErrorKind::ConnectionRefused => {
            (format!("no daemon is running: no process listens on the socket {path}"), start)
        }
        io::ErrorKind::PermissionDenied => {
            return Refusal::new(
                Code::Forbidden,
                format!("this user may not open the daemon's socket {path}"),
                "run the command with sudo, or add yourself to the group handover (equivalent to root): \
                 `sudo usermod -aG handover $USER`, then log in again",
            );
        }
        _ => (format!("cannot connect to the daemon's socket {path}: {error}"), start),
    };
    Refusal::new(Code::DaemonUnreachable, reason, remedy)
}
