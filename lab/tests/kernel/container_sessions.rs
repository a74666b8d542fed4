//! Commands with their streams, copies and stat in the machine of a container image, which `container.rs` has started.

use crate::support::Host;

/// All of it, in the running instance `ml`, whose command is a shell of busybox and runs as `worker`.
pub fn sessions(host: &Host) {
    streams(host);
    a_terminal(host);
    clients_that_go(host);
    copies(host);
    a_tree_comes_back(host);
    what_a_path_is(host);
    the_clock_after_a_pause(host);
}

fn streams(host: &Host) {
    let sorted = host.sh("seq 1 200000 | handover instance exec -i ml -- /bin/cat | sha256sum; seq 1 200000 | sha256sum");
    let sums: Vec<&str> = sorted.lines().collect();
    assert_eq!(sums[0], sums[1], "input and output are the same");
    let apart = host.sh("handover instance exec -i ml /bin/sh -c 'echo out; echo err >&2; exit 5' </dev/null 2>/tmp/err; echo $?; cat /tmp/err");
    assert_eq!(apart, "out\n5\nerr\n");
    let user = host.sh("handover instance exec --user 0 --workdir /etc --env A=b ml -- /bin/sh -c 'id -u; pwd; echo $A'");
    assert_eq!(user, "0\n/etc\nb\n");
    for (command, status) in [("/bin/none", "6"), ("/etc/motd", "6")] {
        // The daemon's error, not the status of a command.
        let refused = host.sh(&format!(
            "handover instance exec -i ml -- {command} </dev/null 2>/dev/null; echo $?"
        ));
        assert_eq!(refused.trim(), status, "{command}");
    }
    let late =
        host.sh("handover instance exec -i --timeout 1s ml -- /bin/sleep 600 </dev/null; echo $?");
    assert_eq!(late, "124\n");
}

/// `script` gives this side a terminal. The size is that of the terminal.
fn a_terminal(host: &Host) {
    let command = "stty rows 33 cols 99; handover instance exec -it ml -- /bin/sh -c 'test -t 0 && test -t 2 && echo tty; stty size'; echo status \\$?; stty -a";
    let said = host.sh(&format!("script -qec \"{command}\" /dev/null </dev/null || true"));
    assert!(said.contains("tty\r\n") && said.contains("33 99"), "{said}");
    assert!(
        said.contains("status 0") && said.contains(" icanon"),
        "the terminal is restored: {said}"
    );
}

fn clients_that_go(host: &Host) {
    host.sh("timeout 2 handover instance exec -i ml -- /bin/sleep 4321 </dev/zero || true");
    host.wait("the command is hung up", 120, || {
        host.sh("handover instance exec ml -- /bin/sh -c 'cat /proc/[0-9]*/cmdline | tr \"\\0\" \" \"' | grep -c 'sleep 4321' || true").trim() == "0"
    });
}

fn copies(host: &Host) {
    host.sh("mkdir -p /tmp/cp/tree/sub; head -c 3000000 /dev/urandom >/tmp/cp/tree/sub/data; ln -sfn sub/data /tmp/cp/tree/link; : >/tmp/cp/tree/empty; chmod 750 /tmp/cp/tree/sub; chmod 640 /tmp/cp/tree/empty");
    host.sh("handover instance cp /tmp/cp/tree ml:/srv/tree");
    let listed =
        host.sh("handover instance exec --user 0 ml -- /bin/sh -c 'cd /srv/tree; ls -ln . sub'");
    assert!(
        listed.contains("drwxr-x---")
            && listed.contains("-rw-r-----")
            && listed.contains("link -> sub/data"),
        "{listed}"
    );
    host.sh("echo one >/tmp/cp/one; handover instance cp /tmp/cp/one ml:/srv/; handover instance cp /tmp/cp/one ml:/srv/two");
    let there = host.sh("handover instance exec --user 0 ml -- /bin/cat /srv/one /srv/two");
    assert_eq!(there, "one\none\n");
    host.sh("tar -C /tmp/cp -cf - tree | handover instance cp - ml:/srv/own-dir && exit 1; handover instance exec --user 0 ml -- /bin/mkdir -p /srv/tars");
    host.sh("tar -C /tmp/cp -cf - tree | handover instance cp - ml:/srv/tars");
    // A refusal is told although the archive's producer is silent.
    let refused = host.sh("mkfifo /tmp/cp/pipe; { tar -C /tmp/cp -cf - tree; sleep 100; } >/tmp/cp/pipe 2>/dev/null & status=0; timeout 60 handover instance cp - ml:/proc </tmp/cp/pipe 2>&1 || status=$?; kill $!; rm /tmp/cp/pipe; echo status $status");
    assert!(refused.contains("status 6") && refused.contains("error"), "{refused}");
}

fn a_tree_comes_back(host: &Host) {
    host.sh("mkdir -p /tmp/cp/back; handover instance cp ml:/srv/tree /tmp/cp/back");
    host.sh("diff -r --no-dereference /tmp/cp/tree /tmp/cp/back/tree; test $(stat -c %a /tmp/cp/back/tree/sub) = 750");
    host.sh("handover instance cp ml:/srv/tars/tree - | tar -C /tmp/cp/back -x --one-top-level=tarred && diff -r --no-dereference /tmp/cp/tree /tmp/cp/back/tarred/tree");
    // The guest sends a link in one copy, and a file below it in the next.
    host.sh("handover instance exec --user 0 ml -- /bin/sh -c 'mkdir -p /srv/x/trap; rm -r /srv/x/trap; ln -s /tmp/cp/outside /srv/x/trap'; mkdir -p /tmp/cp/outside");
    host.sh("handover instance cp ml:/srv/x /tmp/cp/back");
    host.sh("handover instance exec --user 0 ml -- /bin/sh -c 'rm /srv/x/trap; mkdir /srv/x/trap; echo bad >/srv/x/trap/bad'");
    let refused = host.sh("handover instance cp ml:/srv/x /tmp/cp/back 2>&1 && exit 1; true");
    assert!(refused.contains("trap"), "{refused}");
    assert_eq!(host.sh("ls /tmp/cp/outside"), "", "nothing was written through the link");
    host.sh("rm -r /tmp/cp");
}

fn what_a_path_is(host: &Host) {
    let info = host.get("/instances/ml/stat?path=/etc/motd");
    assert!(info["is_file"] == true && info["size"] == 7, "{info:#}");
    assert_eq!(host.get("/instances/ml/stat?path=/no/such")["exists"], false);
    assert_eq!(host.get("/instances/ml")["agent_ready"], true);
}

fn the_clock_after_a_pause(host: &Host) {
    host.sh("handover instance pause ml; sleep 8; handover instance resume ml");
    host.wait("its clock", 30, || {
        let late =
            host.sh("echo $(( $(date +%s) - $(handover instance exec ml -- /bin/date +%s) ))");
        late.trim().parse::<i64>().unwrap().abs() <= 4
    });
}
