//! How commands end.

use guest_protocol::CommandResult;

use crate::machine::{Place, command, script};

/// What the first start wrote is there at the second; a command that is not there has a reason.
#[test]
fn a_machine_starts_again_with_its_files() {
    let Some(place) = Place::new() else { return };
    let first =
        place.start(&script("echo said; echo erred >&2; echo kept > /srv/kept; exit 3"), &[]);
    let console = first.end().expect(3);
    assert!(console.contains("said\r\n") && console.contains("erred\r\n"), "{console}");
    // The init made the file system clean: nothing is to be recovered.
    let mut dump = std::process::Command::new("/usr/sbin/dumpe2fs");
    let header = dump.arg("-h").arg(place.path("upper")).output().unwrap();
    let header = String::from_utf8_lossy(&header.stdout).into_owned();
    assert!(header.contains("state:         clean\n"), "{header}");
    assert!(!header.contains("needs_recovery"), "{header}");

    let mut config = command(&["cat", "/srv/kept"]);
    config.argv[0] = "nothing".to_owned();
    let outcome = place.start(&config, &[]).end();
    let result = outcome.result.unwrap();
    assert_eq!((result.exit_code, result.signal), (Some(127), None));
    assert!(result.error.as_ref().unwrap().contains("\"nothing\""), "{result:?}");
    assert!(outcome.console.contains("handover: the image has no program"), "{}", outcome.console);
}

/// An init system is process 1 itself, and switches the machine off itself: there is no result.
#[test]
fn an_init_system_becomes_process_1() {
    let Some(place) = Place::new() else { return };
    let mut config = script("echo process $$ of $HOSTNAME; sync; exec busybox poweroff -f");
    config.systemd = true;
    let outcome = place.start(&config, &[]).end();
    assert!(outcome.console.contains("process 1 of ml"), "{}", outcome.console);
    assert_eq!(outcome.result, None);
}

/// The command ignores the stop signal: the power button ends it all the same. Its orphans are reaped, and signals to
/// process 1 are the command's.
#[test]
fn the_power_button_stops_the_command() {
    let Some(place) = Place::new() else { return };
    let mut config = script(
        "trap 'echo user signal' USR1; trap 'echo stopping' INT; kill -USR1 1; (sleep 0.1 & ); \
         while :; do sleep 0.05; n=$((n+1)); [ $n = 20 ] && echo \"zombies $(ps | grep -c '[Z] ')\" && echo ready; done",
    );
    config.stop_signal = "SIGINT".to_owned();
    config.stop_timeout_seconds = 1;
    let mut machine = place.start(&config, &[]);
    machine.wait_for("ready");
    machine.press_power();
    let outcome = machine.end();
    for expected in ["user signal", "zombies 0", "stopping"] {
        assert!(outcome.console.contains(expected), "{}", outcome.console);
    }
    assert_eq!(outcome.result, Some(CommandResult::signaled(9)));
}
