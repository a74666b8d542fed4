//! `handover instance cp`: files into a guest, or out of it.

use std::io;
use std::path::Path;
use std::time::Duration;

use api::client::{Message, Receiver, Sender, query_value, segment};
use api::{CopyDirection, CopyMessage, CopyRequest, PathInfo};
use clap::Args;
use model::shown::bytes;
use model::{Code, Refusal};
use service::local_files::{self, Keep, LocalError, Packed, Part, Source, Unpacked};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::connection::Connection;
use crate::failure::{Done, Failure};
use crate::{output, terminal};

/// How many parts wait for the other side.
const PARTS: usize = 8;
/// How long the reason of this side is waited for when a copy has failed. Who waits for a pipe has none.
const REASON: Duration = Duration::from_secs(1);

/// What reads or writes files here, in a thread.
type Work<T> = oneshot::Receiver<Result<T, LocalError>>;

/// Copy files into the guest of a container image, or out of it
#[derive(Debug, Args)]
#[command(after_help = "\
Directories are copied with all that is in them. As with `docker cp`, a copy goes into a directory that exists, else it gets the \
name that is given; SOURCE/. copies only what is in a directory. Links are copied as links, devices, pipes and sockets not at all. \
Permissions and times of files are kept. Files that come out of a guest are written below the destination only, whatever the guest \
sends, and without set-user-ID bits unless -a is given. A path with a colon that is not in a guest begins with `./` or `/`.")]
pub struct Copy {
    /// What is copied: INSTANCE:PATH, or a path of this host; - for a tar archive on standard input
    source: String,
    /// Where it is copied to: a path of this host, or INSTANCE:PATH; - for a tar archive on standard output
    destination: String,
    /// Keep owners, groups and all permissions; by default files belong to root in the guest, and to you on this host
    #[arg(short, long)]
    archive: bool,
    /// Follow a link that is the source itself
    #[arg(short = 'L', long)]
    follow_link: bool,
}

/// One end of a copy.
#[derive(Debug, PartialEq, Eq)]
enum End<'a> {
    Guest { instance: &'a str, path: &'a str },
    Here(&'a str),
}

/// Reads one end, as `docker cp` does.
fn end(text: &str) -> End<'_> {
    if text.starts_with(['/', '.', '-']) {
        return End::Here(text);
    }
    match text.split_once(':') {
        Some((instance, path)) if !instance.is_empty() && !instance.contains('/') => {
            End::Guest { instance, path }
        }
        _ => End::Here(text),
    }
}

impl Copy {
    pub fn run(self, connection: &Connection) -> Done {
        let what = format!("copy {} to {}", self.source, self.destination);
        let (entries, size) = match (end(&self.source), end(&self.destination)) {
            (End::Here(from), End::Guest { instance, path }) => {
                self.copy_in(connection, Path::new(from), instance, path)
            }
            (End::Guest { instance, path }, End::Here(to)) => {
                self.copy_out(connection, instance, path, Path::new(to))
            }
            (End::Here(_), End::Here(_)) => {
                Err(wrong("neither path is in a guest", "write INSTANCE:PATH"))
            }
            (End::Guest { .. }, End::Guest { .. }) => {
                Err(wrong("both paths are in guests", "copy to this host first"))
            }
        }
        .map_err(Failure::to(what))?;
        if self.destination != "-" {
            let files = if entries == 1 { "entry" } else { "entries" };
            output::changed(connection, &format!("Copied {entries} {files}, {}.", bytes(size)))?;
        }
        Ok(())
    }

