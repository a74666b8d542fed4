//! Kernel options for each boot loader in the table of docs/doctor.md: a tree of files, and what the doctor's script does in
//! it.
#![allow(clippy::unwrap_used)]

mod hosts;
mod loaders;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use hosts::{Host, run_below};
use loaders::Does::{Adds, Appends, Calls, Edits, Words};
use loaders::{GRUB, INSTALLED, ROWS, Row};

/// The script, without the comments of optional fixes.
fn script(host: &Host) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_handover"));
    command.args(["doctor", "--fix-script", "--root"]).arg(host.path());
    let output = command.output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs the script twice, and returns the programs that it called in one run.
fn run(row: &Row, host: &Host) -> String {
    let script = script(host);
    let called = || fs::read_to_string(host.path().join("called")).unwrap_or_default();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let _ = fs::remove_file(host.path().join("called"));
        let output = run_below(host.path(), &script, "0");
        assert!(output.status.success(), "{}: {output:?}\n{script}", row.name);
        seen.push((called(), tree(host.path())));
    }
    assert!(seen[0] == seen[1], "{}: the second run differs: {seen:?}", row.name);
    seen.remove(0).0
}

/// All configuration files.
fn tree(root: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut open = vec![root.join("etc"), root.join("boot"), root.join("efi")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if !path.ends_with("etc/handover/removed-options")
                && !path.ends_with("etc/handover/to-rebuild")
            {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root).unwrap().display().to_string(), text));
            }
        }
    }
    files.sort();
    files
}

/// The files that differ between two trees.
fn differing(before: &[(String, String)], after: &[(String, String)]) -> BTreeSet<String> {
    let (before, after): (BTreeSet<_>, BTreeSet<_>) =
        (before.iter().collect(), after.iter().collect());
    before.symmetric_difference(&after).map(|(path, _)| path.clone()).collect()
}

#[test]
fn an_option_is_added_where_the_boot_loader_reads_it() {
    for row in ROWS {
        let host = row.host("quiet");
        let before = tree(host.path());
        if let Words(words) = row.does {
            let script = script(&host);
            assert!(script.contains(words), "{}: {script}", row.name);
            run(row, &host);
            assert_eq!(tree(host.path()), before, "{}", row.name);
            continue;
        }
        let called = run(row, &host);
        let changed = differing(&before, &tree(host.path()));
        let file = match row.does {
            Edits(file, program) | Appends(file, _, program) => {
                assert!(called.contains(program), "{}: {called}", row.name);
                assert!(!program.is_empty() || called.is_empty(), "{}: {called}", row.name);
                Some(file)
            }
            Calls(call, _) | Adds(call, _) => {
                assert_eq!(called, format!("{call}\n"), "{}", row.name);
                None
            }
            Words(_) => None,
        };
        assert_eq!(changed, file.map(str::to_owned).into_iter().collect(), "{}", row.name);
        if let Some(file) = file {
            let text = fs::read_to_string(host.path().join(file)).unwrap();
            assert_eq!(text.matches("intel_iommu=on").count(), 1, "{}: {text}", row.name);
        }
    }
}

#[test]
fn one_word_of_an_option_is_taken_away_where_it_is() {
    for row in ROWS {
        let host = row.host("quiet intel_iommu=strict,off");
        let before = tree(host.path());
        if let Words(words) | Adds(_, words) = row.does {
            let script = script(&host);
            assert!(script.contains(words), "{}: {script}", row.name);
            run(row, &host);
            assert_eq!(tree(host.path()), before, "{}", row.name);
            continue;
        }
        let called = run(row, &host);
        let changed = differing(&before, &tree(host.path()));
        if let Calls(_, calls) = row.does {
            assert_eq!(called.lines().collect::<Vec<_>>(), calls, "{}", row.name);
            assert!(changed.is_empty(), "{}", row.name);
        }
        if let Edits(file, program) | Appends(_, file, program) = row.does {
            assert!(called.contains(program), "{}: {called}", row.name);
            assert_eq!(changed, BTreeSet::from([file.to_owned()]), "{}", row.name);
            let text = fs::read_to_string(host.path().join(file)).unwrap();
            assert!(
                text.contains("intel_iommu=strict") && !text.contains("off"),
                "{}: {text}",
                row.name
            );
            assert!(text.contains("quiet"), "{}: {text}", row.name);
        }
    }
}

