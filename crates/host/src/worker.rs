//! The worker process: it does one job after another, until its daemon is gone.

use std::collections::BTreeSet;
use std::process::ExitCode;

use model::Holder;
use model::shown::escaped;
use rustix::fd::AsFd;
use rustix::io::Errno;

use crate::device_lock::Locks;
use crate::root::Root;
use crate::worker_pool::protocol::{self, Answer, Job, LIMIT, Outcome, Request};
use crate::{as_found, block, detail, fabric, gpu_modes, health, holders, problem, step, sys};

/// The most bytes of holders in an answer.
const ROOM: usize = LIMIT - (4 << 10);

/// The body of `handover worker`: call it before anything else is set up, and exit with the result.
///
/// The worker outlives its daemon until its job is done: it has its own session and ignores the signals that end a
/// service.
#[must_use]
#[allow(clippy::disallowed_macros, reason = "for a person who starts it by mistake")]
pub fn main() -> ExitCode {
    sys::close_inherited();
    let prepared = sys::ignore_ending_signals();
    // It fails only for a group leader, when a person typed the command; then it does not matter.
    let _ = rustix::process::setsid();
    let _ = rustix::thread::set_name(c"handover-worker");
    match prepared.map_err(|error| error.to_string()).and_then(|()| serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("only Handover itself can start `worker`: {}", escaped(&reason));
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
        // Released before the answer is sent: the receiver may take the lock at once.
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
        Job::Recall(address) => as_found::read(&root, *address).map(Answer::Found),
        Job::FindHolders(addresses) => {
            holders::find(&root, addresses).map(|found| Answer::Holders(fitting(found, ROOM)))
        }
        Job::ReadDetail(requests) => {
            let read = |request: &_| detail::read(&root, *request);
            Ok(Answer::Detail(requests.iter().map(read).collect()))
        }
        Job::Check { address, link } => health::check(&root, *address, *link).map(Answer::Checked),
        Job::ReadVf { parent, index } => step::vf_settings(&root, *parent, *index).map(Answer::Vf),
        Job::ReadFabric => fabric::read(&root).map(Answer::Fabric),
        Job::ReadModes(address) => Ok(Answer::Modes(gpu_modes::read(&root, *address))),
        Job::ExamineBlock(device) => block::examine(&root, device).map(Answer::Block),
    }
}

/// Truncates the holders to `room` bytes, but keeps one holder per function and mediated device first: a device without
/// any would look free.
fn fitting(holders: Vec<Holder>, room: usize) -> Vec<Holder> {
    let mut named = BTreeSet::new();
    let (first, others): (Vec<_>, Vec<_>) =
        holders.into_iter().partition(|holder| named.insert((holder.address, holder.mdev)));
    let mut left = room;
    let mut fits = |holder: &Holder| {
        let length = serde_json::to_vec(holder).map_or(room, |bytes| bytes.len() + 1);
        let fits = length <= left;
        left = left.saturating_sub(length);
        fits
    };
    first.into_iter().chain(others).take_while(|holder| fits(holder)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_is_named_before_one_is_named_twice() {
        let holder = |slot: u8, pid: u32| Holder {
            address: format!("0000:00:{slot:02x}.0").parse().unwrap(),
            kind: model::HolderKind::Process,
            pid: Some(pid),
            started: Some(1),
            program: Some("qemu".into()),
            user: "qemu".into(),
            by: "/dev/vfio/1".into(),
            mdev: None,
            interface: None,
        };
        let all: Vec<Holder> = (1..=8)
            .flat_map(|slot| (0..100).map(move |pid| (slot, pid)))
            .map(|(s, p)| holder(s, p))
            .collect();
        assert_eq!(fitting(all.clone(), 1 << 20).len(), 800);
        let some = fitting(all, 1500);
        let functions: BTreeSet<_> = some.iter().map(|holder| holder.address).collect();
        assert_eq!(functions.len(), 8);
        assert!(serde_json::to_vec(&some).unwrap().len() <= 1500);
    }
}
