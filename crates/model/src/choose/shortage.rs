//! Why a wish cannot be met, and what would be: fewer devices, others, or those that something has now.

use super::sets::Like;
use super::wish::{Model, Wish};
use super::{Chosen, Options, WantKind};
use crate::{Code, Refusal};

/// More reasons are only counted.
const MOST_REASONS: usize = 4;

/// The remedy of a request that asks for more than there is.
const FEWER: &str = "request fewer devices; `handover ls` lists what this host has";

/// The refusal of a wish for several identical devices, of which there are only different ones.
pub(super) fn different(
    wish: &Wish<'_>,
    models: &[(Option<Model>, Vec<Like>)],
    options: Options,
) -> Refusal {
    let count = |(model, likes): &(Option<Model>, Vec<Like>)| {
        let (vendor, device) = (*model)?;
        Some(format!("{} of {vendor}:{device}", likes.len()))
    };
    let counts: Vec<String> = models.iter().filter_map(count).collect();
    let one = match &wish.want.kind {
        WantKind::Any(filter) => {
            let kind = filter.kind.map_or("device", |kind| kind.as_str());
            filter.node.map_or(kind.to_owned(), |node| format!("{kind},node={node}"))
        }
        other => other.to_string(),
    };
    let asked = format!("{} {}", wish.want.count, wish.want.kind);
    let counts = counts.join(", ");
    let missing = display_of_one_model(wish, models);
    let (message, first) = match &missing {
        Some((display, model)) => (
            format!(
                "{asked}: there are not that many of one model ({counts}), without the host's own display {display}, \
                 which is also {model}"
            ),
            if options.by_name_only {
                String::new()
            } else {
                "allow it: `claim --any-display`, or \"any_display\": true in REST; or ".to_owned()
            },
        ),
        None => {
            (format!("{asked}: there are not that many of one model ({counts})"), String::new())
        }
    };
    let remedy = if options.by_name_only {
        "name each device, by its address".to_owned()
    } else {
        format!(
            "{first}request each one by itself (`{one} {one}`) to accept different models, as `claim --mixed` does, or name \
             each device"
        )
    };
    Refusal::new(Code::InsufficientResources, message, remedy)
}

/// A display of the host that would complete the devices of one model, and that model.
fn display_of_one_model(
    wish: &Wish<'_>,
    models: &[(Option<Model>, Vec<Like>)],
) -> Option<(crate::Address, String)> {
    let wanted = usize::try_from(wish.want.count).unwrap_or(usize::MAX);
    wish.displays.iter().find_map(|(address, model)| {
        let free =
            models.iter().find(|(one, _)| *one == Some(*model)).map_or(0, |(_, all)| all.len());
        let shown = wish.displays.iter().filter(|(_, other)| other == model).count();
        (free + shown >= wanted).then(|| (*address, format!("{}:{}", model.0, model.1)))
    })
}

/// A candidate that the same request names, or that excludes one that it names.
pub(super) fn already_requested(candidate: &Chosen, named: &Chosen) -> Refusal {
    let message = if candidate.head == named.head {
        let message = format!("{} is in this request already", candidate.head);
        return Refusal::new(
            Code::InsufficientResources,
            message,
            "name each device once, or request fewer devices",
        );
    } else {
        format!("{} excludes {}, which is already in this request", candidate.head, named.head)
    };
    Refusal::new(Code::InsufficientResources, message, FEWER)
}

/// Not enough candidates. `requested`: other wishes of the same request have some of them.
pub(super) fn too_few(wish: &Wish<'_>, left: usize, requested: bool) -> Refusal {
    let what = &wish.want.kind;
    let count = wish.want.count;
    let have = match left {
        0 => "none is free".to_owned(),
        left => format!("{left} of {count} available"),
    };
    // The first reason is that of the remedy.
    let mut why: Vec<&str> = Vec::new();
    let is_profile = matches!(wish.want.kind, WantKind::Profile { .. });
    let other = if is_profile {
        "what else this request asks for leaves no room"
    } else {
        "other matching devices are already in this request"
    };
    let all = wish.reasons.iter().map(|why| why.message.as_str());
    for message in all.chain(requested.then_some(other)) {
        if !why.contains(&message) {
            why.push(message);
        }
    }
    let shown: Vec<&str> = why.iter().copied().take(MOST_REASONS).collect();
    let more = why.len().saturating_sub(shown.len());
    let mut message = format!("{what}: {have}");
    if !shown.is_empty() {
        message.push_str(&format!(" ({}", shown.join("; ")));
        message.push_str(&if more > 0 { format!("; and {more} more)") } else { ")".into() });
    } else if left == 0 {
        message = format!("{what}: this host has none");
    }
    // An obstacle of the host itself is the reason for all of them.
    let of_host = |code: Code| matches!(code, Code::NoIommu | Code::VfioMissing);
    let code =
        wish.reasons.first().map(|first| first.code).filter(|code| left == 0 && of_host(*code));
    let code = code.unwrap_or(Code::InsufficientResources);
    Refusal::new(code, message, remedy(wish, left, requested))
}

/// What to request instead, or what to free.
fn remedy(wish: &Wish<'_>, left: usize, requested: bool) -> String {
    let wanted = usize::try_from(wish.want.count).unwrap_or(usize::MAX);
    // The candidates of a profile are those that can be created now.
    let is_countable = matches!(wish.want.kind, WantKind::Any(_) | WantKind::Vf { .. });
    let first = wish.reasons.first().map(|first| first.remedy.as_str());
    let few = is_countable && (1..wanted).contains(&wish.fitting);
    match (first, left) {
        (_, 1..) if few && left >= wish.fitting => {
            format!("request at most {left}: this host has no more")
        }
        (Some(first), 1..) if is_countable && !requested => {
            format!("request at most {left}, or free another one: {first}")
        }
        (None, 1..) if few => format!("request at most {left}"),
        (Some(first), 0) if few => format!("this host has {} in all; {first}", wish.fitting),
        (Some(first), _) => first.to_owned(),
        (None, _) if requested && matches!(wish.want.kind, WantKind::Profile { .. }) => {
            "request fewer or smaller vGPUs, or all of one profile".into()
        }
        (None, _) if requested => FEWER.into(),
        (None, _) => "`handover ls` lists the devices, `handover doctor` the obstacles".into(),
    }
}
