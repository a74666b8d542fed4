//! Help, completions and manual pages. The help of each command is a golden file (`UPDATE=1` writes them).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Every command with its path, such as `handover instance create`.
fn commands(command: &mut clap::Command, path: &str, found: &mut BTreeMap<String, String>) {
    let path = format!("{path} {}", command.get_name()).trim().to_owned();
    let help = command.clone().bin_name(path.clone()).term_width(100).render_long_help();
    found.insert(path.clone(), help.to_string());
    for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
        commands(inner, &path, found);
    }
}

#[test]
fn the_help_is_the_one_in_git() {
    let mut found = BTreeMap::new();
    let mut command = cli::command().term_width(100);
    command.build();
    commands(&mut command, "", &mut found);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE").is_some();
    for (path, help) in &found {
        let file = folder.join(format!("{}.txt", path.replace(' ', "-")));
        // Without the spaces at the ends of lines.
        let help: String = help.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        if update {
            std::fs::write(&file, &help).unwrap();
        }
        let golden = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(golden == help, "the help of `{path}` changed; if it should, run with UPDATE=1");
    }
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, found.len(), "a file in tests/golden is of no command");
}

fn handover(arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args(arguments).env_remove("HANDOVER_URL").env_remove("HANDOVER_TOKEN_FILE");
    command.output().unwrap()
}

#[test]
fn completions_and_manual_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let output = handover(&["completions", shell]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("instance"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(handover(&["man", folder.path().to_str().unwrap()]).status.success());
    let page = std::fs::read_to_string(folder.path().join("handover.1")).unwrap();
    assert!(page.contains("Exit status") && page.contains("daemon_unreachable"));
    assert!(folder.path().join("handover-instance-create.1").exists());
}

#[test]
fn old_spellings_of_commands_still_work() {
    for (old, new) in [("recover", "return"), ("reserve", "boot-list")] {
        let (old, new) = (handover(&[old, "--help"]), handover(&[new, "--help"]));
        assert!(old.status.success() && !new.stdout.is_empty(), "{old:?}");
        assert_eq!(old.stdout, new.stdout);
    }
    let root = tempfile::tempdir().unwrap();
    let list = ["--list", "--root", root.path().to_str().unwrap()];
    let run = |command| handover(&[&[command], &list[..]].concat());
    let (old, new) = (run("reserve"), run("boot-list"));
    assert_eq!((old.status, old.stdout), (new.status, new.stdout));
}

#[test]
fn the_arguments_are_consistent() {
    cli::command().debug_assert();
}

#[test]
fn an_error_says_what_why_and_what_to_do() {
    let output = handover(&["device", "list", "--url", "unix:///nowhere/handover.sock"]);
    assert_eq!(output.status.code(), Some(13));
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0], "error: cannot list the devices (daemon_unreachable)");
    assert!(lines[1].starts_with("  why: ") && lines[1].contains("/nowhere/handover.sock"));
    assert!(lines[2].starts_with("  what to do: ") && lines[2].contains("handover serve"));
}

#[test]
fn serve_refuses_what_is_not_safe() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state").display().to_string();
    let run = folder.path().join("run").display().to_string();
    let serve = |more: &[&str]| {
        let mut arguments = vec!["serve", "--state-dir", &state, "--run-dir", &run];
        arguments.extend(more);
        let output = handover(&arguments);
        assert_eq!(output.status.code(), Some(2), "{more:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = serve(&["--listen", "127.0.0.1:0"]);
    assert!(said.contains("needs a token") && said.contains("umask 077"), "{said}");
    let said = serve(&["--listen", "0.0.0.0:0", "--no-auth"]);
    assert!(said.contains("loopback only"), "{said}");
    let said = serve(&["--machine-uids", "0-5"]);
    assert!(said.contains("root"), "{said}");
}

#[test]
fn serve_refuses_a_qemu_that_does_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state").display().to_string();
    let run = folder.path().join("run").display().to_string();
    let output =
        handover(&["serve", "--state-dir", &state, "--run-dir", &run, "--qemu", "/nowhere/qemu"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("/nowhere/qemu") && text.contains("correct --qemu"), "{text}");
}

#[test]
fn a_root_that_does_not_exist_is_an_invalid_request() {
    for command in [&["ls"][..], &["topo"], &["doctor"], &["show", "01:00.0"], &["record"]] {
        let output = handover(&[command, &["--root", "/nowhere"]].concat());
        assert_eq!(output.status.code(), Some(2), "{command:?}: {output:?}");
    }
}

#[test]
fn a_wrong_value_says_what_is_accepted() {
    for (arguments, accepted) in [
        (&["serve", "--listen", "localhost:8080"][..], "127.0.0.1:8080"),
        (&["serve", "--shutdown-grace", "soon"], "a whole number from 0 to"),
        (&["serve", "--image-size", "big"], "512MB"),
        (&["sriov", "set", "x", "many"], "from 0 to 65535"),
        (&["claim", "gpu", "--uid", "me"], "a whole number from 0 to 4294967295"),
        (&["instance", "create", "x", "--image", "y", "--size", "big"], "512MB"),
        (&["instance", "create", "x", "--image", "y", "--vcpus", "0"], "from 1 to 1024"),
        (&["boot-list", "x"], "`handover ls`"),
        (&["doctor", "--for", "x"], "0000:a2:00.0"),
    ] {
        let output = handover(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(accepted) && !text.contains("digit found"), "{text}");
    }
}
