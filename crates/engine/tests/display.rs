//! `--take-display`: the host's desktop ends for a claim, and comes back with the card.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::time::Duration;

use engine::{
    ChangeInstance, ChangeMachine, ChangeSeat, ClaimRequest, CreateInstance, Engine, InstanceState,
};
use model::{ClaimState, Code, Host as _, RestartUnits, Seat, Step, UsbDevice};
use sim::{Fault, When};
use support::{GPU, NIC, Rig, register, request, wish};

fn take(wants: &[&str]) -> ClaimRequest {
    ClaimRequest { take_display: true, ..request("one", wants) }
}

fn words(engine: &Engine, request: &ClaimRequest) -> Vec<String> {
    let (_, plan) = engine.claims().dry_run(request).unwrap();
    plan.steps().map(Step::describe).collect()
}

#[test]
fn without_consent_all_that_draw_are_named() {
    let rig = Rig::on(sim::desktop());
    let (engine, _) = rig.open_recovered();
    let refusal = engine.claims().claim(&request("one", &[GPU])).unwrap_err();
    assert_eq!(refusal.code, Code::InUse);
    assert!(
        refusal.message.contains("Xorg (pid 950, session-2.scope of user 1000) (/dev/dri/card0)"),
        "{refusal:?}"
    );
    assert!(refusal.message.contains("xrdp (pid 951, xrdp.service)"), "{refusal:?}");
    assert!(refusal.remedy.contains("--take-display"), "{refusal:?}");
    assert_eq!(rig.host.snapshot(), rig.before);
}

#[test]
fn the_desktop_ends_for_the_claim_and_comes_back() {
    let rig = Rig::on(sim::desktop());
    let (engine, _) = rig.open_recovered();
    let planned = words(&engine, &take(&[GPU]));
    assert_eq!(
        planned[..8],
        [
            "stop gdm.service",
            "stop xrdp.service",
            "stop drawing the text console on 0000:01:00.0 (vtcon1)",
            "unbind simple-framebuffer.0 from simple-framebuffer",
            "unload the module nvidia_drm",
            "unload the module nvidia_modeset",
            "unload the module nvidia_uvm",
            "load vfio_iommu_type1",
        ]
    );
    assert_eq!(rig.host.snapshot(), rig.before);
    let claim = engine.claims().claim(&take(&[GPU])).unwrap().claim;
    let during = rig.host.snapshot();
    assert!(during.units.values().chain(during.drawn.values()).all(|on| !on), "{during:?}");
    assert!(rig.host.holders(&[GPU.parse().unwrap()]).unwrap().is_empty());
    assert_eq!(engine.claims().claim(&take(&[GPU])).unwrap().claim.id, claim.id);
    let notes = engine.claims().release(&claim.id.to_string(), None).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(rig.host.snapshot(), rig.before);
}

#[test]
fn a_request_without_a_card_is_refused() {
    let rig = Rig::on(sim::desktop());
    let (engine, _) = rig.open_recovered();
    let refusal = engine.claims().claim(&take(&[NIC])).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidRequest, "{refusal:?}");
    assert_eq!(rig.host.snapshot(), rig.before);
}

/// Whatever fails, the desktop is there again.
#[test]
fn a_failure_brings_the_desktop_back() {
    let fails: [fn(&Step) -> bool; 5] = [
        |step| matches!(step, Step::SetUnit { unit, to: false, .. } if unit == "xrdp.service"),
        |step| matches!(step, Step::SetConsole { to: false, .. }),
        |step| matches!(step, Step::SetFramebuffer { to: false, .. }),
        |step| matches!(step, Step::SetModule { module, to: false, .. } if module == "nvidia_uvm"),
        |step| matches!(step, Step::Bind { .. }),
    ];
    for (index, fail) in fails.into_iter().enumerate() {
        let rig = Rig::on(sim::desktop());
        let (engine, _) = rig.open_recovered();
        rig.host.fault(When::Step(Box::new(fail)), Fault::Refuse);
        let refusal = engine.claims().claim(&take(&[GPU])).unwrap_err();
        assert_eq!(refusal.code, Code::StepFailed, "{index}: {refusal:?}");
        assert_eq!(rig.host.snapshot(), rig.before, "{index}");
        assert!(engine.claims().all().unwrap().is_empty(), "{index}");
    }
}

