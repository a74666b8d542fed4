//! The agent: commands, files and the clock, over vsock.

use guest_protocol::message::{
    CommandState, CopyIn, CopyOut, Entry, EntryKind, ExecRequest, StatRequest, StopRequest,
    WindowSize,
};
use guest_protocol::{Agent, CommandResult, ExecEvent, ProtocolError};

use crate::machine::{Place, script};
use crate::vsock::Vsock;

const PORT: u32 = 2222;
const TOKEN: &str = "a token of this start";

fn request(text: &str) -> ExecRequest {
    let argv = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    ExecRequest { argv, ..ExecRequest::default() }
}

/// Runs a command: its output, its errors, and how it ended.
fn run(vsock: &Vsock, request: &ExecRequest, input: &[u8]) -> (String, String, CommandResult) {
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let agent = vsock.agent(PORT, TOKEN).unwrap();
    let result = agent.run(request, input, |event| match event {
        ExecEvent::Stdout(bytes) => output.extend(bytes),
        ExecEvent::Stderr(bytes) => errors.extend(bytes),
        ExecEvent::Exited(_) => {}
    });
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (text(output), text(errors), result.unwrap())
}

#[test]
fn the_host_runs_commands_and_copies_files() {
    let Some(place) = Place::new() else { return };
    let Some(vsock) = Vsock::new(&place.path("")) else { return };
    let mut config = script("trap 'echo stopping; exit 7' USR1; while :; do sleep 0.05; done");
    config.user = "app".to_owned();
    config.env = vec!["A=1".to_owned()];
    config.stop_signal = "SIGUSR1".to_owned();
    config.agent = Some(Agent { port: PORT, token: TOKEN.to_owned() });
    let machine = place.start(&config, &vsock.options());

    only_the_token_opens(&vsock);
    commands(&vsock);
    refusals(&vsock);
    terminals(&vsock);
    many_at_once(&vsock);
    files(&vsock);
    clock(&vsock);

    vsock.agent(PORT, TOKEN).unwrap().stop(&StopRequest::default()).unwrap();
    assert!(machine.end().expect(7).contains("stopping"));
}

fn only_the_token_opens(vsock: &Vsock) {
    let error = vsock.agent(PORT, "another token").unwrap_err();
    assert!(matches!(&error, ProtocolError::Refused { code, .. } if code == "denied"), "{error}");
    let mut agent = vsock.agent(PORT, TOKEN).unwrap();
    assert_eq!(agent.welcome().version, guest_protocol::GUEST_VERSION);
    while agent.state().unwrap() == CommandState::Starting {}
    assert!(matches!(agent.state().unwrap(), CommandState::Running { .. }));
}

fn commands(vsock: &Vsock) {
    let mut asked = request("id -un; id -Gn; echo $A$B $HOME; pwd; cat; echo no >&2; exit 5");
    asked.env = vec!["B=2".to_owned()];
    asked.working_dir = "/srv".to_owned();
    let (output, errors, result) = run(vsock, &asked, b"input");
    assert_eq!(output, "app\napp video\n12 /home/app\n/srv\ninput");
    assert_eq!((errors.as_str(), result), ("no\n", CommandResult::exited(5)));
    asked = request("id -u; kill -9 $$");
    asked.user = Some("0:44".to_owned());
    let (output, _, result) = run(vsock, &asked, b"");
    assert_eq!((output.as_str(), result), ("0\n", CommandResult::signaled(9)));
    // More than any buffer holds.
    let (output, _, _) = run(vsock, &request("seq 1 100000"), b"");
    assert_eq!(output.lines().count(), 100_000);
    assert!(output.ends_with("\n100000\n"));
    // What it leaves behind does not keep it.
    let (output, _, result) = run(vsock, &request("sleep 1000 & echo done"), b"");
    assert_eq!((output.as_str(), result), ("done\n", CommandResult::exited(0)));
}

fn refusals(vsock: &Vsock) {
    for (command, expected, named) in [
        ("nothing", "not_found", "\"nothing\""),
        ("/srv/plain", "not_executable", "permission"),
        ("/srv/no-format", "not_executable", "#!"),
        ("/srv/no-interpreter", "not_found", "interpreter"),
        ("/srv", "not_executable", "directory"),
    ] {
        let agent = vsock.agent(PORT, TOKEN).unwrap();
        let asked = ExecRequest { argv: vec![command.to_owned()], ..ExecRequest::default() };
        let Err(ProtocolError::Refused { code, message }) = agent.exec(&asked) else {
            panic!("{command} runs")
        };
        assert!(code == expected && message.contains(named), "{code} {message}");
    }
}

