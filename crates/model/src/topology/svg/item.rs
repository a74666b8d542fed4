//! What is drawn: cards, and boxes around them.

use crate::topology::{Part, RootBus, TreeFunction};

/// The width of a card.
pub const CARD: u32 = 248;
/// The height of a line in a card.
pub const LINE: u32 = 16;

/// An item with a position on the page.
#[derive(Debug)]
pub struct Item<'a> {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
    pub shape: Shape<'a>,
}

/// What is drawn.
#[derive(Debug)]
pub enum Shape<'a> {
    /// The functions of one slot; the first one gives the name.
    Card { functions: Vec<&'a TreeFunction>, behind: Vec<&'a TreeFunction> },
    /// Several items behind one bridge, or on one root bus.
    Box { title: Title<'a>, behind: Vec<&'a TreeFunction>, inner: Vec<Item<'a>> },
}

/// What a box represents.
#[derive(Debug)]
pub enum Title<'a> {
    Bridge(&'a TreeFunction),
    RootBus(&'a RootBus),
}

impl<'a> Item<'a> {
    pub const fn new(shape: Shape<'a>) -> Self {
        Self { x: 0, y: 0, width: 0, height: 0, shape }
    }

    /// The functions of this card, where it is of the same slot.
    pub fn slot_of(&mut self, place: &TreeFunction) -> Option<&mut Vec<&'a TreeFunction>> {
        let Shape::Card { functions, .. } = &mut self.shape else { return None };
        let same = functions.first().is_some_and(|first| {
            first.part == Part::Device && first.address.same_slot(place.address)
        });
        same.then_some(functions)
    }

    pub fn put_behind(&mut self, bridge: &'a TreeFunction) {
        let (Shape::Card { behind, .. } | Shape::Box { behind, .. }) = &mut self.shape;
        behind.insert(0, bridge);
    }

    pub const fn is_card(&self) -> bool {
        matches!(self.shape, Shape::Card { .. })
    }
}
