//! Fabric Manager's answers are replayed by a stand-in for its program `fmpm`, in the form that `fmpm -l` prints.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use model::Observed;

use super::*;

/// What `fmpm -l` prints for two GPUs: both, and each alone. Where Fabric Manager does not see the GPUs, their addresses are 0.
fn answer(addresses: [&str; 2]) -> String {
    let gpu = |module: usize| {
        format!(
            r#"{{"maxNumNvLinks": 18, "numNvLinksAvailable": 18, "nvlinkLineRateMBps": 26562, "pciBusId": "{}", "physicalId": {}, "uuid": ""}}"#,
            addresses[module],
            module + 1
        )
    };
    let partition = |id: u32, gpus: &[usize]| {
        let gpus: Vec<String> = gpus.iter().map(|module| gpu(*module)).collect();
        format!(
            r#"{{"partitionId": {id}, "isActive": @{id}@, "numGpus": {}, "gpuInfo": [{}]}}"#,
            gpus.len(),
            gpus.join(", ")
        )
    };
    let all = [partition(0, &[0, 1]), partition(1, &[0]), partition(2, &[1])].join(", ");
    format!(
        r#"{{"version": 16909068, "numPartitions": 3, "maxNumPartitions": 15, "partitionInfo": [{all}]}}"#
    )
}

const UNSEEN: [&str; 2] = ["00000000:00:00.0"; 2];

/// A host with a stand-in for `fmpm` that answers this, and notes which set is active.
fn host(answer: &str) -> (tempfile::TempDir, Root) {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: &str| dir.path().join(path);
    for path in ["usr/bin", "etc/handover", "state"] {
        fs::create_dir_all(at(path)).unwrap();
    }
    fs::write(at("answer"), answer).unwrap();
    let program = format!(
        "#!/bin/sh\ncd {}/state\ncase $1 in\n  -a) [ $2 != 9 ] || {{ echo 'Failed to activate partition 9'; exit 1; }}; : >$2 ;;\n  -d) rm $2 ;;\n  -l) sed \"$(for id in 0 1 2; do [ -e $id ] && echo \"s/@$id@/1/;\" || echo \"s/@$id@/0/;\"; done)\" ../answer ;;\nesac\n",
        dir.path().display()
    );
    install(&at("usr/bin/fmpm"), &program);
    let root = Root::open(dir.path()).unwrap();
    (dir, root)
}

fn install(path: &Path, program: &str) {
    fs::write(path, program).unwrap();
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
}

fn gpus(set: &FabricSet) -> Vec<String> {
    set.gpus.iter().map(ToString::to_string).collect()
}

#[test]
fn sets_are_known_by_the_addresses_that_fabric_manager_tells() {
    let (_dir, root) = host(&answer(["00000000:3B:00.0", "00000000:86:00.0"]));
    let sets = read(&root).unwrap().unwrap();
    assert!(sets.can_switch);
    assert_eq!(sets.sets.len(), 3);
    assert_eq!(gpus(&sets.sets[0]), ["0000:3b:00.0", "0000:86:00.0"]);
    assert!(sets.sets.iter().all(|set| !set.is_active));
}

#[test]
fn the_file_says_which_gpu_a_module_is() {
    let (dir, root) = host(&answer(UNSEEN));
    assert_eq!(read(&root).unwrap().unwrap().sets, [], "their addresses are not known");
    let file = dir.path().join(FILE);
    fs::write(&file, r#"{"gpus": {"1": "0000:1b:00.0"}}"#).unwrap();
    let sets = read(&root).unwrap().unwrap().sets;
    assert_eq!(sets.len(), 1, "only what is known whole");
    assert_eq!((sets[0].id, gpus(&sets[0])), (1, vec!["0000:1b:00.0".to_owned()]));
    fs::write(&file, r#"{"gpu": {}}"#).unwrap();
    let error = read(&root).unwrap_err().to_string();
    assert!(error.contains("etc/handover/fabric.json") && error.contains("gpu"), "{error}");
}

#[test]
fn a_list_in_the_file_is_used_where_no_program_is_to_be_asked() {
    let (dir, root) = host("not asked");
    let list = answer(["00000000:3B:00.0", "00000000:86:00.0"]).replace("@0@", "0");
    let list = list.replace("@1@", "0").replace("@2@", "0");
    fs::write(dir.path().join(FILE), format!(r#"{{"list": {list}}}"#)).unwrap();
    let sets = read(&root).unwrap().unwrap();
    assert_eq!((sets.sets.len(), sets.can_switch), (3, false));
}

#[test]
fn a_fabric_manager_that_does_not_answer_has_no_sets_unless_the_file_names_it() {
    let (dir, root) = host("");
    install(
        &dir.path().join("usr/bin/fmpm"),
        "#!/bin/sh\necho 'Failed to connect to Fabric Manager instance.'\nexit 253\n",
    );
    assert_eq!(read(&root).unwrap(), None);
    let named = r#"{"program": ["/usr/bin/fmpm", "--hostname", "192.0.2.7"]}"#;
    fs::write(dir.path().join(FILE), named).unwrap();
    let error = read(&root).unwrap_err().to_string();
    assert!(error.contains("Failed to connect to Fabric Manager"), "{error}");
}

#[test]
fn a_host_without_either_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::open(dir.path()).unwrap();
    assert!(!may_have(&root));
    assert_eq!(read(&root).unwrap(), None);
}

#[test]
fn a_set_is_activated_and_deactivated() {
    let (_dir, root) = host(&answer(UNSEEN));
    let gpu: Address = "0000:3b:00.0".parse().unwrap();
    let seen = |set: u32, to: bool| {
        crate::step::observe(&root, &model::Step::SetFabricSet { address: gpu, set, from: !to, to })
    };
    let manager = FabricManager::find(&root).unwrap().unwrap();
    assert_eq!((seen(1, true), seen(1, false)), (Ok(Observed::Before), Ok(Observed::After)));
    manager.switch(&root, 1, true).unwrap();
    assert_eq!(seen(1, true), Ok(Observed::After));
    manager.switch(&root, 1, false).unwrap();
    assert_eq!(seen(1, true), Ok(Observed::Before));
    assert_eq!(seen(9, true), Ok(Observed::Absent));
    let error = manager.switch(&root, 9, true).unwrap_err().to_string();
    assert!(error.contains("Failed to activate partition 9"), "{error}");
}

#[test]
fn addresses_are_read_as_nvidias_programs_print_them() {
    let read = |text: &str| bus_id(text).map(|address| address.to_string());
    assert_eq!(read("00000000:3B:00.0").as_deref(), Some("0000:3b:00.0"));
    assert_eq!(read("00000001:01:00.0").as_deref(), Some("0001:01:00.0"));
    for text in ["00000000:00:00.0", "", "GPU-1", "x:3b:00.0"] {
        assert_eq!(read(text), None, "{text}");
    }
}
