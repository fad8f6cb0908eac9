// SPDX-License-Identifier: GPL-2.0

//! Figures as drawings: cost against size, ours and each peer's.

use crate::bench::Row;
use anyhow::{anyhow, Result};
use plotters::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

type Line = Vec<(f64, f64)>;

/// Draws each name that was measured at two sizes or more, and the ratios of the others in one drawing. Returns how many drawings there
/// are.
pub(crate) fn all(rows: &[Row], folder: &Path) -> Result<usize> {
    fs::create_dir_all(folder)?;
    let mut count = 0;
    let mut single = Vec::new();
    let names: BTreeSet<_> = rows.iter().map(|row| row.name.as_str()).collect();
    for name in names {
        let rows: Vec<_> = rows.iter().filter(|row| row.name == name).collect();
        let sizes: BTreeSet<_> = rows.iter().map(|row| row.n).collect();
        if sizes.len() < 2 {
            single.extend(rows.into_iter().filter_map(bar));
            continue;
        }
        let path = folder.join(format!("{}.svg", name.replace(['/', ' '], "-")));
        draw(name, &rows, &path).map_err(|error| anyhow!("drawing {}: {error}", path.display()))?;
        count += 1;
    }
    if !single.is_empty() {
        let path = folder.join("ratios.svg");
        bars(&single, &path).map_err(|error| anyhow!("drawing {}: {error}", path.display()))?;
        count += 1;
    }
    Ok(count)
}

/// What a bar stands for, and how long it is: a row's ratio.
fn bar(row: &Row) -> Option<(String, f64)> {
    let peer = row.peer_name.as_deref().unwrap_or("peer");
    Some((format!("{} ({}) by {peer}", row.name, row.n), row.ratio?))
}

/// A bar for each ratio, below a line where both sides are equal.
fn bars(bars: &[(String, f64)], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let height = 110 + 28 * u32::try_from(bars.len())?;
    let area = SVGBackend::new(path, (800, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let longest = bars.iter().map(|(_, ratio)| *ratio).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(&area)
        .caption("ours by peer", ("sans-serif", 22))
        .margin(15)
        .x_label_area_size(30)
        .build_cartesian_2d(0.0..longest * 1.05, 0.0..bars.len() as f64)?;
    let label = ("sans-serif", 14);
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .label_style(label)
        .draw()?;
    // From the top down.
    let places = (0..bars.len()).rev().map(|place| place as f64);
    for ((name, ratio), y) in bars.iter().zip(places) {
        let colour = if *ratio <= 1.0 { GREEN } else { RED };
        let corners = [(0.0, y + 0.1), (*ratio, y + 0.9)];
        let text = format!("{name}: {ratio:.3}");
        chart.draw_series([Rectangle::new(corners, colour.mix(0.35).filled())])?;
        chart.draw_series([Text::new(text, (longest * 0.01, y + 0.65), label)])?;
    }
    let equal = [(1.0, 0.0), (1.0, bars.len() as f64)];
    chart.draw_series([PathElement::new(equal, BLACK)])?;
    area.present()?;
    Ok(())
}

/// The lines of one drawing, ours first.
fn lines(rows: &[&Row]) -> Vec<(String, Line)> {
    let mut ours: BTreeMap<u64, f64> = BTreeMap::new();
    let mut peers: BTreeMap<&str, BTreeMap<u64, f64>> = BTreeMap::new();
    for row in rows {
        ours.insert(row.n, row.ours);
        if let Some(peer) = row.peer {
            let name = row.peer_name.as_deref().unwrap_or("peer");
            peers.entry(name).or_default().insert(row.n, peer);
        }
    }
    // Both axes are logarithmic, and zero has no place there.
    let line = |points: BTreeMap<u64, f64>| -> Line {
        let point = |(n, y): (u64, f64)| ((n as f64).max(1.0), y.max(0.1));
        points.into_iter().map(point).collect()
    };
    let mut lines = vec![("kpreserve".to_owned(), line(ours))];
    lines.extend(
        peers
            .into_iter()
            .map(|(name, p)| (name.to_owned(), line(p))),
    );
    lines
}

fn draw(name: &str, rows: &[&Row], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let lines = lines(rows);
    let points = || lines.iter().flat_map(|(_, line)| line.iter().copied());
    let range = |value: fn((f64, f64)) -> f64| {
        let low = points().map(value).fold(f64::INFINITY, f64::min);
        let high = points().map(value).fold(0.0, f64::max);
        (low * 0.7..high * 1.5).log_scale()
    };
    let area = SVGBackend::new(path, (800, 500)).into_drawing_area();
    area.fill(&WHITE)?;
    let unit = rows.first().map_or("", |row| row.unit.as_str());
    let mut chart = ChartBuilder::on(&area)
        .caption(name, ("sans-serif", 22))
        .margin(15)
        .x_label_area_size(45)
        .y_label_area_size(90)
        .build_cartesian_2d(range(|p| p.0), range(|p| p.1))?;
    chart
        .configure_mesh()
        .x_desc("n")
        .y_desc(unit)
        .label_style(("sans-serif", 14))
        .draw()?;
    let colours = [RED, BLUE, GREEN, MAGENTA, BLACK, CYAN];
    for ((name, line), colour) in lines.iter().zip(colours.iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.iter().copied(), style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        let dots = line
            .iter()
            .map(|point| Circle::new(*point, 3, colour.filled()));
        chart.draw_series(dots)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .label_font(("sans-serif", 14))
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::all;
    use crate::bench::Row;

    #[test]
    fn a_series_becomes_a_drawing() {
        let folder = std::env::temp_dir().join(format!("kpreserve-draw-{}", std::process::id()));
        let row = |n, ours| Row {
            name: "object.preserve".into(),
            n,
            ours,
            peer: Some(ours * 3.0),
            peer_name: Some("kho_block_set".into()),
            unit: "instructions".into(),
            ratio: None,
        };
        let rows = [row(1000, 5.0), row(10_000, 5.5), row(100_000, 0.0)];
        assert_eq!(all(&rows, &folder).unwrap(), 1);
        let text = std::fs::read_to_string(folder.join("object.preserve.svg")).unwrap();
        assert!(text.contains("kho_block_set"), "{text}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn single_rows_become_bars() {
        let folder = std::env::temp_dir().join(format!("kpreserve-bars-{}", std::process::id()));
        let row = |name: &str, ratio| Row {
            name: name.into(),
            n: 64,
            ours: 1.0,
            peer: None,
            peer_name: Some("kmem_cache".into()),
            unit: "instructions".into(),
            ratio,
        };
        let rows = [
            row("slab.pair", Some(0.5)),
            row("slab.bulk", Some(1.5)),
            row("slab.locked", None),
        ];
        assert_eq!(all(&rows, &folder).unwrap(), 1);
        let text = std::fs::read_to_string(folder.join("ratios.svg")).unwrap();
        assert!(
            text.contains("slab.pair (64) by kmem_cache: 0.500"),
            "{text}"
        );
        assert!(
            text.contains("slab.bulk") && !text.contains("slab.locked"),
            "{text}"
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
