//! The layout: cards for slots, boxes for bridges with several items, columns for NUMA nodes.

use super::card;
use super::item::{CARD, Item, Shape, Title};
use crate::topology::{Part, TopologyNode, TreeFunction};

/// Gap between cards, and between boxes.
pub const GAP: u32 = 12;
/// Padding inside a box.
pub const PAD: u32 = 12;
/// The height of a box's heading.
pub const HEADING: u32 = 26;
/// The height of a node's heading.
pub const NODE_HEADING: u32 = 34;
/// Boxes nested deeper than this are flattened: their cards name the bridge.
const DEEPEST: u32 = 4;

/// A NUMA node as a column.
#[derive(Debug)]
pub struct Column<'a> {
    pub node: &'a TopologyNode,
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
    pub items: Vec<Item<'a>>,
}

/// All columns, and their total size.
pub fn columns(nodes: &[TopologyNode], left: u32, top: u32) -> (Vec<Column<'_>>, u32, u32) {
    let contents: Vec<(&TopologyNode, Vec<Item<'_>>)> =
        nodes.iter().map(|node| (node, of_node(node))).collect();
    let deepest = contents.iter().map(|(_, items)| depth(items)).max().unwrap_or(0);
    let cards = if nodes.len() > 1 { 3 } else { 4 };
    // A host with few devices gets a narrow picture.
    let most = contents.iter().map(|(_, items)| widest(items)).max().unwrap_or(1);
    let inside = across(most.clamp(1, cards)) + deepest * 2 * PAD;
    let (mut x, mut y, mut row_height, mut right) = (left, top, 0, left);
    let mut columns = Vec::new();
    for (index, (node, mut items)) in contents.into_iter().enumerate() {
        if index > 0 && index % 2 == 0 {
            (x, y, row_height) = (left, y + row_height + 2 * GAP, 0);
        }
        let height = NODE_HEADING + flow(&mut items, x + PAD, y + NODE_HEADING, inside) + PAD;
        let width = inside + 2 * PAD;
        columns.push(Column { node, x, y, width, height, items });
        x += width + 2 * GAP;
        right = right.max(x - 2 * GAP);
        row_height = row_height.max(height);
    }
    same_height(&mut columns);
    (columns, right, y + row_height)
}

/// Aligns the lower ends of adjacent columns.
fn same_height(columns: &mut [Column<'_>]) {
    for pair in columns.chunks_mut(2) {
        let height = pair.iter().map(|column| column.height).max().unwrap_or(0);
        pair.iter_mut().for_each(|column| column.height = height);
    }
}

fn of_node(node: &TopologyNode) -> Vec<Item<'_>> {
    let single = node.root_buses.len() == 1;
    let mut items = Vec::new();
    for bus in &node.root_buses {
        let inner = of_functions(&bus.children, 0);
        if single || inner.len() < 2 {
            items.extend(inner);
        } else {
            items.push(Item::new(Shape::Box {
                title: Title::RootBus(bus),
                behind: Vec::new(),
                inner,
            }));
        }
    }
    items
}

fn of_functions(places: &[TreeFunction], depth: u32) -> Vec<Item<'_>> {
    let mut items: Vec<Item<'_>> = Vec::new();
    for place in places {
        if place.part == Part::Device {
            if let Some(functions) = items.last_mut().and_then(|item| item.slot_of(place)) {
                functions.push(place);
            } else {
                let shape = Shape::Card { functions: vec![place], behind: Vec::new() };
                items.push(Item::new(shape));
            }
            continue;
        }
        let mut inner = of_functions(&place.children, depth + 1);
        if inner.is_empty() {
            let shape = Shape::Card { functions: vec![place], behind: Vec::new() };
            items.push(Item::new(shape));
        } else if inner.len() == 1 || depth >= DEEPEST {
            inner.iter_mut().for_each(|item| item.put_behind(place));
            items.extend(inner);
        } else {
            let title = Title::Bridge(place);
            items.push(Item::new(Shape::Box { title, behind: Vec::new(), inner }));
        }
    }
    items
}

/// The width of adjacent cards.
const fn across(cards: u32) -> u32 {
    cards * CARD + cards.saturating_sub(1) * GAP
}

fn depth(items: &[Item<'_>]) -> u32 {
    let inner = items.iter().map(|item| match &item.shape {
        Shape::Card { .. } => 0,
        Shape::Box { inner, .. } => 1 + depth(inner),
    });
    inner.max().unwrap_or(0)
}

/// The maximum number of cards in a row.
fn widest(items: &[Item<'_>]) -> u32 {
    let (mut most, mut run) = (0, 0);
    for item in items {
        match &item.shape {
            Shape::Card { .. } => run += 1,
            Shape::Box { inner, .. } => (most, run) = (most.max(run).max(widest(inner)), 0),
        }
    }
    most.max(run)
}

/// Puts items into rows of a width: cards side by side, boxes below each other. Returns the height.
fn flow(items: &mut [Item<'_>], left: u32, top: u32, width: u32) -> u32 {
    let columns = ((width + GAP) / (CARD + GAP)).max(1);
    let (mut y, mut column, mut row): (u32, u32, u32) = (top, 0, 0);
    let mut in_row = Vec::new();
    for index in 0..items.len() {
        let card = items.get(index).is_some_and(Item::is_card);
        if column > 0 && (!card || column == columns) {
            level(items, &in_row, row);
            in_row.clear();
            (y, column, row) = (y + row + GAP, 0, 0);
        }
        let Some(item) = items.get_mut(index) else { continue };
        (item.x, item.y) = (left + column * (CARD + GAP), y);
        match &mut item.shape {
            Shape::Card { functions, behind } => {
                (item.width, item.height) = (CARD, card::height(functions, behind));
                (column, row) = (column + 1, row.max(item.height));
                in_row.push(index);
            }
            Shape::Box { inner, .. } => {
                let height = flow(inner, left + PAD, y + HEADING, width.saturating_sub(2 * PAD));
                (item.width, item.height) = (width, HEADING + height + PAD);
                y += item.height + GAP;
            }
        }
    }
    level(items, &in_row, row);
    if column > 0 {
        y += row + GAP;
    }
    (y - top).saturating_sub(GAP)
}

/// Cards in one row get the same height.
fn level(items: &mut [Item<'_>], row: &[usize], height: u32) {
    for index in row {
        if let Some(item) = items.get_mut(*index) {
            item.height = height;
        }
    }
}