/// What only draws is reported if it cannot come back; the card is released, and the display manager is started.
#[test]
fn a_console_that_does_not_come_back_is_a_note() {
    let rig = Rig::on(sim::desktop());
    let (engine, _) = rig.open_recovered();
    let claim = engine.claims().claim(&take(&[GPU])).unwrap().claim;
    let back: [fn(&Step) -> bool; 2] = [
        |step| matches!(step, Step::SetConsole { to: true, .. }),
        |step| matches!(step, Step::SetModule { to: true, .. }),
    ];
    for fails in back {
        rig.host.fault(When::Step(Box::new(fails)), Fault::Refuse);
    }
    let notes = engine.claims().release(&claim.id.to_string(), None).unwrap();
    assert!(notes.iter().any(|note| note.contains("vtcon1")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("load the module")), "{notes:?}");
    assert_eq!(rig.host.snapshot().units, rig.before.units);
    assert!(engine.claims().all().unwrap().is_empty());
}

#[test]
fn killed_at_any_boundary_the_desktop_is_there_or_the_claim() {
    let mut boundary = 0;
    loop {
        let rig = Rig::on(sim::desktop());
        let wanted = take(&[GPU, NIC]);
        let lived = rig.killed_at(boundary, |engine| {
            let claim = engine.claims().claim(&wanted).unwrap().claim;
            engine.claims().unprepare(&claim.id.to_string()).unwrap();
            let access = engine::Access {
                consent: engine::Consent::NONE.with_display(true),
                ..engine::Access::default()
            };
            engine.claims().prepare(&claim.id.to_string(), &access).unwrap();
            engine.claims().release(&claim.id.to_string(), None).unwrap();
        });
        let (engine, _) = rig.open_recovered();
        let why = format!("killed at boundary {boundary}");
        let claims = engine.claims().all().unwrap();
        if claims.iter().all(|claim| claim.state == model::ClaimState::Reserved) {
            assert_eq!(rig.host.snapshot(), rig.before, "{why}");
        } else {
            assert!(!rig.host.snapshot().units.values().any(|on| *on), "{why}");
        }
        for claim in claims {
            engine.claims().release(&claim.id.to_string(), None).unwrap();
        }
        assert_eq!(rig.host.snapshot(), rig.before, "{why}");
        if lived {
            break;
        }
        boundary += 1;
    }
    assert!(boundary > 60, "only {boundary} boundaries");
}

fn with_display(restart_units: RestartUnits) -> CreateInstance {
    let seat = Seat { take_display: true, restart_units, ..Seat::default() };
    CreateInstance { seat, ..wish("vm", &["gpu"]) }
}

/// A desktop with an image and registered devices.
fn ready() -> (Rig, Engine) {
    let rig = Rig::on(sim::desktop());
    let (engine, _) = rig.open_recovered();
    rig.import(&engine, "debian");
    register(&engine, "gpu", GPU).unwrap();
    register(&engine, "nic", NIC).unwrap();
    (rig, engine)
}

fn units(rig: &Rig) -> Vec<(String, bool)> {
    rig.host.snapshot().units.into_iter().collect()
}

fn runs(unit: &str, on: bool) -> (String, bool) {
    (unit.to_owned(), on)
}

/// The desktop is there whenever the machine does not run: after a stop, after the guest's own end, after `rm`.
#[test]
fn a_machine_has_the_display_as_long_as_it_runs() {
    let (rig, engine) = ready();
    let refusal = engine.instances().create(wish("vm", &["gpu"])).unwrap_err();
    assert!(refusal.remedy.contains("--take-display"), "{refusal:?}");
    let id = engine.instances().create(with_display(RestartUnits::AtEnd)).unwrap().id;
    assert_eq!(units(&rig), [runs("gdm.service", false), runs("xrdp.service", false)]);
    engine.instances().stop("vm").unwrap();
    assert_eq!(rig.host.snapshot(), rig.before);
    engine.instances().start("vm").unwrap();
    assert!(!rig.host.snapshot().drawn.values().any(|on| *on));
    rig.launcher.exit(id, 0);
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while rig.host.snapshot() != rig.before {
        assert!(std::time::Instant::now() < until, "the guest's end brings the desktop back");
        std::thread::sleep(Duration::from_millis(10));
    }
    engine.instances().start("vm").unwrap();
    engine.instances().delete("vm").unwrap();
    assert_eq!(rig.host.snapshot(), rig.before);
}

