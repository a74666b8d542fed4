//! The events of a history, and its generation from a seed.

use serde::{Deserialize, Serialize};

/// A kind of hardware, and the events on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct History {
    pub on: Hardware,
    pub events: Vec<Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Hardware {
    Workstation,
    Server,
    Gpus,
    /// The same GPUs behind NVSwitches, which isolate sets of them.
    Board,
    /// The workstation, with a desktop on its first GPU.
    Desktop,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// A verb; something else happens at its n-th boundary.
    Do {
        verb: Verb,
        meanwhile: Option<(u16, Meanwhile)>,
    },
    /// The daemon is killed at boundary `at` of the verb, and at boundary `again` of the recovery after it.
    Crash {
        verb: Verb,
        meanwhile: Option<(u16, Meanwhile)>,
        at: u16,
        again: u16,
    },
    /// A power loss at boundary `at` of the verb: unsynced data is lost.
    PowerCut {
        verb: Verb,
        at: u16,
    },
    Outside(Outside),
    Restart,
    Reboot,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Meanwhile {
    Verb(Verb),
    Outside(Outside),
    /// The daemon is asked to stop: running operations are cancelled.
    GiveUp,
    /// Another process locks the store for this many boundaries, or until the verb ends.
    Unwritable {
        boundaries: u16,
    },
}

/// A call to the engine. An owner can have several claims: `nth` is taken modulo their number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Verb {
    Claim {
        owner: String,
        wants: Vec<String>,
        how: How,
    },
    Prepare {
        owner: String,
        nth: u8,
        how: How,
    },
    Unprepare {
        owner: String,
        nth: u8,
    },
    Release {
        owner: String,
        nth: u8,
    },
    Renew {
        owner: String,
        nth: u8,
        over: bool,
    },
    Sriov {
        address: String,
        count: u16,
        autoprobe: bool,
    },
    Create {
        name: String,
        devices: Vec<String>,
        profile: Option<String>,
        #[serde(default)]
        take_display: bool,
    },
    Start {
        name: String,
    },
    Stop {
        name: String,
    },
    Delete {
        name: String,
    },
    RecoverDevices {
        address: Option<String>,
    },
    Reconcile,
    Expire,
    LookAfter,
    Clear {
        address: String,
    },
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct How {
    pub reserve: bool,
    pub over: bool,
    pub alone: bool,
    pub reset: bool,
    pub evict: bool,
    pub user: bool,
    #[serde(default)]
    pub define: bool,
    #[serde(default)]
    pub at_boot: bool,
    #[serde(default)]
    pub force_network: bool,
    #[serde(default)]
    pub take_display: bool,
}

/// An event by other tools, people, programs or hardware.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Outside {
    Unbind {
        address: String,
    },
    Return {
        address: String,
    },
    Override {
        address: String,
        driver: Option<String>,
    },
    /// A script leaves the device on vfio-pci.
    Script {
        address: String,
    },
    MakeMdev {
        address: String,
        number: u8,
        type_id: String,
    },
    RemoveMdev {
        number: u8,
    },
    VfCount {
        address: String,
        count: u16,
    },
    Vgpu {
        address: String,
        type_id: u32,
    },
    /// A machine that is not ours opens the function's IOMMU group.
    Stray {
        address: String,
        pid: u32,
    },
    /// A program starts to use the function.
    Hold {
        address: String,
        pid: u32,
        stubborn: bool,
    },
    LetGo {
        pid: u32,
    },
    /// The host's network starts to use the function's interface, or ends it.
    Network {
        address: String,
        up: bool,
    },
    HideHolders {
        hidden: bool,
    },
    Remove {
        address: String,
    },
    Pull {
        address: String,
    },
    Plug {
        address: String,
        another: bool,
    },
    LoseLink {
        address: String,
    },
    RegainLink {
        address: String,
    },
    /// From now on, `per_mille` of the steps fail, by these kinds of [`sim::Fault::ALL`].
    Dice {
        seed: u64,
        per_mille: u16,
        kinds: Vec<u8>,
    },
    ClearFaults,
    /// Steps that hang in the kernel continue.
    GoOn,
    GuestExits {
        name: String,
    },
    RefuseLaunch,
    RefuseRemoval,
    Unknown {
        name: String,
        unknown: bool,
    },
}

