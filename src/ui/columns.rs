//! Tables in plain columns: readable without a terminal, and easy to cut with other tools.
//!
//! Widths are counted in terminal columns before colour is added, so Chinese text and colour keep their place.

use crate::ui::look::{Look, Style, columns, one_line, pad};

#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

/// Makes a plain cell. An empty one is drawn as `-`.
pub(crate) fn cell(text: impl AsRef<str>) -> Cell {
    styled(text, Style::Plain)
}

/// Makes a cell with a style.
pub(crate) fn styled(text: impl AsRef<str>, style: Style) -> Cell {
    let text = one_line(text.as_ref());
    Cell { text: if text.is_empty() { "-".to_owned() } else { text }, style }
}

/// Draws a heading and rows, two spaces between columns, none behind the last.
pub(crate) fn table(headings: &[&str], rows: &[Vec<Cell>], look: Look) -> String {
    let mut widths: Vec<usize> = headings.iter().map(|heading| columns(heading)).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(columns(&cell.text));
        }
    }
    let last = headings.len().saturating_sub(1);
    let draw = |cells: &[Cell]| {
        let mut line = String::new();
        for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let text = if at == last { cell.text.clone() } else { pad(&cell.text, *width) };
            line.push_str(&look.paint(cell.style, &text));
            line.push_str(if at == last { "\n" } else { "  " });
        }
        line
    };
    let heading: Vec<Cell> = headings.iter().map(|heading| styled(heading, Style::Bold)).collect();
    std::iter::once(heading.as_slice()).chain(rows.iter().map(Vec::as_slice)).map(draw).collect()
}
