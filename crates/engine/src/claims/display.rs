//! Taking a card from the host's desktop and consoles (`--take-display`): units are stopped, the processes that draw end, and
//! the kernel lets go of the card. Each change is a step of the claim, so that it is undone with it.

use std::thread;
use std::time::{Duration, Instant};

use model::{Address, Claim, Code, Holder, Inventory, Kind, Part, Refusal, Step, is_broker};
use uuid::Uuid;

use super::Claims;
use crate::consent::{Consent, is_persistence_daemon};
use crate::refusals;
use crate::store::OpenOperation;

/// How long processes may take to end after the units of their sessions were stopped: a user's service manager ends 10 s after
/// the last session (`UserStopDelaySec=` in logind.conf(5)).
const ENDING: Duration = Duration::from_secs(20);
const BETWEEN: Duration = Duration::from_millis(200);

/// A card that is taken from the desktop.
#[derive(Clone, Debug)]
pub(super) struct Card {
    head: Address,
    functions: Vec<Address>,
}

/// The cards among the parts of a claim: whole GPUs.
pub(super) fn cards(inventory: &Inventory, claim: &Claim) -> Vec<Card> {
    let is_card = |part: &&Part| {
        part.partition.is_none()
            && inventory.function(part.head).is_some_and(|head| head.kind() == Kind::Gpu)
    };
    let parts = claim.parts.iter().filter(is_card);
    parts.map(|part| Card { head: part.head, functions: part.taken().collect() }).collect()
}

/// Refuses a request to take the display that has no card.
pub(super) fn expect_card(
    inventory: &Inventory,
    claim: &Claim,
    consent: Consent,
) -> Result<(), Refusal> {
    if !consent.takes_display() || !cards(inventory, claim).is_empty() {
        return Ok(());
    }
    Err(Refusal::new(
        Code::InvalidRequest,
        "no requested device is a whole GPU, so there is no display to take",
        "leave --take-display out, or request a GPU as a whole",
    ))
}

impl Claims {
    /// Ends what draws on the cards: stops units, waits for the processes of their sessions, and asks the others to exit. The
    /// other users of the claim's functions are returned.
    pub(super) fn end_sessions(
        &self,
        operation: &OpenOperation,
        claim: Uuid,
        cards: &[Card],
        taken: &[Address],
    ) -> Result<Vec<Holder>, Refusal> {
        for card in cards {
            let host = &self.hardware.host;
            let display =
                host.display(&card.functions).map_err(|error| refusals::unreadable(&error))?;
            let users = self.drawing(&card.functions)?;
            if let Some(user) = display.ends_us(&users) {
                return Err(would_end_with_session(card.head, user));
            }
            let stops = display.stop_units(card.head, &users);
            for step in &stops {
                self.journal.perform(operation, claim, step)?;
            }
            if !users.is_empty() {
                let patience = if stops.is_empty() { Duration::ZERO } else { ENDING };
                self.await_end(operation, claim, card, patience)?;
            }
        }
        self.hardware.holders(taken)
    }

    /// Waits for the processes that draw on a card, which end with their units, then asks those that are left to exit.
    fn await_end(
        &self,
        operation: &OpenOperation,
        claim: Uuid,
        card: &Card,
        patience: Duration,
    ) -> Result<(), Refusal> {
        let until = Instant::now() + patience;
        let mut left = self.drawing(&card.functions)?;
        let waits = |left: &[Holder]| {
            left.iter().any(|user| is_broker(user) || user.place() != model::UserPlace::Other)
        };
        while waits(&left) && Instant::now() < until && !self.journal.turns.is_cancelled(claim) {
            thread::sleep(BETWEEN);
            left = self.drawing(&card.functions)?;
        }
        let mut asked = Vec::new();
        for user in left.into_iter().filter(|user| !is_broker(user)) {
            let (Some(pid), Some(started)) = (user.pid, user.started) else { continue };
            if asked.contains(&pid) {
                continue;
            }
            asked.push(pid);
            let evict =
                Step::Evict { address: user.address, pid, started, user: user.user.clone() };
            let ended = self.journal.perform(operation, claim, &evict);
            self.still_used(&card.functions, pid, ended)?;
        }
        match self.drawing(&card.functions)?.first() {
            Some(user) => Err(still_draws(user)),
            None => Ok(()),
        }
    }

    /// The kernel lets go of the cards: consoles, framebuffers of the firmware, modules.
    pub(super) fn let_go_of_display(
        &self,
        operation: &OpenOperation,
        claim: Uuid,
        cards: &[Card],
    ) -> Result<(), Refusal> {
        for card in cards {
            let host = &self.hardware.host;
            let display =
                host.display(&card.functions).map_err(|error| refusals::unreadable(&error))?;
            for step in display.let_go(card.head) {
                self.journal.perform(operation, claim, &step)?;
            }
        }
        Ok(())
    }

    /// The steps that a claim performs before its plan.
    pub(super) fn display_steps(&self, cards: &[Card]) -> Result<Vec<Step>, Refusal> {
        let mut steps = Vec::new();
        for card in cards {
            let host = &self.hardware.host;
            let display =
                host.display(&card.functions).map_err(|error| refusals::unreadable(&error))?;
            steps.extend(display.stop_units(card.head, &self.drawing(&card.functions)?));
            steps.extend(display.let_go(card.head));
        }
        Ok(steps)
    }

    /// The processes that draw on these functions, without NVIDIA's persistence daemon, which keeps running.
    fn drawing(&self, functions: &[Address]) -> Result<Vec<Holder>, Refusal> {
        let mut users = self.hardware.holders(functions)?;
        users.retain(|user| user.draws() && !is_persistence_daemon(user));
        Ok(users)
    }
}

fn would_end_with_session(card: Address, user: &Holder) -> Refusal {
    Refusal::new(
        Code::InvalidState,
        format!(
            "this Handover runs in the session of {}, which draws on {card} and would end, and Handover with it",
            user.user
        ),
        "run the daemon as a service: `systemctl start handover`; or start `handover serve` from ssh",
    )
}

fn still_draws(user: &Holder) -> Refusal {
    Refusal::new(
        Code::InUse,
        format!(
            "{} {} still, although its session was ended; changes rolled back",
            user.address,
            user.predicate()
        ),
        user.how_to_end(),
    )
}