/// A pseudo-random number generator (SplitMix64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn one_in(&mut self, most: u64) -> bool {
        self.below(most) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    fn word(&mut self, from: &[&str]) -> String {
        (*self.pick(from)).to_owned()
    }

    fn small(&mut self, most: u64) -> u16 {
        u16::try_from(self.below(most)).unwrap()
    }
}

/// What events can name on a kind of hardware.
struct Names {
    functions: &'static [&'static str],
    wants: &'static [&'static str],
    /// Functions that support virtual functions, and how many.
    physical: &'static [(&'static str, u16)],
    profiles: &'static [&'static str],
}

const WORKSTATION: Names = Names {
    functions: &[
        "0000:01:00.0",
        "0000:01:00.1",
        "0000:02:00.0",
        "0000:02:00.1",
        "0000:03:00.0",
        "0000:04:00.0",
    ],
    wants: &[
        "0000:01:00.0",
        "0000:01:00.1",
        "0000:02:00.0",
        "0000:02:00.1",
        "0000:03:00.0",
        "0000:04:00.0",
        "gpu",
        "2xgpu",
        "nic",
        "nvme",
        "10de:2204",
        "dev0",
        "dev2",
    ],
    physical: &[],
    profiles: &[],
};

const SERVER: Names = Names {
    functions: &[
        "0000:01:00.0",
        "0000:02:00.0",
        "0000:03:00.0",
        "0000:04:00.0",
        "0000:05:00.0",
        "0000:05:00.1",
        "0000:01:10.0",
        "0000:01:10.1",
        "0000:02:10.0",
        "0000:04:10.0",
        "0000:04:10.1",
    ],
    wants: &[
        "0000:01:00.0",
        "0000:02:00.0",
        "0000:03:00.0",
        "0000:04:00.0",
        "0000:05:00.0",
        "0000:01:10.1",
        "0000:04:10.0",
        "gpu",
        "nic",
        "nvme",
        "vf@0000:01:00.0",
        "2xvf@0000:01:00.0,vlan=100,trust=on",
        "vf@0000:01:00.0,mac=52:54:00:12:34:56,max_tx_rate=100",
        "vf@0000:02:00.0",
        "vf@0000:04:00.0",
        "profile=A100-4C",
        "2xprofile=A100-10C",
        "profile=A100-40C",
        "profile=A100-4C,nvidia/vgpu_params=frame_rate_limiter=0",
        "profile=L40S-4Q",
        "2xprofile=L40S-8Q",
        "profile=L40S-48Q@0000:04:00.0",
        "mdev=00000000-0000-0000-0000-0000000f0000",
        "mdev=00000000-0000-0000-0000-0000000f0001",
    ],
    physical: &[("0000:01:00.0", 8), ("0000:02:00.0", 4), ("0000:04:00.0", 16)],
    profiles: &["A100-4C", "A100-10C", "L40S-8Q"],
};

const GPUS: Names = Names {
    functions: &[
        "0000:11:00.0",
        "0000:11:01.0",
        "0000:12:00.0",
        "0000:12:01.0",
        "0000:21:00.0",
        "0000:22:01.0",
    ],
    wants: &[
        "0000:11:00.0",
        "0000:11:01.0",
        "0000:12:00.0",
        "0000:22:01.0",
        "accelerator",
        "gpu",
        "2xgpu",
        "3x10de:20b0",
        "8x10de:20b0",
        "dev0",
        "dev1",
    ],
    physical: &[],
    profiles: &[],
};