fn terminals(vsock: &Vsock) {
    let mut asked =
        request("trap 'stty size; exit 4' WINCH; tty; stty size; while :; do sleep 0.05; done");
    asked.terminal = Some(WindowSize { rows: 30, columns: 100 });
    let (mut reader, mut writer) = vsock.agent(PORT, TOKEN).unwrap().exec(&asked).unwrap();
    let (mut seen, mut resized) = (String::new(), false);
    let result = loop {
        match reader.next_event().unwrap() {
            ExecEvent::Stdout(bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
            ExecEvent::Stderr(_) => panic!("a terminal has one direction"),
            ExecEvent::Exited(result) => break result,
        }
        if !resized && seen.contains("30 100") {
            writer.resize(WindowSize { rows: 50, columns: 200 }).unwrap();
            resized = true;
        }
    };
    assert_eq!(result, CommandResult::exited(4));
    assert!(seen.contains("/dev/pts/") && seen.contains("50 200"), "{seen}");
}

/// A session that sends a signal, beside twenty others, and one that goes away.
fn many_at_once(vsock: &Vsock) {
    let all: Vec<_> = (0..20)
        .map(|_| vsock.agent(PORT, TOKEN).unwrap().exec(&request("cat; exit 6")).unwrap())
        .collect();
    for (number, (mut reader, mut writer)) in all.into_iter().enumerate() {
        let text = number.to_string();
        writer.input(text.as_bytes()).unwrap();
        assert_eq!(reader.next_event().unwrap(), ExecEvent::Stdout(text.into_bytes()));
        if number == 0 {
            writer.signal(15).unwrap();
            let ended = reader.next_event().unwrap();
            assert_eq!(ended, ExecEvent::Exited(CommandResult::signaled(15)));
        } else {
            writer.end_input().unwrap();
            let ended = reader.next_event().unwrap();
            assert_eq!(ended, ExecEvent::Exited(CommandResult::exited(6)));
        }
    }
    drop(vsock.agent(PORT, TOKEN).unwrap().exec(&request("exec sleep 1234")).unwrap());
    // It has input that the command never reads: the session ends all the same.
    let (reader, mut writer) =
        vsock.agent(PORT, TOKEN).unwrap().exec(&request("exec sleep 1234")).unwrap();
    writer.input(&[7; 100_000]).unwrap();
    drop((reader, writer));
    let gone = "for n in 1 2 3 4 5 6 7 8 9; do ps | grep -q '[s]leep 1234' || exit 0; sleep 0.3; done; exit 1";
    assert_eq!(run(vsock, &request(gone), b"").2, CommandResult::exited(0));
}

fn files(vsock: &Vsock) {
    let entry = |path: &str, kind: EntryKind| Entry {
        path: path.to_owned(),
        kind,
        mode: 0o640,
        uid: 7,
        gid: 8,
        modified: 1_000_000_000,
    };
    let contents: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let size = contents.len() as u64;
    let mut agent = vsock.agent(PORT, TOKEN).unwrap();
    let mut copy = agent.copy_in(&CopyIn { path: "/srv/in".to_owned() }).unwrap();
    copy.entry(&Entry { mode: 0o750, ..entry("", EntryKind::Directory) }).unwrap();
    let file = entry("sub/file", EntryKind::File { size });
    copy.file(&file, &mut contents.as_slice()).unwrap();
    let link = entry("link", EntryKind::Link { target: "sub/file".to_owned() });
    copy.entry(&link).unwrap();
    copy.file(&entry("empty", EntryKind::File { size: 0 }), &mut std::io::empty()).unwrap();
    copy.finish().unwrap();
    // A file whose size is not said before, also an empty one.
    let mut copy = agent.copy_in(&CopyIn { path: "/srv/in".to_owned() }).unwrap();
    copy.entry(&entry("sub/stream", EntryKind::Stream)).unwrap();
    copy.data(&contents).unwrap();
    copy.end_of_file().unwrap();
    copy.entry(&entry("sub/nothing", EntryKind::Stream)).unwrap();
    copy.end_of_file().unwrap();
    copy.finish().unwrap();
    let compared = "cmp /srv/in/sub/stream /srv/in/sub/file && test ! -s /srv/in/sub/nothing && rm /srv/in/sub/stream /srv/in/sub/nothing";
    assert_eq!(run(vsock, &request(compared), b"").2, CommandResult::exited(0));
    // A mount of its own is written in place; a directory cannot become a file, and the session goes on.
    let mut copy = agent.copy_in(&CopyIn { path: "/etc/hosts".to_owned() }).unwrap();
    copy.file(&entry("", EntryKind::File { size: 2 }), &mut &b"1\n"[..]).unwrap();
    copy.finish().unwrap();
    let mut copy = agent.copy_in(&CopyIn { path: "/srv/in".to_owned() }).unwrap();
    copy.file(&entry("sub", EntryKind::File { size }), &mut contents.as_slice()).unwrap();
    let error = copy.finish().unwrap_err();
    assert!(matches!(&error, ProtocolError::Refused { code, .. } if code == "failed"), "{error}");

    let stat = |path: &str| StatRequest { path: path.to_owned(), follow_links: false };
    let info = agent.stat(&stat("/srv/in/sub/file")).unwrap();
    assert_eq!((info.mode, info.uid, info.gid, info.size), (0o100_640, 7, 8, size));
    assert_eq!(info.modified, 1_000_000_000);
    assert!(!agent.stat(&stat("/srv/in/nothing")).unwrap().exists);

    let mut found = Vec::new();
    let asked = CopyOut { path: "/srv/in".to_owned(), follow_links: false };
    let copied: Result<(), ProtocolError> = agent.copy_out(&asked, |entry, data| {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes)?;
        found.push((entry.path.clone(), entry.kind.clone(), entry.mode, bytes));
        Ok(())
    });
    copied.unwrap();
    let names: Vec<&str> = found.iter().map(|(path, ..)| path.as_str()).collect();
    assert_eq!(names, ["", "empty", "link", "sub", "sub/file"]);
    assert_eq!(found[2].1, EntryKind::Link { target: "sub/file".to_owned() });
    assert!(found[4].3 == contents && found[0].2 == 0o750);
    // What the host does not read is skipped.
    let skipped: Result<(), ProtocolError> = agent.copy_out(&asked, |_, _| Ok(()));
    skipped.unwrap();
}

fn clock(vsock: &Vsock) {
    let mut agent = vsock.agent(PORT, TOKEN).unwrap();
    agent.set_clock(2_000_000_000_000_000_000).unwrap();
    let (output, _, _) = run(vsock, &request("touch /tmp/now; stat -c %Y /tmp/now"), b"");
    let seconds: u64 = output.trim().parse().unwrap();
    assert!((2_000_000_000..2_000_000_100).contains(&seconds), "{seconds}");
}
