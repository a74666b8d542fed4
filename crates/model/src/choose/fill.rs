//! Meeting all wishes of a request with candidates.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::matching::assign;
use super::sets::{self, Like, Quota};
use super::shortage::{already_requested, different, too_few};
use super::wish::{Model, Wish};
use super::{Chosen, Scene, Want, WantKind};
use crate::topology::Place;
use crate::{Address, Assembly, Mechanism, Refusal};

/// More ways to combine models are not compared.
const MOST_COMBINATIONS: usize = 64;

/// The candidates of all wishes.
#[derive(Default)]
struct Pool {
    all: Vec<Chosen>,
}

impl Pool {
    fn add(&mut self, chosen: Chosen) -> usize {
        self.all.push(chosen);
        self.all.len() - 1
    }
}

impl Scene<'_> {
    /// Meets all open wishes, or returns why one cannot be met.
    pub(super) fn fill(
        &self,
        open: &[(usize, &Want)],
        named: &[Chosen],
    ) -> Result<Vec<(usize, Chosen)>, Refusal> {
        let mut pool = Pool::default();
        let mut wishes = Vec::new();
        let any = open.iter().any(|(_, want)| matches!(want.kind, WantKind::Any(_)));
        let assemblies = if any { Assembly::all(self.inventory) } else { Vec::new() };
        for (place, want) in open {
            wishes.push(self.wish(*place, want, (named, &assemblies), &mut pool)?);
        }
        share(&mut wishes, &pool);
        let anchors: Vec<Place> = named.iter().filter_map(|named| self.place(named)).collect();
        let mut dropped = BTreeSet::new();
        loop {
            let given = self.give(&wishes, &pool, &dropped, &anchors)?;
            let overfull = || self.without_room(&given, &pool, named);
            let Some(one) = conflicting(&given, &pool).or_else(overfull) else {
                return Ok(given
                    .into_iter()
                    .map(|(place, one)| {
                        let wish = wishes.iter().find(|wish| wish.place == place);
                        let own = wish.and_then(|wish| wish.own.get(&one)).unwrap_or(&one);
                        (place, settled(open, place, &pool.all[*own], self.id, one))
                    })
                    .collect());
            };
            dropped.insert(one);
        }
    }

    fn wish<'a>(
        &self,
        place: usize,
        want: &'a Want,
        (named, assemblies): (&[Chosen], &[Assembly]),
        pool: &mut Pool,
    ) -> Result<Wish<'a>, Refusal> {
        let fitting = match &want.kind {
            WantKind::Any(filter) => self.whole(filter, assemblies),
            WantKind::Vf { of, settings } => self.vfs(self.parent(of.as_ref())?, settings)?,
            WantKind::Profile { profile, of, .. } => {
                self.profiles(profile, self.parent(of.as_ref())?, want.count)
            }
            WantKind::Device(_) | WantKind::Mdev(_) => Vec::new(),
        };
        let mut wish = Wish {
            place,
            want,
            likes: Vec::new(),
            own: BTreeMap::new(),
            fitting: fitting.len(),
            reasons: Vec::new(),
            displays: Vec::new(),
        };
        if let WantKind::Profile { profile, of, .. } = &want.kind
            && fitting.len() < usize::try_from(want.count).unwrap_or(usize::MAX)
        {
            let of = self.parent(of.as_ref())?;
            wish.reasons.extend(self.why_no_profile(profile, of, fitting.len()));
        }
        if let WantKind::Vf { of: None, .. } = &want.kind
            && fitting.is_empty()
        {
            wish.reasons.extend(self.untyped_vgpus(None));
        }
        if let WantKind::Any(filter) = &want.kind {
            wish.displays = self.hosts_displays(filter);
            if fitting.is_empty() {
                wish.reasons.extend(self.accelerators(filter));
                wish.reasons.extend(self.unfit(filter));
            } else {
                wish.fitting += wish.displays.len();
                let refused = wish.displays.iter();
                let refused = refused.filter_map(|(address, _)| self.inventory.function(*address));
                wish.reasons.extend(refused.filter_map(|one| self.hosts_display(filter, one)));
            }
        }
        let mut requested = Vec::new();
        for (candidate, before) in fitting {
            if let Some(why) = self.why_not(&candidate) {
                wish.reasons.push(why);
            } else if let Some(named) = named.iter().find(|named| named.excludes(&candidate)) {
                requested.push(already_requested(&candidate, named));
            } else {
                wish.likes.push((pool.add(candidate), before));
            }
        }
        wish.reasons.extend(requested);
        Ok(wish)
    }

    /// A vGPU for which its GPU has no room beside the earlier ones of the same request.
    fn without_room(
        &self,
        given: &[(usize, usize)],
        pool: &Pool,
        named: &[Chosen],
    ) -> Option<usize> {
        let is_new = |chosen: &&Chosen| {
            let how = chosen.partition.as_ref().map(|partition| &partition.how);
            matches!(how, Some(Mechanism::Mdev { .. } | Mechanism::Vgpu { .. }))
        };
        let mut chosen = given.iter().filter_map(|(_, one)| Some((*one, pool.all.get(*one)?)));
        if !chosen.clone().any(|(_, chosen)| is_new(&chosen)) {
            return None;
        }
        let mut rooms = self.rooms();
        named
            .iter()
            .filter_map(|named| named.partition.as_ref())
            .for_each(|partition| rooms.ask(partition));
        let (late, _) = chosen.find(|(_, chosen)| {
            let Some(partition) = chosen.partition.as_ref() else { return false };
            let fits = rooms.has_room(partition);
            rooms.ask(partition);
            !fits
        })?;
        Some(late)
    }

    fn parent(&self, of: Option<&String>) -> Result<Option<Address>, Refusal> {
        let Some(name) = of else { return Ok(None) };
        let address = self.address(name)?;
        if self.inventory.function(address).is_none() {
            return Err(crate::no_such_function(address));
        }
        Ok(Some(address))
    }

    /// Assigns each wish the number of candidates that it requests: those that are closest together.
    fn give(
        &self,
        wishes: &[Wish<'_>],
        pool: &Pool,
        dropped: &BTreeSet<usize>,
        anchors: &[Place],
    ) -> Result<Vec<(usize, usize)>, Refusal> {
        let mut quotas: Vec<Vec<Quota>> = Vec::new();
        for wish in wishes {
            let count = usize::try_from(wish.want.count).unwrap_or(usize::MAX);
            let left = wish.likes.iter().filter(|(like, _)| !dropped.contains(like));
            let likes: Vec<Like> =
                left.map(|(like, before)| self.like(pool, *like, *before)).collect();
            if likes.len() < count {
                return Err(too_few(wish, likes.len(), likes.len() < wish.likes.len()));
            }
            let models = self.models(wish, pool, likes);
            let enough: Vec<Quota> = models
                .iter()
                .filter(|(_, likes)| likes.len() >= count)
                .map(|(_, likes)| Quota { count, likes: likes.clone() })
                .collect();
            if enough.is_empty() {
                return Err(different(wish, &models, self.options));
            }
            quotas.push(enough);
        }
        let places: Vec<Place> = pool.all.iter().filter_map(|chosen| self.place(chosen)).collect();
        let mut best = None;
        for combination in combinations(&quotas) {
            let found = sets::best(&places, anchors, &combination);
            let found =
                found.filter(|(cost, _)| best.as_ref().is_none_or(|(least, _)| cost < least));
            best = found.or(best);
        }
        let chosen = match best {
            Some((_, chosen)) => chosen,
            None => matched(wishes, &quotas, pool.all.len())?,
        };
        let places = wishes.iter().zip(chosen);
        Ok(places.flat_map(|(wish, list)| list.into_iter().map(|one| (wish.place, one))).collect())
    }

    fn like(&self, pool: &Pool, candidate: usize, before: u32) -> Like {
        let head = pool.all.get(candidate).and_then(|one| self.inventory.function(one.head));
        let idle = head.is_none_or(|head| head.driver.is_none() || head.on_vfio());
        Like { candidate, before, after: u32::from(!idle) }
    }

    fn place(&self, chosen: &Chosen) -> Option<Place> {
        self.inventory.function(chosen.head).map(|head| Place::of(self.inventory, head))
    }

    /// The candidates by model, if the wish means several identical devices; otherwise all as one.
    fn models(
        &self,
        wish: &Wish<'_>,
        pool: &Pool,
        likes: Vec<Like>,
    ) -> Vec<(Option<Model>, Vec<Like>)> {
        // Ids name the model themselves.
        let any = matches!(&wish.want.kind, WantKind::Any(filter) if !filter.names_model());
        if wish.want.count < 2 || !any || self.options.mixed {
            return vec![(None, likes)];
        }
        let mut models: BTreeMap<Option<Model>, Vec<Like>> = BTreeMap::new();
        for like in likes {
            let head = pool.all.get(like.candidate).map(|one| one.head);
            let head = head.and_then(|head| self.inventory.function(head));
            models.entry(head.map(|head| (head.vendor, head.device))).or_default().push(like);
        }
        models.into_iter().collect()
    }
}

