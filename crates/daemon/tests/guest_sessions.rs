//! Commands and copies in the guests of container images over REST, by a client for WebSockets. The agent is a stand-in.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use api::client::{Client, Endpoint, Message, Receiver, Sender};
use guest_protocol::message::{
    CommandState, Entry, EntryKind, FromGuest, ToGuest, Welcome, read_message, write_message,
};
use guest_protocol::{MAX_PAYLOAD, PROTOCOL_VERSION};
use model::Code;
use serde_json::{Value, json};
use support::Daemon;

fn talk<T>(daemon: &Daemon, talk: impl AsyncFnOnce(Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(Endpoint::Unix(daemon.socket()), None);
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), talk(client)).await.unwrap()
    })
}

/// What a session has said: its output, and its last text.
async fn rest(receiver: &mut Receiver) -> (Vec<u8>, Value) {
    let mut output = Vec::new();
    loop {
        match receiver.next().await.unwrap() {
            Message::Bytes(bytes) => output.extend(bytes),
            Message::Text(text) => return (output, serde_json::from_str(&text).unwrap()),
            Message::Closed(reason) => panic!("closed: {reason}"),
        }
    }
}

async fn begin(client: &Client, request: &Value) -> (Sender, Receiver) {
    let (mut sender, receiver) = client.socket("/instances/ml/exec").await.unwrap();
    sender.tell(request).await.unwrap();
    (sender, receiver)
}

