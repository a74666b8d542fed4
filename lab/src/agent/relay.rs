//! Lets other programs on the host use a running lab's agent: they connect to a unix socket and use the agent's
//! protocol.

use std::{
    collections::HashMap,
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex, PoisonError, mpsc::Sender},
    thread,
};

use anyhow::Result;

use super::{
    client::{Client, Event, Input, Session},
    frame::{Frame, Kind, VERSION},
};

/// Serves connections until the listener fails. A frame of kind `Down` is forwarded to `down`.
pub fn serve(listener: &UnixListener, agent: &Client, down: &Sender<()>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        let (agent, down) = (agent.clone(), down.clone());
        thread::spawn(move || {
            let inputs = Mutex::default();
            // When a connection ends, its commands are killed.
            let _ = connection(stream, &agent, &down, &inputs);
            for (_, input) in inputs.into_inner().unwrap_or_else(PoisonError::into_inner) {
                let _ = input.kill();
            }
        });
    }
}

fn connection(
    stream: UnixStream,
    agent: &Client,
    down: &Sender<()>,
    inputs: &Mutex<HashMap<u32, Input>>,
) -> Result<()> {
    let to = Arc::new(Mutex::new(stream.try_clone()?));
    send(&to, Kind::Hello, 0, VERSION.to_le_bytes().to_vec());
    let mut from = stream;
    loop {
        let frame = Frame::read(&mut from)?;
        let mut inputs = inputs.lock().unwrap_or_else(PoisonError::into_inner);
        match frame.kind {
            Kind::Start => match agent.start(&serde_json::from_slice(&frame.data)?) {
                Ok(session) => {
                    inputs.insert(frame.channel, session.input());
                    let to = Arc::clone(&to);
                    thread::spawn(move || forward(session, frame.channel, &to));
                }
                Err(error) => send(&to, Kind::Failed, frame.channel, format!("{error:#}")),
            },
            Kind::Down => down.send(())?,
            kind => {
                if let Some(input) = inputs.get(&frame.channel) {
                    match kind {
                        Kind::Input => input.write(&frame.data)?,
                        Kind::InputEnd => input.end()?,
                        _ => input.kill()?,
                    }
                }
            }
        }
    }
}

/// Forwards a session's events, with the caller's channel number.
fn forward(mut session: Session, channel: u32, to: &Mutex<UnixStream>) {
    loop {
        match session.next(None) {
            Ok(Event::Output(data)) => send(to, Kind::Output, channel, data),
            Ok(Event::Error(data)) => send(to, Kind::Error, channel, data),
            Ok(Event::Exit(code)) => return send(to, Kind::Exit, channel, code.to_le_bytes()),
            Ok(Event::Timeout) => {}
            Ok(Event::Gone) => return send(to, Kind::Failed, channel, "L1 is gone"),
            Err(error) => return send(to, Kind::Failed, channel, format!("{error:#}")),
        }
    }
}

fn send(to: &Mutex<UnixStream>, kind: Kind, channel: u32, data: impl Into<Vec<u8>>) {
    let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
    // Fails if the caller has disconnected; ignored.
    let _ = Frame::new(kind, channel, data).write(&mut *to);
}
