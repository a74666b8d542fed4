//! Claims of GPUs in a mode.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use model::Code;
use support::{GPU, Rig, at, claim, refused};

#[test]
fn a_gpu_in_another_mode_than_asked_for_is_refused_with_the_command() {
    let rig = Rig::new();
    let (engine, _) = rig.open_recovered();
    let unknown = refused(&engine, "one", &["gpu,ecc=on"]);
    assert_eq!(unknown.code, Code::InsufficientResources, "{unknown}");
    let modes = model::GpuModes { ecc: Some(true), mig: Some(true), cc: None };
    rig.host.set_modes(at(GPU), modes);
    let other = refused(&engine, "one", &[&format!("{GPU},mig=off")]);
    assert!(other.message.contains("MIG"), "{other}");
    assert!(other.remedy.contains("nvidia-smi -i 0000:01:00.0 -mig 0"), "{other:?}");
    let both = refused(&engine, "one", &["gpu,ecc=on", "gpu,ecc=off"]);
    assert_eq!(both.code, Code::InvalidRequest, "{both}");
    let made = claim(&engine, "one", &["gpu,ecc=on"]);
    assert!(made.holds(at(GPU)), "{made:?}");
    engine.claims().release("job/one", None).unwrap();
    rig.assert_untouched("after the release");
}
