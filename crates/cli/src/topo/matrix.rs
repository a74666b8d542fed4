//! Prints distances as a matrix.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anstyle::Style;
use model::shown::escaped;
use model::topology::{Distance, Picture};
use model::{Kind, short_titles};

use crate::table::name_within;
use crate::wrap::paragraph;

/// With fewer characters the name is useless.
const LEAST_WHAT: usize = 12;

/// Whether the matrix is shown: on request, or if it is small.
pub fn is_told(picture: &Picture, width: Option<usize>) -> bool {
    let fits = width.is_none_or(|width| least_width(picture) + LEAST_WHAT <= width);
    !picture.distances.is_empty() && (picture.asked || fits)
}

/// The matrix with its legend.
pub fn render(picture: &Picture, width: Option<usize>) -> String {
    let table = picture.distance_table();
    let (number, place, wide) = sizes(picture);
    let names: Vec<_> = picture.ends.iter().map(|end| escaped(&end.what)).collect();
    let columns = columns(picture, width);
    let rest = number + place + 6 + (wide + 2) * columns;
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(rest));
    let what = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).min(room);
    let bold = Style::new().bold();
    let mut text = format!("{bold}Distances{bold:#}\n");
    let mut used = BTreeSet::new();
    let all: Vec<usize> = (0..picture.ends.len()).collect();
    for (block, shown) in all.chunks(columns).enumerate() {
        if block > 0 {
            text.push('\n');
        }
        let _ = write!(text, "{:1$}", "", number + place + what + 6);
        for index in shown {
            let _ = write!(text, "{:wide$}  ", format!("[{}]", index + 1));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        for (index, (end, name)) in picture.ends.iter().zip(&names).enumerate() {
            let own = format!("[{}]", index + 1);
            let address = end.address.to_string();
            let name = name_within(name, &shorter(name), what);
            let _ = write!(text, "{own:number$}  {address:place$}  {name:what$}  ");
            for other in shown.iter().filter_map(|index| picture.ends.get(*index)) {
                let distance = table.get(&(end.address, other.address));
                used.extend(distance.copied());
                let _ =
                    write!(text, "{:wide$}  ", distance.map_or("-", |distance| distance.short()));
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
    }
    for distance in used {
        let meaning = paragraph(distance.meaning(), wide + 2, wide + 2, width);
        let _ = write!(text, "\n{:wide$}  {meaning}", distance.short());
    }
    text.push('\n');
    text
}

/// How many columns of distances fit beside each other; the others follow in further blocks.
fn columns(picture: &Picture, width: Option<usize>) -> usize {
    let (number, place, wide) = sizes(picture);
    let room = |width: usize| width.saturating_sub(number + place + 6 + LEAST_WHAT) / (wide + 2);
    width.map_or(picture.ends.len(), room).clamp(1, picture.ends.len().max(1))
}

/// Shorter forms of a device's kind and name.
fn shorter(what: &str) -> Vec<String> {
    let Some((word, name)) = what.split_once(' ') else { return Vec::new() };
    let Ok(kind) = word.parse::<Kind>() else { return Vec::new() };
    let mut forms = short_titles(kind, name);
    let shortest = forms.last().cloned();
    forms.iter_mut().for_each(|name| *name = format!("{word} {name}"));
    forms.extend(shortest);
    forms
}

/// The widths of the columns: a row's number, an address, a distance.
fn sizes(picture: &Picture) -> (usize, usize, usize) {
    let number = picture.ends.len().to_string().len() + 2;
    let place = picture.ends.iter().map(|end| end.address.to_string().len()).max().unwrap_or(0);
    let words = picture.distances.iter().map(|pair| pair.distance.short().len());
    let wide = words.max().unwrap_or(0).max(Distance::Across.short().len());
    (number, place, wide)
}

/// The width of all columns but the devices' names.
fn least_width(picture: &Picture) -> usize {
    let (number, place, wide) = sizes(picture);
    number + place + 6 + (wide + 2) * picture.ends.len()
}
