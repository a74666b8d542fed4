//! Authentication: tokens, names, origins, and the CLI's client.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use api::client::{Client, Endpoint, FilePart, Upload};
use model::Code;
use serde_json::{Value, json};
use support::{Daemon, GPU};

const TOKEN: &str = "a-token-of-the-tests";

fn with(daemon: &Daemon, headers: &str) -> support::Answer {
    daemon.raw(&format!("GET /devices HTTP/1.1\r\nConnection: close\r\n{headers}\r\n"))
}

#[test]
fn by_tcp_a_token_is_needed_and_web_pages_are_refused() {
    let daemon = Daemon::on(sim::workstation(), Some(TOKEN));
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(with(&daemon, &format!("Host: localhost:80\r\n{right}")).status, 200);
    assert_eq!(with(&daemon, &format!("Host: [::1]\r\n{right}")).status, 200);
    assert_eq!(with(&daemon, &format!("Host: HV1:8080\r\n{right}")).status, 200);
    for wrong in ["", "Authorization: Bearer x\r\n", "Authorization: Basic eDp5\r\n"]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("Authorization: Bearer {TOKEN}x\r\n")])
    {
        let answer = with(&daemon, &format!("Host: localhost\r\n{wrong}"));
        answer.refused(401, "unauthorized");
    }
    for host in ["evil.example", "localhost.evil.example", "10.1.2.3", ""] {
        with(&daemon, &format!("Host: {host}\r\n{right}")).refused(403, "forbidden");
    }
    for origin in ["http://localhost", "null"] {
        let headers = format!("Host: localhost\r\nOrigin: {origin}\r\n{right}");
        with(&daemon, &headers).refused(403, "forbidden");
    }
    let health = |host| {
        daemon.raw(&format!("GET /health HTTP/1.1\r\nConnection: close\r\nHost: {host}\r\n\r\n"))
    };
    assert_eq!(health("127.0.0.1").expect(200), json!({ "status": "ok" }));
    health("evil.example").refused(403, "forbidden");
    // The socket's file mode is its access control.
    assert_eq!(daemon.get("/devices").expect(200), json!([]));
}

#[test]
fn without_a_token_web_pages_are_still_refused() {
    let daemon = Daemon::start();
    assert_eq!(with(&daemon, "Host: 127.0.0.1:1\r\n").status, 200);
    with(&daemon, "Host: evil.example\r\n").refused(403, "forbidden");
    with(&daemon, "Host: localhost\r\nOrigin: http://localhost\r\n").refused(403, "forbidden");
}