/// Every way to take one model for each wish; not all if there are very many.
fn combinations(quotas: &[Vec<Quota>]) -> Vec<Vec<Quota>> {
    let mut all: Vec<Vec<Quota>> = vec![Vec::new()];
    for models in quotas {
        let longer = all.iter().flat_map(|head| {
            models.iter().map(|quota| head.iter().chain([quota]).cloned().collect::<Vec<_>>())
        });
        all = longer.take(MOST_COMBINATIONS).collect();
    }
    all
}

/// Meets the wishes without regard to distances, for more of them than can be searched.
fn matched(
    wishes: &[Wish<'_>],
    quotas: &[Vec<Quota>],
    candidates: usize,
) -> Result<Vec<Vec<usize>>, Refusal> {
    let mut likes = Vec::new();
    let mut owner = Vec::new();
    for (turn, models) in quotas.iter().enumerate() {
        let Some(quota) = models.first() else { continue };
        let list: Vec<usize> = quota.likes.iter().map(|like| like.candidate).collect();
        for _ in 0..quota.count {
            likes.push(list.clone());
            owner.push(turn);
        }
    }
    let mut chosen = vec![Vec::new(); wishes.len()];
    for (candidate, turn) in assign(&likes, candidates).into_iter().zip(owner) {
        match (candidate, wishes.get(turn), chosen.get_mut(turn)) {
            (Some(candidate), _, Some(list)) => list.push(candidate),
            (None, Some(wish), _) => {
                let met = wish.want.count.saturating_sub(1);
                return Err(too_few(wish, usize::try_from(met).unwrap_or(usize::MAX), true));
            }
            _ => {}
        }
    }
    Ok(chosen)
}

/// Merges equal candidates of several wishes: each wish then uses the first one.
fn share(wishes: &mut [Wish<'_>], pool: &Pool) {
    let mut seen: BTreeMap<(Address, Vec<Address>), usize> = BTreeMap::new();
    for wish in wishes {
        for (like, _) in &mut wish.likes {
            let Some(chosen) = pool.all.get(*like) else { continue };
            if chosen.members.is_empty() {
                continue;
            }
            let key = (chosen.head, chosen.taken().collect());
            let first = *seen.entry(key).or_insert(*like);
            wish.own.insert(first, *like);
            *like = first;
        }
    }
}

/// A candidate that excludes an earlier one.
fn conflicting(given: &[(usize, usize)], pool: &Pool) -> Option<usize> {
    let chosen = |at: usize| given.get(at).and_then(|(_, one)| pool.all.get(*one));
    (0..given.len()).find_map(|late| {
        let one = chosen(late)?;
        let clash = (0..late).filter_map(chosen).any(|other| other.excludes(one));
        clash.then(|| given.get(late).map(|(_, one)| *one)).flatten()
    })
}

/// Fills in the wish's settings, and the UUID of a new mediated device: the claim's id with its last bytes changed, so
/// that its owner is visible.
fn settled(
    open: &[(usize, &Want)],
    place: usize,
    chosen: &Chosen,
    id: Uuid,
    turn: usize,
) -> Chosen {
    let mut chosen = chosen.clone();
    let want = open.iter().find(|(other, _)| *other == place).map(|(_, want)| &want.kind);
    let how = chosen.partition.as_mut().map(|partition| &mut partition.how);
    match (how, want) {
        (Some(Mechanism::Vf { settings, .. }), Some(WantKind::Vf { settings: wanted, .. })) => {
            *settings = wanted.clone();
        }
        (
            Some(Mechanism::Mdev { uuid, attributes, .. }),
            Some(WantKind::Profile { attributes: wanted, .. }),
        ) => {
            let turn = u128::try_from(turn).unwrap_or_default() + 1;
            *uuid = Uuid::from_u128(id.as_u128() ^ (turn & 0xffff));
            attributes.clone_from(wanted);
        }
        _ => {}
    }
    chosen
}