/// A machine that does not start gives the desktop back.
#[test]
fn a_failed_start_brings_the_desktop_back() {
    let (rig, engine) = ready();
    rig.launcher.refuse_next("no KVM");
    engine.instances().create(with_display(RestartUnits::AtEnd)).unwrap_err();
    assert_eq!(rig.host.snapshot(), rig.before);
    engine.instances().create(with_display(RestartUnits::AtEnd)).unwrap();
    engine.instances().stop("vm").unwrap();
    rig.launcher.refuse_next("no KVM");
    engine.instances().start("vm").unwrap_err();
    assert_eq!(rig.host.snapshot(), rig.before);
    assert_eq!(engine.instances().find("vm").unwrap().state, InstanceState::Stopped);
}

/// Services run again beside the machine; the display manager waits for its end.
#[test]
fn services_can_run_again_after_the_start() {
    let (rig, engine) = ready();
    engine.instances().create(with_display(RestartUnits::AfterStart)).unwrap();
    assert_eq!(units(&rig), [runs("gdm.service", false), runs("xrdp.service", true)]);
    engine.instances().stop("vm").unwrap();
    assert_eq!(rig.host.snapshot(), rig.before);
}

#[test]
fn killed_at_any_boundary_of_a_machines_life_the_desktop_comes_back() {
    for boundary in 0.. {
        let (rig, engine) = ready();
        drop(engine);
        let lived = rig.killed_at(boundary, |engine| {
            engine.instances().create(with_display(RestartUnits::AfterStart)).unwrap();
            engine.instances().stop("vm").unwrap();
            engine.instances().start("vm").unwrap();
            engine.instances().delete("vm").unwrap();
        });
        let why = format!("killed at boundary {boundary}");
        let (engine, _) = rig.open_recovered();
        let runs = !rig.launcher.running().is_empty();
        let prepared =
            engine.claims().all().unwrap().iter().any(|one| one.state == ClaimState::Prepared);
        assert_eq!(prepared, runs, "{why}");
        assert_eq!(rig.host.snapshot() == rig.before, !runs, "{why}");
        if engine.instances().find("vm").is_ok() {
            engine.instances().delete("vm").unwrap();
        }
        assert_eq!(rig.host.snapshot(), rig.before, "{why}");
        if lived {
            assert!(boundary > 100, "only {boundary} boundaries");
            return;
        }
    }
}

/// USB devices are found again at each start, and are one machine's at a time.
#[test]
fn usb_devices_are_found_at_each_start() {
    let (rig, engine) = ready();
    let stick = |name: &str, number| UsbDevice {
        name: name.into(),
        vendor: 0x1234,
        product: 1,
        bus: 1,
        number,
        ..UsbDevice::default()
    };
    let wanted = |name: &str| {
        let usb = vec!["1234:0001".parse().unwrap()];
        CreateInstance { seat: Seat { usb, ..Seat::default() }, ..wish(name, &[]) }
    };
    let refusal = engine.instances().create(wanted("vm")).unwrap_err();
    assert_eq!(refusal.code, Code::DeviceNotFound, "{refusal:?}");
    assert!(engine.instances().find("vm").is_err(), "nothing is left");
    rig.host.set_usb(vec![stick("1-1", 4)]);
    engine.instances().create(wanted("vm")).unwrap();
    let given = |engine: &Engine| engine.instances().find("vm").unwrap().options.seat.given;
    assert_eq!(given(&engine)[0].node(), "/dev/bus/usb/001/004");
    let refusal = engine.instances().create(wanted("other")).unwrap_err();
    assert_eq!(refusal.code, Code::InUse, "{refusal:?}");
    engine.instances().stop("vm").unwrap();
    assert!(given(&engine).is_empty());
    // Plugged in elsewhere.
    rig.host.set_usb(vec![stick("1-2", 9)]);
    engine.instances().start("vm").unwrap();
    assert_eq!(given(&engine)[0].node(), "/dev/bus/usb/001/009");
    // A running machine that is deleted gives them back, too.
    let before = rig.host.reattached().len();
    engine.instances().delete("vm").unwrap();
    assert_eq!(rig.host.reattached().len(), before + 1);
    engine.instances().create(wanted("vm")).unwrap();
    let usb = Some(Vec::new());
    let seat = ChangeSeat { usb, ..ChangeSeat::default() };
    let machine = ChangeMachine { seat, ..ChangeMachine::default() };
    engine.instances().stop("vm").unwrap();
    engine
        .instances()
        .change("vm", ChangeInstance { machine, ..ChangeInstance::default() })
        .unwrap();
    rig.host.set_usb(Vec::new());
    engine.instances().start("vm").unwrap();
}
