//! Figures. The plotting library stays behind this module, so that another one would change one file.

use std::sync::Arc;

use anyhow::{Result, anyhow, ensure};
use kuva::backend::png::PngBackend;
use kuva::plot::{ColorMap, Heatmap};
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::render::render_multiple;

/// Values far below the largest are drawn as if they were this much smaller: what is four decades down does not matter, and an
/// exact 0 has no logarithm.
const DECADES: f64 = 4.0;
/// Pixels of the figure before scaling. Cells shrink for large models, so that the figure still fits a screen.
const CELL: (f64, f64) = (46.0, 19.0);
const LARGEST: (f64, f64) = (1400.0, 1100.0);
/// Room for the colour bar with the labels of the y axis, and for titles with the labels of the x axis.
const MARGIN: (f64, f64) = (190.0, 150.0);
const SCALE: f32 = 2.0;
/// A grid narrower than this would not carry its title.
const NARROWEST: f64 = 400.0;
/// The subtitle is centred on the grid, so that it can use the grid and as much again as there is left of it.
const SUBTITLE_OVERHANG: f64 = 100.0;
const SUBTITLE_PIXELS_PER_CHARACTER: f64 = 7.5;

/// A grid of numbers from 0 as colours on a logarithmic scale, the first row at the bottom.
#[derive(Clone, Debug)]
pub struct HeatMap {
    /// Above the grid.
    pub title: String,
    /// Below the title; shortened to what fits.
    pub subtitle: String,
    /// Below the grid.
    pub x_label: String,
    /// Beside the grid.
    pub y_label: String,
    /// `[row][column]`, finite, from 0.
    pub values: Vec<Vec<f64>>,
}

impl HeatMap {
    /// The figure as a PNG file.
    ///
    /// # Errors
    /// No values, rows of unequal length, values that are negative or not finite, and what the renderer refuses.
    pub fn png(&self) -> Result<Vec<u8>> {
        let rows = self.values.len();
        let columns = self.values.first().map_or(0, Vec::len);
        ensure!(
            columns > 0 && self.values.iter().all(|row| row.len() == columns),
            "heat map: expected rows of equal length, at least one value in each"
        );
        if let Some(bad) = self
            .values
            .iter()
            .flatten()
            .find(|value| !value.is_finite() || **value < 0.0)
        {
            return Err(anyhow!(
                "heat map: expected finite values from 0, found {bad}"
            ));
        }
        let width = (columns as f64 * CELL.0).clamp(NARROWEST, LARGEST.0) + MARGIN.0;
        let height = (rows as f64 * CELL.1).clamp(120.0, LARGEST.1) + MARGIN.1;

        let subtitle_length =
            ((width - MARGIN.0 + SUBTITLE_OVERHANG) / SUBTITLE_PIXELS_PER_CHARACTER) as usize;

        let plot = Plot::Heatmap(
            Heatmap::new()
                .with_data(self.logarithms())
                .with_color_map(ColorMap::Viridis),
        );
        let plots = vec![plot];
        let layout = Layout::auto_from_plots(&plots)
            .with_width(width)
            .with_height(height)
            .with_title(literal(&self.title))
            .with_subtitle(literal(&shortened(&self.subtitle, subtitle_length)))
            .with_x_label(literal(&self.x_label))
            .with_y_label(literal(&self.y_label))
            .with_x_categories(ticks(columns, LARGEST.0 / 24.0))
            .with_y_categories(ticks(rows, LARGEST.1 / 16.0))
            .with_colorbar_tick_format(TickFormat::Custom(Arc::new(|log| plain(10_f64.powf(log)))));
        PngBackend::new()
            .with_scale(SCALE)
            .render_scene(&render_multiple(plots, layout))
            .map_err(|error| anyhow!("heat map: {error}"))
    }

