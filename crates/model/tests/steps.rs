//! The facts of all kinds of steps are consistent, and the journal's format is stable.

#![allow(clippy::unwrap_used, missing_docs)]

use model::{LocksBesides, NodeAccess, PowerControl, Step, StepKind, VfSettings, VfioNode};
use uuid::Uuid;

const JOURNAL: [(StepKind, &str); 29] = [
    (
        StepKind::Mark,
        r#"{"step":"mark","address":"0000:01:00.0","mark":{"store":"00000000-0000-0000-0000-000000000001","claim":"00000000-0000-0000-0000-000000000002","state_dir":"/var/lib/handover"}}"#,
    ),
    (
        StepKind::Unmark,
        r#"{"step":"unmark","address":"0000:01:00.0","mark":{"store":"00000000-0000-0000-0000-000000000001","claim":"00000000-0000-0000-0000-000000000002","state_dir":"/var/lib/handover"}}"#,
    ),
    (StepKind::LoadModule, r#"{"step":"load_module","module":"vfio_pci"}"#),
    (
        StepKind::SetOverride,
        r#"{"step":"set_override","address":"0000:01:00.0","from":null,"to":"vfio-pci"}"#,
    ),
    (StepKind::Unbind, r#"{"step":"unbind","address":"0000:01:00.0","driver":"nvme"}"#),
    (StepKind::Bind, r#"{"step":"bind","address":"0000:01:00.0","driver":"vfio-pci"}"#),
    (StepKind::Return, r#"{"step":"return","address":"0000:01:00.0","driver":"nvme"}"#),
    (
        StepKind::SetPower,
        r#"{"step":"set_power","address":"0000:01:00.0","from":"auto","to":"on"}"#,
    ),
    (
        StepKind::GrantGroup,
        r#"{"step":"grant_group","address":"0000:01:00.0","group":7,"from":{"uid":0,"gid":0,"mode":384},"to":{"uid":200000,"gid":0,"mode":384}}"#,
    ),
    (
        StepKind::GrantNode,
        r#"{"step":"grant_node","address":"0000:01:00.0","node":{"mdev_group":"00000000-0000-0000-0000-000000000001"},"from":{"uid":0,"gid":0,"mode":384},"to":{"uid":200000,"gid":0,"mode":384}}"#,
    ),
    (
        StepKind::Evict,
        r#"{"step":"evict","address":"0000:01:00.0","pid":42,"started":7,"user":"sleep"}"#,
    ),
    (
        StepKind::SetPersistence,
        r#"{"step":"set_persistence","address":"0000:01:00.0","from":true,"to":false}"#,
    ),
    (
        StepKind::SetUnit,
        r#"{"step":"set_unit","address":"0000:01:00.0","unit":"a.service","from":true,"to":false}"#,
    ),
    (
        StepKind::Reset,
        r#"{"step":"reset","address":"0000:01:00.0","domain":["0000:01:00.0"],"link":{"speed":160,"width":16}}"#,
    ),
    (StepKind::SetVfCount, r#"{"step":"set_vf_count","address":"0000:01:00.0","from":0,"to":4}"#),
    (
        StepKind::SetAutoprobe,
        r#"{"step":"set_autoprobe","address":"0000:01:00.0","from":true,"to":false}"#,
    ),
    (
        StepKind::SetVf,
        r#"{"step":"set_vf","address":"0000:01:00.1","parent":"0000:01:00.0","index":0,"from":{"mac":null,"vlan":null,"qos":null,"trust":false,"spoof_check":null,"min_rate":null,"max_rate":null},"to":{"mac":null,"vlan":null,"qos":null,"trust":true,"spoof_check":null,"min_rate":null,"max_rate":null}}"#,
    ),
    (
        StepKind::CreateMdev,
        r#"{"step":"create_mdev","address":"0000:01:00.0","uuid":"00000000-0000-0000-0000-000000000001","type_id":"nvidia-63"}"#,
    ),
    (
        StepKind::RemoveMdev,
        r#"{"step":"remove_mdev","address":"0000:01:00.0","uuid":"00000000-0000-0000-0000-000000000001","type_id":"nvidia-63"}"#,
    ),
    (
        StepKind::SetMdevAttribute,
        r#"{"step":"set_mdev_attribute","address":"0000:01:00.0","uuid":"00000000-0000-0000-0000-000000000001","name":"nvidia/vgpu_params","value":"a=1"}"#,
    ),
    (
        StepKind::DefineMdev,
        r#"{"step":"define_mdev","address":"0000:01:00.0","uuid":"00000000-0000-0000-0000-000000000001","type_id":"nvidia-63","attributes":[["a","1"]]}"#,
    ),
    (
        StepKind::UndefineMdev,
        r#"{"step":"undefine_mdev","address":"0000:01:00.0","uuid":"00000000-0000-0000-0000-000000000001","type_id":"nvidia-63","attributes":[["a","1"]]}"#,
    ),
    (
        StepKind::AddToBootList,
        r#"{"step":"add_to_boot_list","address":"0000:01:00.0","vendor":"10de","device":"1234","driver":"vfio-pci"}"#,
    ),
    (
        StepKind::RemoveFromBootList,
        r#"{"step":"remove_from_boot_list","address":"0000:01:00.0","vendor":"10de","device":"1234","driver":"vfio-pci"}"#,
    ),
    (StepKind::SetVgpu, r#"{"step":"set_vgpu","address":"0000:01:00.0","from":0,"to":1155}"#),
    (
        StepKind::SetConsole,
        r#"{"step":"set_console","address":"0000:01:00.0","console":1,"from":true,"to":false}"#,
    ),
    (
        StepKind::SetFramebuffer,
        r#"{"step":"set_framebuffer","address":"0000:01:00.0","device":"simple-framebuffer.0","driver":"simple-framebuffer","from":true,"to":false}"#,
    ),
    (
        StepKind::SetModule,
        r#"{"step":"set_module","address":"0000:01:00.0","module":"nvidia_drm","from":true,"to":false}"#,
    ),
    (
        StepKind::SetFabricSet,
        r#"{"step":"set_fabric_set","address":"0000:01:00.0","set":3,"from":false,"to":true}"#,
    ),
];

/// One step of each kind, parsed as from the journal.
fn one_of_each() -> Vec<Step> {
    JOURNAL.iter().map(|(_, text)| serde_json::from_str(text).unwrap()).collect()
}

/// The journal of an earlier version can be read, and is written back byte for byte.
#[test]
fn the_journals_words_stay() {
    let kinds: Vec<StepKind> = JOURNAL.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, StepKind::ALL, "one line here for each kind");
    for (kind, text) in JOURNAL {
        let step: Step = serde_json::from_str(text).unwrap();
        assert_eq!(step.kind(), kind, "{text}");
        assert_eq!(serde_json::to_string(&step).unwrap(), text);
        assert!(text.contains(&format!("\"step\":\"{}\"", kind.facts().name)), "{text}");
    }
}

#[test]
fn a_step_and_its_inverse_undo_each_other() {
    for step in one_of_each() {
        let facts = step.facts();
        let inverse = step.inverse();
        assert_eq!(inverse.as_ref().map(Step::kind), facts.undone_by, "{step:?}");
        let Some(inverse) = inverse else { continue };
        assert_eq!(inverse.address(), step.address(), "{step:?}");
        assert!(!step.changes_nothing(), "{step:?}");
        // A bound function was unbound before, and is returned to another driver.
        if step.kind() != StepKind::Bind {
            assert_eq!(inverse.inverse(), Some(step));
        }
    }
}

/// Exactly the kinds that undo have a position in the undo order.
#[test]
fn every_kind_that_undoes_has_its_place() {
    for kind in StepKind::ALL {
        let undoes = StepKind::ALL.iter().any(|other| other.facts().undone_by == Some(*kind));
        assert_eq!(kind.facts().undo_order.is_some(), undoes, "{kind:?}");
    }
}

/// Evictions and resets are never part of an undo: they neither undo nor are undone.
#[test]
fn neither_an_eviction_nor_a_reset_is_part_of_a_way_back() {
    for kind in [StepKind::Evict, StepKind::Reset] {
        assert_eq!(kind.facts().undone_by, None);
        assert_eq!(kind.facts().undo_order, None);
    }
    assert!(
        model::restoring(&one_of_each())
            .iter()
            .all(|step| !matches!(step, Step::Evict { .. } | Step::Reset { .. }))
    );
}

#[test]
fn a_step_that_leaves_all_as_it_is_says_so() {
    let address = "0000:01:00.0".parse().unwrap();
    let vfio = || Some("vfio-pci".to_owned());
    assert!(Step::SetOverride { address, from: vfio(), to: vfio() }.changes_nothing());
    assert!(!Step::SetOverride { address, from: None, to: vfio() }.changes_nothing());
    let (from, to) = (PowerControl::On, PowerControl::On);
    assert!(Step::SetPower { address, from, to }.changes_nothing());
    assert!(!Step::LoadModule { module: "vfio_pci".into() }.changes_nothing());
}

#[test]
fn changes_of_different_parts_of_a_function_are_distinguished() {
    let address = "0000:01:00.0".parse().unwrap();
    let create = |number| Step::CreateMdev {
        address,
        uuid: Uuid::from_u128(number),
        type_id: "nvidia-63".into(),
    };
    assert!(create(1).changes_the_same(&create(1)));
    assert!(!create(1).changes_the_same(&create(2)));
    let access = NodeAccess::KERNEL_DEFAULT;
    let grant = |node| Step::GrantNode { address, node, from: access, to: access };
    assert!(grant(VfioNode::Device).changes_the_same(&grant(VfioNode::Device)));
    assert!(!grant(VfioNode::Device).changes_the_same(&grant(VfioNode::MdevGroup(Uuid::nil()))));
    let unit = |unit: &str| Step::SetUnit { address, unit: unit.into(), from: true, to: false };
    assert!(unit("a.service").changes_the_same(&unit("a.service")));
    assert!(!unit("a.service").changes_the_same(&unit("b.service")));
    let load = Step::LoadModule { module: "vfio_pci".into() };
    assert!(!load.changes_the_same(&load));
}

/// The desktop comes back when there is a card to draw on, and in the reverse order of its end.
#[test]
fn a_display_is_restored_after_its_card() {
    let address: model::Address = "0000:01:00.0".parse().unwrap();
    let unit = |unit: &str| Step::SetUnit { address, unit: unit.into(), from: true, to: false };
    let module =
        |module: &str| Step::SetModule { address, module: module.into(), from: true, to: false };
    let (device, driver) = ("simple-framebuffer.0".to_owned(), "simple-framebuffer".to_owned());
    let done = [
        unit("gdm.service"),
        unit("xrdp.service"),
        Step::SetConsole { address, console: 1, from: true, to: false },
        Step::SetFramebuffer { address, device, driver, from: true, to: false },
        module("nvidia_drm"),
        module("nvidia_modeset"),
        Step::Unbind { address, driver: "nvidia".into() },
        Step::Bind { address, driver: "vfio-pci".into() },
    ];
    let words: Vec<String> = model::restoring(&done).iter().map(Step::describe).collect();
    assert_eq!(
        words,
        [
            "unbind 0000:01:00.0 from vfio-pci",
            "return 0000:01:00.0 to nvidia",
            "load the module nvidia_modeset",
            "load the module nvidia_drm",
            "bind simple-framebuffer.0 to simple-framebuffer",
            "draw the text console on 0000:01:00.0 again (vtcon1)",
            "start xrdp.service",
            "start gdm.service",
        ]
    );
}

#[test]
fn the_locks_of_a_step_are_its_own_and_what_its_kind_says() {
    use model::Lock::{Function, Host};
    let address: model::Address = "0000:01:00.0".parse().unwrap();
    let other: model::Address = "0000:01:00.1".parse().unwrap();
    let reset = Step::Reset { address, domain: vec![address, other], link: None };
    assert_eq!(reset.lock(), Function(address));
    assert_eq!(reset.locks_besides(), [Function(address), Function(other)]);
    let count = Step::SetVfCount { address, from: 0, to: 4 };
    assert_eq!((count.lock(), count.locks_besides()), (Function(address), vec![Host]));
    let back = Step::Return { address, driver: "nvme".into() };
    assert_eq!(back.facts().locks_besides, LocksBesides::HostToRescan);
    assert_eq!((back.lock(), back.locks_besides()), (Function(address), vec![]));
    let settings = VfSettings { trust: Some(true), ..VfSettings::default() };
    let (from, to) = (VfSettings::default(), settings);
    let told = Step::SetVf { address: other, parent: address, index: 0, from, to };
    assert_eq!((told.lock(), told.locks_besides()), (Function(other), vec![]));
    assert_eq!(Step::LoadModule { module: "vfio_pci".into() }.lock(), Host);
    for step in one_of_each() {
        let more = match step.facts().locks_besides {
            LocksBesides::None | LocksBesides::HostToRescan => false,
            LocksBesides::Host | LocksBesides::Domain => true,
        };
        assert_eq!(!step.locks_besides().is_empty(), more, "{step:?}");
    }
}