fn exec(daemon: &Daemon, request: &Value) -> (String, Value) {
    let (output, end) = talk(daemon, async |client| {
        let (_sender, mut receiver) = begin(&client, request).await;
        rest(&mut receiver).await
    });
    (String::from_utf8(output).unwrap(), end)
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_command_answers_as_hypemans_clients_expect() {
    let daemon = Daemon::start();
    daemon.container("ml");
    let both = exec(&daemon, &json!({ "command": ["both"], "tty": false }));
    assert_eq!(both, ("out\nerr\n".into(), json!({ "exitCode": 3 })));
    let shown = |request: Value| exec(&daemon, &request).0;
    assert_eq!(shown(json!({ "command": ["pwd"], "cwd": "/srv" })), "/srv\n");
    assert_eq!(shown(json!({ "command": ["id"], "user": "1000:1000" })), "1000:1000\n");
    assert_eq!(shown(json!({ "command": ["env"], "env": { "A": "1" }, "unknown": 1 })), "A=1\n");
    assert_eq!(exec(&daemon, &json!({ "command": ["segfault"] })).1, json!({ "exitCode": 139 }));
    // What does not start is shown to a person, too.
    for (command, status) in [("none", 127), ("closed", 126)] {
        let (output, end) = exec(&daemon, &json!({ "command": [command] }));
        assert!(output.starts_with("Error: ") && output.ends_with("\r\n"), "{output}");
        assert_eq!(
            (&end["exitCode"], &end["error"]["code"]),
            (&json!(status), &json!("agent_refused"))
        );
    }
    for wrong in [json!({ "command": ["a\u{0}"] }), json!({ "command": "ls" }), json!(7)] {
        let (_, end) = exec(&daemon, &wrong);
        assert_eq!(end["error"]["code"], "invalid_request", "{end:#}");
    }
    // The call without a WebSocket goes on working.
    let answer = daemon.post("/instances/ml/exec", &json!({ "command": ["both"] })).expect(200);
    assert_eq!((&answer["exit_code"], &answer["stdout"]), (&json!(3), &json!("b3V0Cg==")));
}

#[test]
fn input_terminal_and_size_reach_the_command() {
    let daemon = Daemon::start();
    daemon.container("ml");
    talk(&daemon, async |client| {
        let (mut sender, mut receiver) =
            begin(&client, &json!({ "command": ["cat"], "separate": true })).await;
        sender.send("one".into()).await.unwrap();
        assert_eq!(receiver.next().await.unwrap(), Message::Bytes("\u{1}one".into()));
        sender.tell(&json!({ "end_input": true })).await.unwrap();
        assert_eq!(rest(&mut receiver).await, (vec![], json!({ "exitCode": 0 })));
        let asked = json!({ "command": ["size"], "tty": true, "rows": 30, "cols": 100 });
        let (mut sender, mut receiver) = begin(&client, &asked).await;
        assert_eq!(receiver.next().await.unwrap(), Message::Bytes("30 100\n".into()));
        sender.tell(&json!({ "resize": { "rows": 40, "cols": 120 } })).await.unwrap();
        assert_eq!(receiver.next().await.unwrap(), Message::Bytes("40 120\n".into()));
    });
}

#[test]
fn a_client_that_goes_hangs_the_command_up() {
    let daemon = Daemon::start();
    let guest = daemon.container("ml");
    talk(&daemon, async |client| {
        let (mut sender, mut receiver) = begin(&client, &json!({ "command": ["cat"] })).await;
        sender.send("runs".into()).await.unwrap();
        assert_eq!(receiver.next().await.unwrap(), Message::Bytes("runs".into()));
    });
    wait("the command goes on", || guest.hung_up() == 1);
    // Also one that reads nothing of an endless output.
    talk(&daemon, async |client| {
        let session = begin(&client, &json!({ "command": ["yes"] })).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(session);
    });
    wait("the command goes on", || guest.hung_up() == 2);
    // A command that takes too long is killed.
    let started = Instant::now();
    let (_, end) = exec(&daemon, &json!({ "command": ["sleep"], "timeout": 1 }));
    assert_eq!(end, json!({ "exitCode": 124, "timed_out": true }));
    let (_, end) = exec(&daemon, &json!({ "command": ["yes"], "timeout": 1 }));
    assert_eq!(end, json!({ "exitCode": 124, "timed_out": true }));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_command_does_not_start_for_a_client_that_has_gone() {
    let daemon = Daemon::start();
    daemon.import_container("box");
    daemon.post("/instances", &json!({ "name": "ml", "image": "box" })).expect(201);
    talk(&daemon, async |client| {
        let waits = json!({ "command": ["sleep"], "wait_for_agent": 60 });
        let (mut sender, receiver) = begin(&client, &waits).await;
        sender.send("input".into()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop((sender, receiver));
        // Input that comes before the command has started waits for it.
        let early = json!({ "command": ["cat"], "wait_for_agent": 60 });
        let (mut sender, mut receiver) = begin(&client, &early).await;
        sender.send("early".into()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let guest = sim::SimGuest::default();
        let serves = guest.clone();
        daemon.launcher.set_vsock_guest(move |stream| serves.serve(stream));
        assert_eq!(receiver.next().await.unwrap(), Message::Bytes("early".into()));
        // The one that has gone would have been tried in this time, and hung up.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(guest.hung_up(), 0);
    });
}

#[test]
fn many_sessions_run_at_once_and_more_are_refused() {
    let daemon = Daemon::start();
    daemon.container("ml");
    talk(&daemon, async |client| {
        let mut sessions = Vec::new();
        for number in 0..32 {
            let (mut sender, mut receiver) = begin(&client, &json!({ "command": ["cat"] })).await;
            let text = format!("{number}");
            sender.send(text.clone().into()).await.unwrap();
            assert_eq!(receiver.next().await.unwrap(), Message::Bytes(text.into()));
            sessions.push((sender, receiver));
        }
        let (_sender, mut receiver) =
            begin(&client, &json!({ "command": ["true"], "separate": true })).await;
        let (_, end) = rest(&mut receiver).await;
        assert_eq!(end["error"]["code"], "too_many_requests", "{end:#}");
        drop(sessions);
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let (_sender, mut receiver) = begin(&client, &json!({ "command": ["true"] })).await;
            if rest(&mut receiver).await.1 == json!({ "exitCode": 0 }) {
                break;
            }
            assert!(Instant::now() < until, "the places do not become free");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

/// An agent that makes the handshake, reads the request, and says something.
fn hostile(daemon: &Daemon, says: impl Fn(&mut UnixStream) + Send + Sync + 'static) {
    daemon.launcher.set_vsock_guest(move |mut stream| {
        let _: Option<ToGuest> = read_message(&mut stream).unwrap_or_default();
        let state = CommandState::Running { pid: 2 };
        let welcome = Welcome { protocol: PROTOCOL_VERSION, version: "0".into(), state };
        let _ = write_message(&mut stream, &FromGuest::Welcome(welcome));
        let _: Option<ToGuest> = read_message(&mut stream).unwrap_or_default();
        says(&mut stream);
    });
}

#[test]
fn a_hostile_agent_ends_only_its_own_session() {
    let daemon = Daemon::start();
    daemon.container("ml");
    let frames: [fn(&mut UnixStream); 5] = [
        |stream| drop(stream.write_all(&[133, 0xff, 0xff, 0xff, 0xff])),
        |stream| drop(stream.write_all(&[7; 4096])),
        |stream| drop(write_message(stream, &FromGuest::Done)),
        |_| (),
        |stream| {
            let _ = write_message(stream, &FromGuest::Started);
            let _ = stream.write_all(&[133, 9, 0, 0, 0, 1]);
        },
    ];
    for says in frames {
        hostile(&daemon, says);
        let (_, end) = exec(&daemon, &json!({ "command": ["cat"], "separate": true }));
        let code = end["error"]["code"].as_str().unwrap_or_default().to_owned();
        assert!(code == "agent_lost" || code == "agent_silent", "{end:#}");
    }
    // One that answers nothing keeps its client waiting, and no one else.
    hostile(&daemon, |_| std::thread::sleep(Duration::from_secs(30)));
    talk(&daemon, async |client| {
        let (_sender, mut receiver) =
            begin(&client, &json!({ "command": ["cat"], "separate": true })).await;
        assert_eq!(daemon.get("/health").expect(200)["status"], "ok");
        let (_, end) = rest(&mut receiver).await;
        assert!(end["error"]["message"].as_str().unwrap().contains("took too long"), "{end:#}");
    });
    // Nothing listens.
    let daemon = Daemon::start();
    daemon.import_container("box");
    daemon.post("/instances", &json!({ "name": "ml", "image": "box" })).expect(201);
    let (_, end) =
        exec(&daemon, &json!({ "command": ["cat"], "wait_for_agent": 1, "separate": true }));
    assert_eq!(end["error"]["code"], "agent_silent", "{end:#}");
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    Entry { path: path.into(), kind, mode: 0o640, uid: 5, gid: 6, modified: 1_000_000_000 }
}

/// Asks for a copy and sends these messages; what the daemon says, and how many bytes of data.
fn copied(daemon: &Daemon, request: Value, then: &[Message]) -> (Vec<Value>, usize) {
    talk(daemon, async |client| {
        let (mut sender, mut receiver) = client.socket("/instances/ml/cp").await.unwrap();
        sender.tell(&request).await.unwrap();
        for message in then {
            match message {
                Message::Bytes(bytes) => sender.send(bytes.clone()).await.unwrap(),
                Message::Text(text) => {
                    let value: Value = serde_json::from_str(text).unwrap();
                    sender.tell(&value).await.unwrap();
                }
                Message::Closed(_) => return (vec![], 0),
            }
        }
        let (mut said, mut bytes) = (Vec::new(), 0);
        loop {
            match receiver.next().await.unwrap() {
                Message::Bytes(data) => bytes += data.len(),
                Message::Text(text) => {
                    let one: Value = serde_json::from_str(&text).unwrap();
                    let is_last = one["type"] == "result" || one["type"] == "error";
                    let is_last = is_last || one["final"] == true;
                    said.push(one);
                    if is_last {
                        return (said, bytes);
                    }
                }
                Message::Closed(_) => return (said, bytes),
            }
        }
    })
}

#[test]
fn files_are_copied_from_a_guest_as_hypemans_clients_do_it() {
    let daemon = Daemon::start();
    let guest = daemon.container("ml");
    guest.put(entry("/srv", EntryKind::Directory), b"");
    guest.put(entry("/srv/f", EntryKind::Stream), &[9; 100_000]);
    guest.put(entry("/srv/l", EntryKind::Link { target: "f".into() }), b"");
    let from =
        |path: &str| json!({ "direction": "from", "guest_path": path, "follow_links": false });
    let (said, bytes) = copied(&daemon, from("/srv"), &[]);
    assert_eq!(bytes, 100_000);
    let paths: Vec<&Value> = said.iter().filter_map(|one| one.get("path")).collect();
    assert_eq!(paths, ["srv", "srv/f", "srv/l"]);
    assert_eq!(said[2]["size"], 100_000);
    assert_eq!(
        (&said[2]["mode"], &said[2]["uid"], &said[2]["mtime"]),
        (&json!(0o640), &json!(5), &json!(1_000_000_000))
    );
    assert_eq!(said[4]["link_target"], "f");
    let ends: Vec<&Value> = said.iter().filter_map(|one| one.get("final")).collect();
    assert_eq!(ends, [&json!(false), &json!(false), &json!(true)]);
    let (said, _) = copied(&daemon, from("/none"), &[]);
    assert_eq!((said.len(), &said[0]["type"]), (1, &json!("error")));
}

#[test]
fn files_are_copied_to_a_guest_as_hypemans_clients_do_it() {
    let daemon = Daemon::start();
    let guest = daemon.container("ml");
    let end = Message::Text(r#"{"type":"end"}"#.into());
    let to = |path: &str, is_dir: bool| json!({ "direction": "to", "guest_path": path, "is_dir": is_dir, "mode": 0o600 });
    let data = Message::Bytes("hello".into());
    let (said, _) =
        copied(&daemon, to("/app/f", false), &[data.clone(), data.clone(), end.clone()]);
    assert_eq!(said, [json!({ "type": "result", "success": true, "bytes_written": 10 })]);
    copied(&daemon, to("/app/d", true), std::slice::from_ref(&end));
    let files = guest.files();
    assert!(files.contains(&("/app/f".into(), 0o600, b"hellohello".to_vec())), "{files:?}");
    assert!(files.contains(&("/app/d/".into(), 0o600, vec![])), "{files:?}");
    let (said, _) = copied(&daemon, to("/full/f", false), &[data.clone(), end.clone()]);
    assert_eq!((&said[0]["type"], &said[0]["success"]), (&json!("result"), &json!(false)));
    assert!(said[0]["error"].as_str().unwrap().contains("no space left"), "{said:?}");
    for wrong in [to("/a/../b", false), json!({ "direction": "up", "guest_path": "/" })] {
        let (said, _) = copied(&daemon, wrong, std::slice::from_ref(&end));
        assert_eq!(
            (&said[0]["type"], &said[0]["code"]),
            (&json!("error"), &json!("invalid_request"))
        );
    }
    // A tree in one copy, which cannot leave its directory.
    let tree = json!({ "direction": "to", "guest_path": "/t", "tree": true });
    let header = |path: &str| {
        Message::Text(json!({ "type": "header", "path": path, "mode": 0o644 }).to_string())
    };
    let (said, _) =
        copied(&daemon, tree.clone(), &[header("a"), data.clone(), header("b/c"), end.clone()]);
    assert_eq!(said[0]["bytes_written"], 5);
    let (said, _) = copied(&daemon, tree, &[header("../x")]);
    assert_eq!(said[0]["type"], "error");
    assert!(!guest.files().iter().any(|(path, ..)| path.contains("..")));
}

#[test]
fn a_guest_cannot_send_paths_that_leave_the_copy() {
    let daemon = Daemon::start();
    daemon.container("ml");
    for path in ["../x", "/etc/passwd", "a/../../x"] {
        hostile(&daemon, move |stream| {
            let entry = entry(path, EntryKind::File { size: 1 });
            let _ = write_message(stream, &FromGuest::Entry(entry));
            let _ = write_message(stream, &FromGuest::Data(vec![0; MAX_PAYLOAD]));
        });
        talk(&daemon, async |client| {
            let (mut sender, mut receiver) = client.socket("/instances/ml/cp").await.unwrap();
            sender.tell(&json!({ "direction": "from", "guest_path": "/srv" })).await.unwrap();
            let (output, said) = rest(&mut receiver).await;
            assert_eq!((output.len(), &said["type"]), (0, &json!("error")), "{said:#}");
        });
    }
}

#[test]
fn a_path_in_the_guest_is_shown() {
    let daemon = Daemon::start();
    let guest = daemon.container("ml");
    guest.put(entry("/srv/f", EntryKind::Stream), b"12");
    let stat = |query: &str| daemon.get(&format!("/instances/ml/stat?{query}"));
    let info = stat("path=%2Fsrv%2Ff").expect(200);
    let expected = json!({
        "exists": true, "is_dir": false, "is_file": true, "is_symlink": false, "mode": 0o640, "size": 2,
        "uid": 5, "gid": 6, "mtime": 1_000_000_000,
    });
    assert_eq!(info, expected);
    assert_eq!(stat("path=/none&follow_links=true").expect(200)["exists"], false);
    stat("path=/a/../b").refused(400, "invalid_request");
    stat("follow_links=true").refused(400, "invalid_request");
    daemon.get("/instances/none/stat?path=/").refused(404, "not_found");
    daemon.post("/instances/ml/stop", &json!({})).expect(200);
    stat("path=/").refused(409, "invalid_state");
    let refused = talk(&daemon, async |client| client.socket("/instances/ml/exec").await.map(drop));
    assert_eq!(refused.unwrap_err().code, Code::InvalidState);
}