    fn copy_in(
        &self,
        connection: &Connection,
        from: &Path,
        instance: &str,
        path: &str,
    ) -> Result<(u64, u64), Refusal> {
        let is_tar = from == Path::new("-");
        let (owners, follow) = (self.archive, self.follow_link);
        connection.talk(async |client| {
            let key = segment(instance);
            let asked =
                format!("/instances/{key}/stat?path={}&follow_links=true", query_value(path));
            let there: PathInfo = client.get(&asked).await?;
            let (guest_path, stays) = match is_tar {
                true if there.is_dir => (path.to_owned(), true),
                true => return Err(no_directory(path)),
                false => {
                    let metadata = if follow { from.metadata() } else { from.symlink_metadata() };
                    let is_dir = metadata.map_err(|error| unreadable(from, &error))?.is_dir();
                    let source = Source::of(&from.to_string_lossy(), is_dir);
                    local_files::into_guest(&source, path, &there)?
                }
            };
            let request = request(CopyDirection::To, guest_path, false);
            let (mut sender, mut receiver) = client.socket(&format!("/instances/{key}/cp")).await?;
            sender.tell(&request).await?;
            let (parts, mut ready) = mpsc::channel(PARTS);
            let from = from.to_owned();
            let packing = in_thread(move || match is_tar {
                true => local_files::pack_tar(io::stdin().lock(), owners, &parts),
                false => local_files::pack(&from, follow, owners, stays, &parts),
            });
            let size = send_all(&mut sender, &mut receiver, &mut ready).await;
            drop(ready);
            let packed: Packed = match size {
                // What went wrong on this side says more than what the daemon makes of it.
                Err(refusal) => return Err(first(packing, refusal).await),
                Ok(Some(_)) => joined(packing).await?,
                Ok(None) => {
                    return Err(first(packing, wrong("the copy broke off", "copy again")).await);
                }
            };
            for path in &packed.left_out {
                output::warning(&format!(
                    "{} is no file, directory or link, and was left out",
                    path.display()
                ));
            }
            Ok((packed.entries, size?.unwrap_or_default()))
        })
    }

    fn copy_out(
        &self,
        connection: &Connection,
        instance: &str,
        path: &str,
        to: &Path,
    ) -> Result<(u64, u64), Refusal> {
        let keep = if self.archive { Keep::All } else { Keep::Modes };
        connection.talk(async |client| {
            let request = request(CopyDirection::From, path.to_owned(), self.follow_link);
            let socket = format!("/instances/{}/cp", segment(instance));
            let (mut sender, mut receiver) = client.socket(&socket).await?;
            sender.tell(&request).await?;
            let Some(Part::Header(root)) = receive(&mut receiver).await? else {
                return Err(odd("it sent no file"));
            };
            let source = Source::of(path, root.is_dir);
            let place = match to == Path::new("-") {
                true => None,
                false => Some(local_files::from_guest(&source, to)?),
            };
            let (parts, mut ready) = mpsc::channel(PARTS);
            let unpacking = in_thread(move || match place {
                Some(place) => local_files::unpack(&place, keep, &mut ready),
                None => local_files::unpack_tar(&source.name, terminal::raw(), &mut ready),
            });
            let received = receive_all(&mut receiver, Part::Header(root), parts).await;
            match received {
                Err(refusal) => Err(first(unpacking, refusal).await),
                Ok(()) => {
                    joined(unpacking).await.map(|Unpacked { entries, bytes }| (entries, bytes))
                }
            }
        })
    }
}

fn request(direction: CopyDirection, guest_path: String, follow_links: bool) -> CopyRequest {
    let (mode, uid, gid) = (None, None, None);
    CopyRequest { direction, guest_path, is_dir: false, mode, uid, gid, follow_links, tree: true }
}

