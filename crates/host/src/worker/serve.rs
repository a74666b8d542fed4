//! What a worker process does: one job after another, until its daemon is gone.

use std::process::ExitCode;

use rustix::fd::AsFd;
use rustix::io::Errno;

use super::protocol::{self, Answer, Job, Outcome, Request};
use crate::root::Root;
use crate::worker::Locks;
use crate::{detail, found, holders, problem, step, sys};

/// So many holders as an answer has room for, and more than a person reads.
const MOST_HOLDERS: usize = 64;

/// The body of `handover worker`: call it before anything else is set up, and end with what it returns.
///
/// The worker outlives its daemon until its job is done: it has a session of its own and ignores the signals that end
/// a service.
#[must_use]
pub fn main() -> ExitCode {
    sys::close_inherited();
    let prepared = sys::ignore_ending_signals();
    // It is no group leader, having just been started; where it is one (a person typed the command), nothing is lost.
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"handover-worker");
    match prepared.map_err(|error| error.to_string()).and_then(|()| serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("`worker` is started by Handover itself, not by hand: {reason}");
            ExitCode::from(2)
        }
    }
}

fn serve() -> Result<(), String> {
    let input = std::io::stdin();
    let socket = input.as_fd();
    loop {
        let received = protocol::receive(socket);
        let Some(message) = received.map_err(problem::words)? else {
            return Ok(());
        };
        let outcome = match message.value::<Request>() {
            Ok(request) => work(&request),
            Err(reason) => Err(model::HostError::Worker { step: "a job".into(), reason }),
        };
        // The lock is free before the answer is known: whoever gets the answer may take it at once.
        drop(message.lock);
        match protocol::send(socket, &outcome, None) {
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
            sent => sent.map_err(problem::words)?,
        }
    }
}

fn work(request: &Request) -> Outcome {
    if request.job == Job::Nothing {
        return Ok(Answer::Done);
    }
    let root = Root::open(&request.root).map_err(|error| model::HostError::File {
        action: "open".into(),
        path: request.root.display().to_string(),
        reason: error.to_string(),
        errno: error.raw_os_error(),
    })?;
    match &request.job {
        Job::Nothing => Ok(Answer::Done),
        Job::Perform(step) => {
            let locks = Locks::new(request.locks.clone());
            step::perform(&root, &locks, step).map(|()| Answer::Done)
        }
        Job::Observe(step) => step::observe(&root, step).map(Answer::Observed),
        Job::Recall(address) => found::read(&root, *address).map(Answer::Found),
        Job::FindHolders(addresses) => {
            let mut holders = holders::find(&root, addresses)?;
            holders.truncate(MOST_HOLDERS);
            Ok(Answer::Held(holders))
        }
        Job::ReadDetail(questions) => {
            let read = |question: &_| detail::read(&root, *question);
            Ok(Answer::Detail(questions.iter().map(read).collect()))
        }
    }
}