    fn logarithms(&self) -> Vec<Vec<f64>> {
        let top = self.values.iter().flatten().copied().fold(0.0, f64::max);
        // Any floor will do when everything is 0.
        let floor = if top > 0.0 {
            top / 10_f64.powf(DECADES)
        } else {
            1.0
        };
        self.values
            .iter()
            .map(|row| row.iter().map(|value| value.max(floor).log10()).collect())
            .collect()
    }
}

/// Labels of `count` rows or columns: all of them, or every 2nd, 5th, 10th … when more than `most` would not fit.
fn ticks(count: usize, most: f64) -> Vec<String> {
    let step = [1, 2, 5, 10, 20, 50, 100]
        .into_iter()
        .find(|step| count as f64 / f64::from(*step) <= most)
        .unwrap_or(200) as usize;
    (0..count)
        .map(|index| {
            if index % step == 0 {
                index.to_string()
            } else {
                String::new()
            }
        })
        .collect()
}

/// Text that the plotting library would otherwise read as a formula.
fn literal(text: &str) -> String {
    text.replace('$', "\\$")
}

fn shortened(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= most {
        line
    } else {
        let kept: String = line.chars().take(most.saturating_sub(1)).collect();
        format!("{}…", kept.trim_end())
    }
}

/// Two significant digits without trailing zeros, and without an exponent as long as that is short.
fn plain(value: f64) -> String {
    if !(1e-5..1e5).contains(&value) {
        return format!("{value:.1e}").replace(".0e", "e");
    }
    let decimals = (1.0 - value.log10().floor()).max(0.0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: Vec<Vec<f64>>) -> HeatMap {
        HeatMap {
            title: "title".to_owned(),
            subtitle: "costs $5 and $6".to_owned(),
            x_label: "head".to_owned(),
            y_label: "layer".to_owned(),
            values,
        }
    }

    #[test]
    fn a_figure_is_a_png_whose_colours_differ_where_values_do() {
        let png = |values| map(values).png().unwrap();
        let plain = png(vec![vec![1e-3, 1e-3], vec![1e-3, 1e-3]]);
        assert!(plain.starts_with(b"\x89PNG\r\n\x1a\n"));
        let marked = png(vec![vec![1e-3, 1e-3], vec![1e-3, 2.0]]);
        assert_ne!(plain, marked);
        // Below the floor everything looks alike, an exact 0 too.
        assert_eq!(png(vec![vec![1.0, 0.0]]), png(vec![vec![1.0, 1e-9]]));
        // Nothing to tell apart is no reason to fail.
        png(vec![vec![0.0; 3]; 2]);
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let refused = |values| map(values).png().unwrap_err().to_string();
        let unequal = "heat map: expected rows of equal length, at least one value in each";
        assert_eq!(refused(vec![]), unequal);
        assert_eq!(refused(vec![vec![]]), unequal);
        assert_eq!(refused(vec![vec![1.0], vec![1.0, 2.0]]), unequal);
        assert_eq!(
            refused(vec![vec![f64::NAN]]),
            "heat map: expected finite values from 0, found NaN"
        );
        assert_eq!(
            refused(vec![vec![-1.0]]),
            "heat map: expected finite values from 0, found -1"
        );
    }

    #[test]
    fn labels_are_thinned_only_when_they_must() {
        assert_eq!(ticks(3, 58.0), ["0", "1", "2"]);
        let many = ticks(126, 58.0);
        assert_eq!(many.iter().filter(|label| !label.is_empty()).count(), 26);
        assert_eq!(
            (many[0].as_str(), many[1].as_str(), many[5].as_str()),
            ("0", "", "5")
        );
    }

    #[test]
    fn texts_fit_and_are_taken_literally() {
        assert_eq!(shortened("a  b\nc", 10), "a b c");
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(literal("$x$"), "\\$x\\$");
        let shown = [0.001, 0.0316, 0.5, 3.16, 20.0, 316.0, 1e-7, 3.16e-7].map(plain);
        assert_eq!(
            shown,
            [
                "0.001", "0.032", "0.5", "3.2", "20", "316", "1e-7", "3.2e-7"
            ]
        );
    }
}