/// Sends all parts, and waits for the daemon's result: the bytes of all files. None if the parts broke off.
async fn send_all(
    sender: &mut Sender,
    receiver: &mut Receiver,
    parts: &mut mpsc::Receiver<Part>,
) -> Result<Option<u64>, Refusal> {
    let mut ended = false;
    loop {
        tokio::select! {
            message = receiver.next() => match message? {
                Message::Text(text) => return result(&text).map(Some),
                Message::Bytes(_) => return Err(odd("it sent contents")),
                Message::Closed(reason) => return Err(closed(&reason)),
            },
            part = parts.recv(), if !ended => match part {
                Some(Part::Header(header)) => sender.tell(&CopyMessage::Header(header)).await?,
                Some(Part::Data(data)) => sender.send(data.into()).await?,
                Some(Part::End) => {
                    ended = true;
                    sender.tell(&CopyMessage::End { r#final: true }).await?;
                }
                None => {
                    sender.close().await;
                    return Ok(None);
                }
            },
        }
    }
}

fn result(text: &str) -> Result<u64, Refusal> {
    match serde_json::from_str(text).map_err(|error| odd(&error.to_string()))? {
        CopyMessage::Result { success: true, bytes_written, .. } => Ok(bytes_written),
        CopyMessage::Result { error, .. } => {
            let message = error.unwrap_or_else(|| "the guest does not say why".into());
            Err(Refusal::new(Code::AgentRefused, message, "see the message"))
        }
        CopyMessage::Error(error) => Err(error.into()),
        CopyMessage::Header(_) | CopyMessage::End { .. } => Err(odd("it sent a file")),
    }
}

/// The next part that the daemon sends; none after the last one.
async fn receive(receiver: &mut Receiver) -> Result<Option<Part>, Refusal> {
    loop {
        match receiver.next().await? {
            Message::Bytes(data) => return Ok(Some(Part::Data(data.into()))),
            Message::Closed(reason) => return Err(closed(&reason)),
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(CopyMessage::Header(header)) => return Ok(Some(Part::Header(header))),
                Ok(CopyMessage::End { r#final: true }) => return Ok(None),
                Ok(CopyMessage::End { r#final: false }) => {}
                Ok(CopyMessage::Error(error)) => return Err(error.into()),
                Ok(CopyMessage::Result { .. }) => return Err(odd("it sent a result")),
                Err(error) => return Err(odd(&error.to_string())),
            },
        }
    }
}

async fn receive_all(
    receiver: &mut Receiver,
    root: Part,
    to: mpsc::Sender<Part>,
) -> Result<(), Refusal> {
    let mut next = Some(root);
    while let Some(part) = next {
        if to.send(part).await.is_err() {
            // The other end says why.
            return Ok(());
        }
        next = receive(receiver).await?;
    }
    let _ = to.send(Part::End).await;
    Ok(())
}

/// Does work in a thread of its own. The runtime would wait for it at its end, and a read from a pipe may never return.
fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LocalError> + Send + 'static,
) -> Work<T> {
    let (done, waits) = oneshot::channel();
    std::thread::spawn(move || done.send(work()));
    waits
}

async fn joined<T>(work: Work<T>) -> Result<T, Refusal> {
    let done = work.await.map_err(|_| wrong("the copy broke off", "copy again"))?;
    done.map_err(Refusal::from)
}

/// Why a copy failed: what this side says, unless the other one had broken off.
async fn first<T>(work: Work<T>, refusal: Refusal) -> Refusal {
    match timeout(REASON, work).await {
        Ok(Ok(Err(error))) if !matches!(error, LocalError::BrokenOff) => error.into(),
        _ => refusal,
    }
}

fn wrong(message: impl Into<String>, remedy: &str) -> Refusal {
    Refusal::new(Code::InvalidRequest, message, remedy)
}

fn no_directory(path: &str) -> Refusal {
    wrong(
        format!("the guest has no directory {path:?}"),
        "a tar archive goes into a directory: make it first",
    )
}

fn unreadable(path: &Path, error: &io::Error) -> Refusal {
    wrong(format!("cannot read {}: {error}", path.display()), "check the path and its permissions")
}

fn closed(reason: &str) -> Refusal {
    let why = if reason.is_empty() { "the daemon closed the connection" } else { reason };
    wrong(format!("the copy broke off: {why}"), "copy again")
}

fn odd(why: &str) -> Refusal {
    let message = format!("the daemon's answer is not understood: {why}");
    Refusal::new(Code::Internal, message, "use the same version of both")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_in_a_guest_if_it_names_one() {
        assert_eq!(end("ml:/etc"), End::Guest { instance: "ml", path: "/etc" });
        for here in ["/a:b", "./a:b", "-", "a", "a/b:c", ":x", "../a:b"] {
            assert_eq!(end(here), End::Here(here));
        }
    }
}