/// A script that finds nothing to edit must not say that all is done.
#[test]
fn a_script_that_finds_nothing_to_edit_fails() {
    for row in ROWS {
        let (Edits(file, _) | Appends(_, file, _)) = row.does else { continue };
        let host = row.host("quiet intel_iommu=strict,off");
        let script = script(&host);
        fs::write(host.path().join(file), "# moved elsewhere\n").unwrap();
        let output = run_below(host.path(), &script, "0");
        assert!(!output.status.success(), "{}: {script}", row.name);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("cannot take intel_iommu=strict,off away"), "{}: {said}", row.name);
        if let Edits(file, _) = row.does {
            let host = row.host("quiet");
            let script = self::script(&host);
            fs::remove_file(host.path().join(file)).unwrap();
            let output = run_below(host.path(), &script, "0");
            assert!(!output.status.success(), "{}: {script}", row.name);
        }
    }
}

/// The variable as the tool reads it, which sources the file.
fn sourced(host: &Host, file: &str, variable: &str) -> String {
    let path = host.path().join(file);
    let read = format!(". {} && printf %s \"${variable}\"", path.display());
    let output = Command::new("sh").args(["-c", &read]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// As packages and administrators leave it: commented out, without quotes, with a comment behind it, or not there.
#[test]
fn a_variable_is_extended_whatever_sets_it() {
    for (name, file, variable, text, before) in [
        (
            "systemd-boot with sdboot-manage",
            "etc/sdboot-manage.conf",
            "LINUX_OPTIONS",
            "#LINUX_OPTIONS=\"\"\n",
            "",
        ),
        (
            "U-Boot of Debian",
            "etc/default/u-boot",
            "U_BOOT_PARAMETERS",
            "#U_BOOT_PARAMETERS=\"ro quiet\"\n",
            "ro quiet",
        ),
        (
            "U-Boot of Debian",
            "etc/default/u-boot",
            "U_BOOT_PARAMETERS",
            "U_BOOT_PARAMETERS='rw'",
            "rw",
        ),
        (
            "extlinux of Alpine",
            "etc/update-extlinux.conf",
            "default_kernel_opts",
            "default_kernel_opts=\"quiet splash\" # \"of the console\"\n",
            "quiet splash",
        ),
        (
            "extlinux of Alpine",
            "etc/update-extlinux.conf",
            "default_kernel_opts",
            "default_kernel_opts=quiet\n",
            "quiet",
        ),
        (
            "extlinux of Alpine",
            "etc/update-extlinux.conf",
            "default_kernel_opts",
            "overwrite=1\n",
            "",
        ),
    ] {
        let row = ROWS.iter().find(|row| row.name == name).unwrap();
        let host = row.host("quiet");
        host.file(file, text);
        run(row, &host);
        let value = sourced(&host, file, variable);
        assert_eq!(value, format!("{before} intel_iommu=on"), "{name}: {text}");
    }
}

#[test]
fn an_option_before_a_comment_is_taken_away() {
    let row = ROWS.iter().find(|row| row.name == "extlinux of Alpine").unwrap();
    let host = row.host("quiet intel_iommu=strict,off");
    let file = "etc/update-extlinux.conf";
    host.file(file, "default_kernel_opts=\"quiet intel_iommu=strict,off\"  # mine\n");
    run(row, &host);
    assert_eq!(sourced(&host, file, "default_kernel_opts"), "quiet intel_iommu=strict");
}

/// A script that was stopped after the edits: run again, it still rebuilds what the edits are for.
#[test]
fn a_script_that_was_stopped_rebuilds_when_it_is_run_again() {
    for options in ["quiet", "quiet intel_iommu=strict,off"] {
        for row in ROWS {
            let (Edits(_, program) | Appends(_, _, program)) = row.does else { continue };
            let host = row.host(options);
            let script = script(&host);
            let Some((edits, _)) = script.split_once("# Make the edits take effect.") else {
                assert!(program.is_empty(), "{}: {script}", row.name);
                continue;
            };
            let stopped = run_below(host.path(), &format!("{edits}\nfalse\n"), "0");
            assert!(!stopped.status.success(), "{}", row.name);
            let said = String::from_utf8(stopped.stderr).unwrap();
            assert!(said.contains("run it again"), "{}: {said}", row.name);
            assert!(!host.path().join("called").exists(), "{}", row.name);
            let edited = tree(host.path());
            // A script that is made anew knows of the earlier one, also where nothing is left to edit.
            let cmdline = fs::read_to_string(host.path().join("proc/cmdline")).unwrap();
            host.file("proc/cmdline", &format!("{} intel_iommu=on\n", cmdline.trim_end()));
            let anew = self::script(&host);
            let tool = program.split(' ').next().unwrap();
            assert!(
                anew.contains("to-rebuild exists") && anew.contains(tool),
                "{}: {anew}",
                row.name
            );
            host.file("proc/cmdline", &cmdline);
            assert!(run_below(host.path(), &script, "0").status.success(), "{}", row.name);
            assert!(!host.path().join("etc/handover/to-rebuild").exists(), "{}", row.name);
            let called = fs::read_to_string(host.path().join("called")).unwrap_or_default();
            assert!(called.contains(program), "{}: {called}", row.name);
            assert_eq!(edited, tree(host.path()), "{}", row.name);
        }
    }
}

/// Without `/etc/kernel/cmdline`, kernel-install takes the running kernel's options: the remedy writes them down.
#[test]
fn kernel_installs_file_is_written_from_the_running_kernel() {
    let host = hosts::without_loader();
    host.file(INSTALLED.0, INSTALLED.1);
    host.file("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 initrd=\\a quiet\n");
    host.variable("LoaderInfo", "systemd-boot 257");
    let output = run_below(host.path(), &script(&host), "0");
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(host.path().join("etc/kernel/cmdline")).unwrap();
    assert_eq!(
        text.split_whitespace().collect::<Vec<_>>(),
        ["root=/dev/sda1", "quiet", "intel_iommu=on"]
    );
}

/// Void, Manjaro and others have a command `update-grub`, but no `/etc/default/grub.d`.
#[test]
fn drop_ins_of_grub_are_for_debians_only() {
    let host = hosts::without_loader();
    let files = [GRUB, ("usr/bin/update-grub", ""), ("etc/os-release", "ID=void\n")];
    for (path, text) in files {
        host.file(path, &text.replace('@', "quiet"));
    }
    host.file("proc/cmdline", "quiet\n");
    assert!(run_below(host.path(), &script(&host), "0").status.success());
    let text = fs::read_to_string(host.path().join(GRUB.0)).unwrap();
    assert!(text.contains("intel_iommu=on") && !host.path().join("etc/default/grub.d").exists());
}

/// Files that two loaders left behind say nothing about which of them boots.
#[test]
fn two_loaders_files_are_no_reason_to_edit_either() {
    let host = hosts::without_loader();
    for (path, text) in
        [GRUB, ("usr/sbin/update-grub", ""), ("boot/limine.conf", "cmdline: quiet\n")]
    {
        host.file(path, text);
    }
    host.file("proc/cmdline", "quiet\n");
    assert!(script(&host).contains("not recognized"));
}

#[test]
fn every_row_of_the_table_has_a_tree() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/doctor.md");
    let document = fs::read_to_string(file).unwrap();
    // One table for each kind of loader.
    let tables = document.split("\n| boot loader |").skip(1);
    let rows = tables.flat_map(|table| {
        table.lines().skip(2).take_while(|line| line.starts_with('|')).map(str::trim)
    });
    let names: Vec<&str> = rows.filter_map(|line| line.split('|').nth(1)).map(str::trim).collect();
    let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
    assert_eq!(names, known);
}

#[test]
fn a_xen_dom0_is_told_the_way_out_and_no_option_of_its_kernel() {
    for (path, text) in [
        ("proc/xen/capabilities", "control_d\n"),
        ("sys/hypervisor/uuid", "00000000-0000-0000-0000-000000000000\n"),
    ] {
        let host = hosts::without_loader();
        for (path, text) in [GRUB, ("usr/sbin/update-grub", ""), (path, text)] {
            host.file(path, &text.replace('@', "quiet"));
        }
        host.file("sys/hypervisor/type", "xen\n");
        host.file("proc/cmdline", "placeholder root=/dev/sda1 ro quiet\n");
        let said = script(&host);
        assert!(said.contains("dom0") && said.contains("xen-pciback"), "{said}");
        assert!(!said.contains("intel_iommu"), "{said}");
    }
}

/// `amd_iommu=fullflush,off`: the kernel reads a list, and only `off` must go.
#[test]
fn an_off_in_amds_list_is_named_and_taken_away() {
    let host = hosts::without_loader();
    fs::remove_file(host.path().join("sys/firmware/acpi/tables/DMAR")).unwrap();
    host.file("sys/firmware/acpi/tables/IVRS", "");
    host.file("etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"amd_iommu=fullflush,off quiet\"\n");
    host.file("usr/sbin/update-grub", "");
    host.file("proc/cmdline", "root=/dev/sda1 amd_iommu=fullflush,off quiet\n");
    let said = script(&host);
    assert!(said.contains("/proc/cmdline has amd_iommu=fullflush,off"), "{said}");
    assert!(run_below(host.path(), &said, "0").status.success(), "{said}");
    let text = fs::read_to_string(host.path().join("etc/default/grub")).unwrap();
    assert_eq!(text, "GRUB_CMDLINE_LINUX_DEFAULT=\"amd_iommu=fullflush quiet\"\n");
}

#[test]
fn an_on_in_intels_list_is_not_added_again() {
    let host = hosts::without_loader();
    host.file("etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n");
    host.file("usr/sbin/update-grub", "");
    host.file("proc/cmdline", "root=/dev/sda1 intel_iommu=igfx_off,on\n");
    let said = script(&host);
    assert!(!said.contains("no intel_iommu=on") && !said.contains("update-grub"), "{said}");
}