const OWNERS: [&str; 3] = ["a", "b", "c"];
const MACHINES: [&str; 2] = ["vm", "box"];
const DEVICES: [&str; 4] = ["dev0", "dev1", "dev2", "dev3"];

impl History {
    /// Generates the history of a seed.
    pub fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let on = *dice.pick(&[
            Hardware::Workstation,
            Hardware::Server,
            Hardware::Server,
            Hardware::Server,
            Hardware::Gpus,
            Hardware::Board,
            Hardware::Desktop,
        ]);
        let names = match on {
            Hardware::Workstation | Hardware::Desktop => &WORKSTATION,
            Hardware::Server => &SERVER,
            Hardware::Gpus | Hardware::Board => &GPUS,
        };
        let mut events = Vec::new();
        // Many partitions need virtual functions, so some histories start with them.
        for (address, total) in names.physical {
            if !dice.one_in(3) {
                let (address, count) = ((*address).to_owned(), 1 + dice.small((*total).into()));
                let verb = Verb::Sriov { address, count, autoprobe: dice.one_in(2) };
                events.push(Event::Do { verb, meanwhile: None });
            }
        }
        if dice.one_in(2) {
            events.push(Event::Outside(names.dice(&mut dice)));
        }
        let length = 4 + dice.below(9);
        for _ in 0..length {
            events.push(names.event(&mut dice));
        }
        Self { on, events }
    }
}

impl Names {
    fn event(&self, dice: &mut Dice) -> Event {
        match dice.below(20) {
            0..=7 => Event::Do { verb: self.verb(dice), meanwhile: self.meanwhile(dice) },
            8..=11 => Event::Crash {
                verb: self.verb(dice),
                meanwhile: if dice.one_in(3) { self.meanwhile(dice) } else { None },
                at: dice.small(50),
                again: dice.small(40),
            },
            12 => Event::PowerCut { verb: self.verb(dice), at: dice.small(50) },
            13..=17 => Event::Outside(self.outside(dice)),
            18 => Event::Restart,
            _ => Event::Reboot,
        }
    }

    fn meanwhile(&self, dice: &mut Dice) -> Option<(u16, Meanwhile)> {
        if dice.one_in(2) {
            return None;
        }
        let at = dice.small(40);
        Some((
            at,
            match dice.below(18) {
                0 => Meanwhile::GiveUp,
                16..=17 => Meanwhile::Unwritable { boundaries: dice.small(30) },
                1..=5 => Meanwhile::Outside(self.outside(dice)),
                _ => Meanwhile::Verb(self.verb(dice)),
            },
        ))
    }

    fn verb(&self, dice: &mut Dice) -> Verb {
        let owner = dice.word(&OWNERS);
        let name = dice.word(&MACHINES);
        let nth = u8::try_from(dice.below(3)).unwrap();
        match dice.below(34) {
            0..=9 => Verb::Claim { owner, wants: self.wants(dice), how: how(dice) },
            10..=12 => Verb::Prepare { owner, nth, how: how(dice) },
            13..=14 => Verb::Unprepare { owner, nth },
            15..=19 => Verb::Release { owner, nth },
            20 => Verb::Renew { owner, nth, over: dice.one_in(2) },
            21..=23 => self.sriov(dice).unwrap_or(Verb::Reconcile),
            24..=25 => self.create(dice, name),
            26 => Verb::Start { name },
            27 => Verb::Stop { name },
            28 => Verb::Delete { name },
            29 => Verb::RecoverDevices {
                address: (!dice.one_in(2)).then(|| dice.word(self.functions)),
            },
            30 => Verb::Reconcile,
            31 => Verb::Expire,
            32 => Verb::LookAfter,
            _ => Verb::Clear { address: dice.word(self.functions) },
        }
    }

    fn wants(&self, dice: &mut Dice) -> Vec<String> {
        let many = if dice.one_in(3) { 2 } else { 1 };
        (0..many).map(|_| dice.word(self.wants)).collect()
    }