#[test]
fn the_socket_is_for_its_owner_and_group() {
    let daemon = Daemon::start();
    let metadata = std::fs::metadata(daemon.socket()).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn the_client_asks_by_socket_and_by_tcp() {
    let daemon = Daemon::on(sim::workstation(), Some(TOKEN));
    let tcp: Endpoint = format!("http://{}", daemon.address).parse().unwrap();
    let body = json!({ "pci_address": GPU, "name": "gpu0" });
    block_on(async {
        let client = Client::new(Endpoint::Unix(daemon.socket()), None);
        let made: api::Device = client.post("/devices", Some(&body)).await.unwrap();
        let named = Client::new(tcp.clone(), Some(TOKEN.into()));
        let seen: api::Device = named.get("/devices/gpu0").await.unwrap();
        assert_eq!(seen, made);
        let stranger = Client::new(tcp.clone(), None);
        let refusal = stranger.get::<Value>("/devices").await.unwrap_err();
        assert_eq!(refusal.code, Code::Unauthorized);
        client.delete("/devices/gpu0").await.unwrap();
        let gone = client.delete("/devices/gpu0").await.unwrap_err();
        assert_eq!(gone.code, Code::NotFound);
        let nobody = Client::new(Endpoint::Unix(daemon.dir.path().join("none")), None);
        let refusal = nobody.get::<Value>("/health").await.unwrap_err();
        assert_eq!(refusal.code, Code::DaemonUnreachable);
        assert!(refusal.message.contains("none") && refusal.remedy.contains("handover serve"));
    });
}

#[test]
fn files_are_uploaded_and_followed_by_events() {
    let daemon = Daemon::start();
    let disk = daemon.dir.path().join("large.raw");
    std::fs::write(&disk, vec![7; 5 << 20]).unwrap();
    let upload = |format: &str, path: &std::path::Path| Upload {
        fields: vec![("name", "uploaded".into()), ("format", format.into())],
        files: vec![FilePart { field: "disk", path: path.to_owned() }],
    };
    block_on(async {
        let client = Client::new(Endpoint::Unix(daemon.socket()), None);
        let wrong = client.upload::<api::Image>("/images", upload("vmdk", &disk)).await;
        let wrong = wrong.unwrap_err();
        assert_eq!(wrong.code, Code::InvalidRequest, "{wrong:?}");
        let missing = client.upload::<api::Image>("/images", upload("raw", "/none".as_ref())).await;
        assert_eq!(missing.unwrap_err().code, Code::InvalidRequest);
        client.upload::<api::Image>("/images", upload("raw", &disk)).await.unwrap();
    });
    daemon.until_ready("uploaded");
    let image = daemon.get("/images/uploaded").expect(200);
    assert_eq!((&image["disk_format"], &image["status"]), (&json!("raw"), &json!("ready")));
    let staging = std::fs::read_dir(daemon.dir.path().join("state/staging")).unwrap();
    assert_eq!(staging.count(), 0, "uploads were left behind");

    block_on(async {
        let client = Client::new(Endpoint::Unix(daemon.socket()), None);
        let mut events = client.lines("/events").await.unwrap();
        let body = json!({ "name": "vm", "image": "uploaded" });
        client.post::<api::Instance>("/instances", Some(&body)).await.unwrap();
        let first: Value = serde_json::from_str(&events.next().await.unwrap().unwrap()).unwrap();
        assert_eq!((&first["event"], &first["operation"]), (&json!("opened"), &json!("create")));
        let second: Value = serde_json::from_str(&events.next().await.unwrap().unwrap()).unwrap();
        assert_eq!(second["event"], "intended");
        assert!(second["words"].as_str().unwrap().len() > 5, "{second}");
    });
}

#[test]
fn strangers_who_say_nothing_do_not_take_all_connections() {
    let daemon = Daemon::on(sim::workstation(), Some(TOKEN));
    let idle: Vec<TcpStream> =
        std::iter::repeat_with(|| TcpStream::connect(daemon.address).unwrap()).take(300).collect();
    // More than there are places for: the oldest had to leave.
    let mut last = idle.last().unwrap();
    last.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    daemon.get("/devices").expect(200);
    let mut answer = String::new();
    last.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_refusal_does_not_cut_off_a_client_that_still_writes() {
    let daemon = Daemon::start();
    let mut stream = UnixStream::connect(daemon.socket()).unwrap();
    let mut ask = |path: &str, status: &str| {
        write!(stream, "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n")
            .unwrap();
        std::thread::sleep(Duration::from_millis(100));
        write!(stream, "{{\"name\": \"vol\"").unwrap();
        let mut answer = [0; 2048];
        let read = stream.read(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer:?}");
    };
    // All on one connection.
    ask("/ingresses", "501");
    ask("/no/such/path", "404");
    ask("/health", "405");
}

/// A request by TCP, with the token.
fn asked(daemon: &Daemon) -> support::Answer {
    with(daemon, &format!("Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"))
}

#[test]
fn connections_that_show_no_token_keep_no_one_out() {
    let daemon = Daemon::on(sim::workstation(), Some(TOKEN));
    let connect = || TcpStream::connect(daemon.address).unwrap();
    let silent: Vec<TcpStream> = (0..300).map(|_| connect()).collect();
    assert_eq!(asked(&daemon).status, 200);
    // Headers and bodies that never end.
    let slow: Vec<TcpStream> = (0..300)
        .map(|number| {
            let mut stream = connect();
            let begun = match number % 2 {
                0 => "GET /devices HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
                _ => "POST /claims HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
            };
            stream.write_all(begun.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(asked(&daemon).status, 200);
    // The oldest had to leave.
    let mut first = silent.into_iter().next().unwrap();
    first.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(first.read(&mut [0]).unwrap(), 0);
    drop(slow);
}

#[test]
fn silent_connections_on_the_socket_keep_no_one_out() {
    let daemon = Daemon::start();
    let silent: Vec<UnixStream> =
        (0..1100).map(|_| UnixStream::connect(daemon.socket()).unwrap()).collect();
    daemon.get("/devices").expect(200);
    // The oldest had to leave.
    let mut first = silent.into_iter().next().unwrap();
    first.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(first.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_connection_that_showed_its_token_stays_while_strangers_come() {
    let daemon = Daemon::on(sim::workstation(), Some(TOKEN));
    let mut known = TcpStream::connect(daemon.address).unwrap();
    known.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request =
        format!("GET /health HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let devices = request.replace("/health", "/devices");
    let answer = |stream: &mut TcpStream| {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).unwrap();
        assert!(buffer.get(..read).unwrap().starts_with(b"HTTP/1.1 200"), "{read} bytes");
    };
    known.write_all(devices.as_bytes()).unwrap();
    answer(&mut known);
    let strangers: Vec<TcpStream> =
        (0..150).map(|_| TcpStream::connect(daemon.address).unwrap()).collect();
    assert_eq!(asked(&daemon).status, 200);
    known.write_all(request.as_bytes()).unwrap();
    answer(&mut known);
    drop(strangers);
}

#[test]
fn a_request_is_answered_after_the_client_has_closed_its_side() {
    let daemon = Daemon::on(sim::workstation(), Some(TOKEN));
    for _ in 0..20 {
        let mut tcp = TcpStream::connect(daemon.address).unwrap();
        let request = format!(
            "GET /devices HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        );
        tcp.write_all(request.as_bytes()).unwrap();
        tcp.shutdown(Shutdown::Write).unwrap();
        assert_eq!(support::Answer::read(tcp).status, 200);
        let mut unix = UnixStream::connect(daemon.socket()).unwrap();
        unix.write_all(b"GET /devices HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        unix.shutdown(Shutdown::Write).unwrap();
        assert_eq!(support::Answer::read(unix).status, 200);
    }
}
