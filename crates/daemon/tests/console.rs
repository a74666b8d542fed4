//! The console of an instance, by a WebSocket. The simulated guest repeats what it is sent.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use api::client::{Client, Endpoint, Message, Receiver};
use model::Code;
use serde_json::json;
use support::Daemon;

/// Runs a conversation with the daemon over its unix socket.
fn talk(daemon: &Daemon, talk: impl AsyncFnOnce(Client)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(Endpoint::Unix(daemon.socket()), None);
    runtime.block_on(talk(client));
}

/// Reads until the text was received.
async fn expect(receiver: &mut Receiver, text: &str) {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(text) {
        match receiver.next().await.unwrap() {
            Message::Bytes(bytes) => seen.extend_from_slice(&bytes),
            Message::Text(text) => panic!("a text: {text}"),
            Message::Closed(reason) => panic!("closed: {reason}"),
        }
    }
}

/// The reason with which the daemon closes.
async fn end(receiver: &mut Receiver) -> String {
    loop {
        if let Message::Closed(reason) = receiver.next().await.unwrap() {
            return reason;
        }
    }
}

#[test]
fn a_console_passes_bytes_both_ways_to_one_client() {
    let daemon = Daemon::start();
    daemon.import("vm");
    let body = json!({ "name": "dev", "image": "vm", "size": "1GB", "vcpus": 1 });
    assert_eq!(daemon.post("/instances", &body).status, 201);
    talk(&daemon, async |client| {
        let path = "/instances/dev/console";
        let (mut sender, mut receiver) = client.socket(path).await.unwrap();
        sender.send("ls\r\u{3}".into()).await.unwrap();
        expect(&mut receiver, "ls\r\u{3}").await;

        let refused = client.socket(path).await.unwrap_err();
        assert_eq!(refused.code, Code::InUse, "{refused}");
        let (mut second, mut received) =
            client.socket(&format!("{path}?force=true")).await.unwrap();
        assert_eq!(end(&mut receiver).await, "another client took the console");
        second.send("mine".into()).await.unwrap();
        expect(&mut received, "mine").await;
        second.close().await;
        end(&mut received).await;

        // It is free again as soon as the daemon has seen the end.
        let mut tries = 0;
        let (_, mut receiver) = loop {
            match client.socket(path).await {
                Ok(socket) => break socket,
                Err(refused) => assert_eq!(refused.code, Code::InUse, "{refused}"),
            }
            tries += 1;
            assert!(tries < 100, "the console stays taken");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        client.post_quietly("/instances/dev/stop", None::<&()>).await.unwrap();
        assert_eq!(end(&mut receiver).await, "the machine has ended");
        let refused = client.socket(path).await.unwrap_err();
        assert_eq!(refused.code, Code::InvalidState, "{refused}");
        let refused = client.socket("/instances/none/console").await.unwrap_err();
        assert_eq!(refused.code, Code::NotFound, "{refused}");
    });
}

#[test]
fn a_console_needs_a_websocket() {
    let daemon = Daemon::start();
    daemon.import("vm");
    let body = json!({ "name": "dev", "image": "vm", "size": "1GB", "vcpus": 1 });
    assert_eq!(daemon.post("/instances", &body).status, 201);
    let answer = daemon.get("/instances/dev/console");
    assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("invalid_request")));
}