    fn sriov(&self, dice: &mut Dice) -> Option<Verb> {
        if self.physical.is_empty() {
            return None;
        }
        let (address, total) = *dice.pick(self.physical);
        let count = if dice.one_in(4) { 0 } else { 1 + dice.small(total.into()) };
        Some(Verb::Sriov { address: address.into(), count, autoprobe: dice.one_in(2) })
    }

    fn create(&self, dice: &mut Dice, name: String) -> Verb {
        let mut devices: Vec<String> = (0..dice.below(3)).map(|_| dice.word(&DEVICES)).collect();
        devices.sort();
        devices.dedup();
        let profile =
            (!self.profiles.is_empty() && dice.one_in(2)).then(|| dice.word(self.profiles));
        let take_display = dice.one_in(2);
        Verb::Create { name, devices, profile, take_display }
    }

    fn outside(&self, dice: &mut Dice) -> Outside {
        let address = dice.word(self.functions);
        let pid = 4000 + u32::from(dice.small(3));
        let name = dice.word(&MACHINES);
        match dice.below(40) {
            0..=7 => self.dice(dice),
            8..=9 => Outside::ClearFaults,
            10..=12 => Outside::GoOn,
            13 => Outside::Unbind { address },
            14 => Outside::Return { address },
            15 => Outside::Override {
                address,
                driver: dice.pick(&[None, Some("vfio-pci"), Some("pci-stub")]).map(Into::into),
            },
            16 => Outside::Script { address },
            17..=18 => self.part(dice).unwrap_or(Outside::GoOn),
            19..=20 => self.part(dice).unwrap_or(Outside::ClearFaults),
            21..=23 => Outside::Stray { address, pid },
            24 => Outside::Hold { address, pid, stubborn: dice.one_in(2) },
            25 => Outside::Network { address, up: !dice.one_in(3) },
            26..=27 => Outside::LetGo { pid },
            28 => Outside::HideHolders { hidden: dice.one_in(2) },
            29 => Outside::Remove { address },
            30..=31 => Outside::Pull { address },
            32..=33 => Outside::Plug { address, another: dice.one_in(2) },
            34 => Outside::LoseLink { address },
            35 => Outside::RegainLink { address },
            36 => Outside::GuestExits { name },
            37 => Outside::RefuseLaunch,
            38 => Outside::RefuseRemoval,
            _ => Outside::Unknown { name, unknown: dice.one_in(2) },
        }
    }

    /// An event of another tool on a partition.
    fn part(&self, dice: &mut Dice) -> Option<Outside> {
        let (address, total) = *self.physical.get(dice.below(3) as usize)?;
        let number = u8::try_from(dice.below(2)).unwrap();
        Some(match dice.below(6) {
            0..=2 => Outside::MakeMdev {
                address: "0000:03:00.0".into(),
                number,
                type_id: dice.word(&["nvidia-468", "nvidia-470"]),
            },
            3 => Outside::RemoveMdev { number },
            4 => Outside::VfCount {
                address: address.into(),
                count: dice.small(u64::from(total) + 1),
            },
            _ => Outside::Vgpu {
                address: "0000:04:10.0".into(),
                type_id: *dice.pick(&[0, 1155, 1157]),
            },
        })
    }

    fn dice(&self, dice: &mut Dice) -> Outside {
        let kinds = (0..1 + dice.below(3)).map(|_| u8::try_from(dice.below(9)).unwrap());
        let kinds = kinds.collect();
        Outside::Dice { seed: dice.next(), per_mille: *dice.pick(&[20, 60, 200]), kinds }
    }
}

fn how(dice: &mut Dice) -> How {
    How {
        reserve: dice.one_in(3),
        over: dice.one_in(8),
        alone: dice.one_in(6),
        reset: dice.one_in(3),
        evict: dice.one_in(3),
        user: dice.one_in(2),
        define: dice.one_in(3),
        at_boot: dice.one_in(4),
        force_network: dice.one_in(3),
        take_display: dice.one_in(3),
    }
}
