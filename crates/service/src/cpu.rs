//! The processors of a machine: requests, and how they are shown.

use model::{Cpu, GuestOs, Refusal, Topology};

use crate::refusals::invalid;

/// What the fields `cpu` and `os` ask for.
pub fn cpu(wanted: Option<&api::Cpu>, os: Option<&str>) -> Result<Cpu, Refusal> {
    let nothing = api::Cpu::default();
    let wanted = wanted.unwrap_or(&nothing);
    let os = os.map(|name| {
        let known = GuestOs::ALL.into_iter().find(|os| os.as_str() == name);
        known.ok_or_else(|| {
            let names = GuestOs::ALL.map(GuestOs::as_str).join(" or ");
            invalid(format!("unknown operating system {name:?}"), format!("use {names}"))
        })
    });
    Ok(Cpu {
        topology: topology(wanted, None)?,
        hide_kvm: wanted.hide_kvm.unwrap_or_default(),
        os: os.transpose()?.unwrap_or_default(),
    })
}

/// What a change of the field `cpu` asks for: an arrangement, and whether KVM is hidden. What is left out stays as it was.
pub fn change(
    wanted: Option<&api::Cpu>,
    before: Option<Topology>,
) -> Result<(Option<Topology>, Option<bool>), Refusal> {
    let Some(wanted) = wanted else { return Ok((None, None)) };
    Ok((topology(wanted, before)?, wanted.hide_kvm))
}

fn topology(wanted: &api::Cpu, before: Option<Topology>) -> Result<Option<Topology>, Refusal> {
    let parts = [wanted.sockets, wanted.cores, wanted.threads];
    if parts.contains(&Some(0)) {
        return Err(invalid(
            "a machine cannot have 0 sockets, cores or threads",
            "use 1 or more, or leave it out",
        ));
    }
    let before = before.unwrap_or(Topology { sockets: 1, cores: 1, threads: 1 });
    Ok(parts.iter().any(Option::is_some).then(|| Topology {
        sockets: wanted.sockets.unwrap_or(before.sockets),
        cores: wanted.cores.unwrap_or(before.cores),
        threads: wanted.threads.unwrap_or(before.threads),
    }))
}

/// The processors; `None` if nothing but their number was asked for.
pub fn shown(cpu: &Cpu) -> Option<api::Cpu> {
    let of = |part: fn(&Topology) -> u32| cpu.topology.as_ref().map(part);
    (cpu.topology.is_some() || cpu.hide_kvm).then(|| api::Cpu {
        sockets: of(|topology| topology.sockets),
        cores: of(|topology| topology.cores),
        threads: of(|topology| topology.threads),
        hide_kvm: Some(cpu.hide_kvm),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_of_a_topology_is_one() {
        let wanted = api::Cpu { cores: Some(8), ..api::Cpu::default() };
        let cpu = cpu(Some(&wanted), Some("windows")).unwrap();
        assert_eq!(cpu.topology, Some(Topology { sockets: 1, cores: 8, threads: 1 }));
        assert_eq!(cpu.os, GuestOs::Windows);
        let shown = shown(&cpu).unwrap();
        assert_eq!((shown.sockets, shown.cores, shown.threads), (Some(1), Some(8), Some(1)));
    }

    #[test]
    fn a_change_keeps_what_it_leaves_out() {
        let wanted = api::Cpu { cores: Some(8), ..api::Cpu::default() };
        let before = Topology { sockets: 1, cores: 4, threads: 2 };
        let (changed, hide_kvm) = change(Some(&wanted), Some(before)).unwrap();
        assert_eq!(changed, Some(Topology { sockets: 1, cores: 8, threads: 2 }));
        assert_eq!(hide_kvm, None);
    }

    #[test]
    fn nothing_asked_is_nothing_shown() {
        let cpu = cpu(None, None).unwrap();
        assert_eq!((cpu, shown(&cpu)), (Cpu::default(), None));
        assert!(super::cpu(None, Some("dos")).unwrap_err().remedy.contains("windows"));
        let none = api::Cpu { threads: Some(0), ..api::Cpu::default() };
        assert!(super::cpu(Some(&none), None).is_err());
    }
}
