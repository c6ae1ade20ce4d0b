//! Charts as SVG: lines over layers or positions, bars, bands and heat maps. Colours come from the page.

use std::fmt::Write;

use super::markup::escape;
use super::scale::{Kind, Scale, short};

/// Size of a chart, in its own units: about pixels.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
/// Around the plot.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 40.0;

/// Points of one kind, joined.
pub struct Series {
    /// What they are.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
    /// Not the main thing.
    pub is_faint: bool,
}

impl Series {
    /// Points that are joined by a line.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points,
            is_faint: false,
        }
    }

    /// The same as a thin line.
    pub fn faint(mut self) -> Self {
        self.is_faint = true;
        self
    }
}

/// What is filled between two lines.
pub struct Band {
    /// What it is.
    pub name: String,
    /// Place, lower end, upper end; from left to right.
    pub points: Vec<(f64, f64, f64)>,
}

/// Lines over a common axis.
#[derive(Default)]
pub struct Lines {
    /// Below the plot.
    pub x_name: &'static str,
    /// Behind the bands.
    pub series: Vec<Series>,
    /// In the order in which they are painted.
    pub bands: Vec<Band>,
    /// Bars from the bottom in place of lines.
    pub bars: bool,
    /// The places are whole numbers.
    pub whole: bool,
    /// The places lie by their logarithms.
    pub log_x: bool,
}

impl Lines {
    /// The chart; `None` where nothing can be shown. `label` is for those who do not see it.
    pub fn svg(&self, kind: Kind, label: &str) -> Option<String> {
        let of_series = || {
            self.series
                .iter()
                .flat_map(|series| series.points.iter().copied())
        };
        let of_bands = || {
            self.bands
                .iter()
                .flat_map(|band| band.points.iter().copied())
        };
        let values = of_series().map(|(_, y)| y);
        let values = values.chain(of_bands().flat_map(|(_, low, high)| [low, high]));
        let y = if self.bars {
            Scale::of_bars(values)?
        } else {
            Scale::over(kind, values)?.with_room()
        };
        let places = of_series()
            .map(|(x, _)| x)
            .chain(of_bands().map(|(x, ..)| x));
        let x_kind = if self.log_x { Kind::Log } else { Kind::Linear };
        let x = Scale::over(x_kind, places)?;
        let bar = (WIDTH - LEFT - RIGHT) / (self.longest().max(1) + 1) as f64;
        let inset = if self.bars { bar / 2.0 + 2.0 } else { 6.0 };
        let frame = Frame { x, y, inset };
        let mut svg = Frame::open(label);
        frame.axes(&mut svg, self.x_name, self.whole);
        for (index, band) in self.bands.iter().enumerate() {
            frame.band(&mut svg, band, index);
        }
        for (index, series) in self.series.iter().enumerate() {
            if self.bars {
                frame.bars(&mut svg, series, index, bar * 0.8);
            } else {
                frame.line(&mut svg, series, index);
            }
        }
        self.hints(&frame, &mut svg);
        svg += "</svg>";
        Some(self.legend() + &svg)
    }

    fn longest(&self) -> usize {
        self.series
            .iter()
            .map(|series| series.points.len())
            .max()
            .unwrap_or(0)
    }

    /// The names of the lines; a single one needs none.
    fn legend(&self) -> String {
        if self.series.len() + self.bands.len() < 2 {
            return String::new();
        }
        let mut html = String::from("<p class=legend>");
        for (index, series) in self.series.iter().enumerate() {
            let faint = if series.is_faint { " faint" } else { "" };
            let (colour, name) = (index % COLOURS, escape(&series.name));
            let _ = write!(
                html,
                "<span><i class=\"k{colour}{faint}\"></i>{name}</span> "
            );
        }
        for (index, band) in self.bands.iter().enumerate() {
            let (shade, name) = (index % BANDS, escape(&band.name));
            let _ = write!(html, "<span><i class=\"b{shade}\"></i>{name}</span> ");
        }
        html + "</p>"
    }

    /// What is said of a place where the pointer rests on it: all values there.
    fn hints(&self, frame: &Frame, svg: &mut String) {
        let mut places: Vec<f64> = self
            .series
            .iter()
            .flat_map(|series| series.points.iter().map(|point| point.0))
            .chain(
                self.bands
                    .iter()
                    .flat_map(|band| band.points.iter().map(|point| point.0)),
            )
            .collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let at: Vec<f64> = places
            .iter()
            .map(|place| frame.x_of(*place).unwrap_or(LEFT))
            .collect();
        for (index, (place, centre)) in places.iter().zip(&at).enumerate() {
            let left = if index == 0 {
                LEFT
            } else {
                (at[index - 1] + centre) / 2.0
            };
            let right = at
                .get(index + 1)
                .map_or(WIDTH - RIGHT, |next| (next + centre) / 2.0);
            let mut text = format!("{} {}", self.x_name, short(*place));
            for series in &self.series {
                if let Some(point) = series.points.iter().find(|point| point.0 == *place) {
                    let _ = write!(text, "\n{}: {}", series.name, short(point.1));
                }
            }
            for band in &self.bands {
                if let Some(point) = band.points.iter().find(|point| point.0 == *place) {
                    let _ = write!(
                        text,
                        "\n{}: {} to {}",
                        band.name,
                        short(point.1),
                        short(point.2)
                    );
                }
            }
            let text = text
                .split('\n')
                .map(escape)
                .collect::<Vec<_>>()
                .join("&#10;");
            let _ = write!(
                svg,
                "<rect class=hint x={left:.1} y={TOP} width={:.1} height={:.1}><title>{text}</title></rect>",
                (right - left).max(0.5),
                HEIGHT - TOP - BOTTOM,
            );
        }
    }
}

/// Colours of lines, and shades of bands.
const COLOURS: usize = 6;
const BANDS: usize = 4;

/// The plot within a chart.
struct Frame {
    x: Scale,
    y: Scale,
    /// Room left and right of the outermost places.
    inset: f64,
}

impl Frame {
    fn open(label: &str) -> String {
        let label = escape(label);
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{label}\">")
    }

    fn x_of(&self, place: f64) -> Option<f64> {
        let width = WIDTH - LEFT - RIGHT - 2.0 * self.inset;
        Some(LEFT + self.inset + self.x.place(place)? * width)
    }

    fn y_of(&self, value: f64) -> Option<f64> {
        Some(HEIGHT - BOTTOM - self.y.place(value)? * (HEIGHT - TOP - BOTTOM))
    }

    fn axes(&self, svg: &mut String, x_name: &str, whole: bool) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in self.y.ticks(6) {
            let Some(y) = self.y_of(tick) else { continue };
            let _ = write!(
                svg,
                "<path class=grid d=\"M{LEFT} {y:.1}H{right}\"/><text class=end x={} y={:.1}>{}</text>",
                LEFT - 6.0,
                y + 4.0,
                short(tick)
            );
        }
        let ticks = self.x.ticks(8).into_iter();
        for tick in ticks.filter(|tick| !whole || tick.fract().abs() < 1e-9) {
            let Some(x) = self.x_of(tick) else { continue };
            let _ = write!(
                svg,
                "<path class=tick d=\"M{x:.1} {bottom}v4\"/><text class=mid x={x:.1} y={}>{}</text>",
                bottom + 17.0,
                short(tick)
            );
        }
        let _ = write!(
            svg,
            "<path class=axis d=\"M{LEFT} {bottom}H{right}\"/><text class=mid x={} y={}>{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 5.0,
            escape(x_name)
        );
    }

    fn line(&self, svg: &mut String, series: &Series, index: usize) {
        let mut path = String::new();
        let mut dots = String::new();
        let mut is_down = false;
        for &(x, y) in &series.points {
            let (Some(x), Some(y)) = (self.x_of(x), self.y_of(y)) else {
                is_down = false;
                continue;
            };
            let step = if is_down { 'L' } else { 'M' };
            let _ = write!(path, "{step}{x:.1} {y:.1}");
            if series.points.len() <= 40 && !series.is_faint {
                let _ = write!(dots, "M{x:.1} {y:.1}h0");
            }
            is_down = true;
        }
        let colour = index % COLOURS;
        let faint = if series.is_faint { " faint" } else { "" };
        let _ = write!(svg, "<path class=\"line k{colour}{faint}\" d=\"{path}\"/>");
        if !dots.is_empty() {
            let _ = write!(svg, "<path class=\"dots k{colour}\" d=\"{dots}\"/>");
        }
    }

    fn bars(&self, svg: &mut String, series: &Series, index: usize, width: f64) {
        let mut path = String::new();
        let bottom = HEIGHT - BOTTOM;
        for &(x, y) in &series.points {
            if let (Some(x), Some(y)) = (self.x_of(x), self.y_of(y)) {
                let _ = write!(
                    path,
                    "M{:.1} {bottom}V{y:.1}h{width:.1}V{bottom}z",
                    x - width / 2.0
                );
            }
        }
        let _ = write!(
            svg,
            "<path class=\"bar k{}\" d=\"{path}\"/>",
            index % COLOURS
        );
    }

    fn band(&self, svg: &mut String, band: &Band, index: usize) {
        let edge = |pick: fn(&(f64, f64, f64)) -> f64| {
            let place =
                move |point: &(f64, f64, f64)| Some((self.x_of(point.0)?, self.y_of(pick(point))?));
            band.points.iter().filter_map(place).collect::<Vec<_>>()
        };
        let (low, high) = (edge(|point| point.1), edge(|point| point.2));
        let mut path = String::new();
        for (index, (x, y)) in low.iter().chain(high.iter().rev()).enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
        }
        let _ = write!(
            svg,
            "<path class=\"band b{}\" d=\"{path}z\"/>",
            index % BANDS
        );
    }
}

/// A table of values as colours.
pub struct HeatMap {
    /// Of each row, from the top.
    pub rows: Vec<String>,
    /// The number of the first column; they are counted.
    pub first: usize,
    /// Below the map.
    pub x_name: &'static str,
    /// Left of it.
    pub y_name: &'static str,
    /// By row, as many values each; `None` has no colour.
    pub values: Vec<Vec<Option<f64>>>,
    /// It has the page's width.
    pub is_broad: bool,
}

/// Width of a chart that has the page's.
const BROAD: f64 = 1100.0;

/// Steps of colour.
const LEVELS: usize = 12;

impl HeatMap {
    /// The map; `None` where nothing can be shown.
    pub fn svg(&self, kind: Kind, label: &str) -> Option<String> {
        let columns = self
            .values
            .iter()
            .map(Vec::len)
            .max()
            .filter(|count| *count > 0)?;
        let scale = Scale::over(kind, self.values.iter().flatten().flatten().copied())?;
        let room = if self.is_broad { BROAD } else { WIDTH };
        let cell = ((room - LEFT - RIGHT) / columns as f64).min(40.0);
        let height = (320.0 / self.rows.len() as f64).clamp(1.5, 16.0);
        let (width, tall) = (cell * columns as f64, height * self.rows.len() as f64);
        let label = escape(label);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {room} {:.1}\" role=img aria-label=\"{label}\">",
            tall + TOP + BOTTOM
        );
        let _ = write!(
            svg,
            "<g transform=\"translate({LEFT} {TOP}) scale({cell:.4} {height:.4})\">"
        );
        for (level, path) in self.paths(&scale).iter().enumerate() {
            if !path.is_empty() {
                let _ = write!(svg, "<path class=\"heat h{level}\" d=\"{path}\"/>");
            }
        }
        svg += "</g>";
        self.names(&mut svg, cell, height, columns);
        let _ = write!(
            svg,
            "<text class=mid x={:.1} y={:.1}>{}</text><text class=end x={} y={}>{}</text></svg>",
            LEFT + width / 2.0,
            TOP + tall + 34.0,
            escape(self.x_name),
            LEFT - 6.0,
            TOP - 10.0,
            escape(self.y_name),
        );
        Some(key(&scale) + &svg)
    }

    /// Cells of each step of colour, those that lie side by side in one.
    fn paths(&self, scale: &Scale) -> Vec<String> {
        let level = |value: &Option<f64>| {
            let place = value.and_then(|value| scale.place(value))?;
            Some(((place * LEVELS as f64) as usize).min(LEVELS - 1))
        };
        let mut paths = vec![String::new(); LEVELS];
        for (row, values) in self.values.iter().enumerate() {
            let mut start = 0;
            while start < values.len() {
                let own = level(&values[start]);
                let alike = values[start..]
                    .iter()
                    .take_while(|value| level(value) == own);
                let count = alike.count();
                if let Some(own) = own {
                    let _ = write!(paths[own], "M{start} {row}.5h{count}");
                }
                start += count;
            }
        }
        paths
    }

    fn names(&self, svg: &mut String, cell: f64, height: f64, columns: usize) {
        let every = (12.0 / height).ceil().max(1.0) as usize;
        for (row, name) in self.rows.iter().enumerate().step_by(every) {
            let y = TOP + (row as f64 + 0.5) * height + 4.0;
            let _ = write!(
                svg,
                "<text class=end x={} y={y:.1}>{}</text>",
                LEFT - 6.0,
                escape(name)
            );
        }
        let every = (34.0 / cell).ceil().max(1.0) as usize;
        let every = [1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000]
            .into_iter()
            .find(|step| *step >= every)
            .unwrap_or(every);
        for column in (0..columns).filter(|column| (self.first + column).is_multiple_of(every)) {
            let x = LEFT + (column as f64 + 0.5) * cell;
            let y = TOP + height * self.rows.len() as f64 + 16.0;
            let _ = write!(
                svg,
                "<text class=mid x={x:.1} y={y:.1}>{}</text>",
                self.first + column
            );
        }
    }
}

/// Which colour is which value.
fn key(scale: &Scale) -> String {
    let mut html = String::from("<p class=legend><span>");
    html += &short(scale.value(0.0));
    html += " </span><span class=key>";
    for level in 0..LEVELS {
        let _ = write!(html, "<i class=h{level}></i>");
    }
    let _ = write!(html, "</span><span> {}</span></p>", short(scale.value(1.0)));
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_leave_out_what_has_no_place() {
        let mut lines = Lines {
            x_name: "layer",
            ..Lines::default()
        };
        lines.series.push(Series::new(
            "a<b",
            vec![(0.0, 1.0), (1.0, 0.0), (2.0, 100.0)],
        ));
        lines.series.push(Series::new("b", vec![(0.0, f64::NAN)]));
        let svg = lines.svg(Kind::Log, "x").unwrap();
        assert!(
            svg.contains("a&lt;b") && !svg.contains("a<b") && !svg.contains("NaN"),
            "{svg}"
        );
        // The middle one is not there, so the line has two beginnings.
        let line = svg.split("<path class=\"line k0\" d=\"").nth(1).unwrap();
        assert_eq!(line.split('"').next().unwrap().matches('M').count(), 2);
        lines.series.truncate(0);
        assert!(lines.svg(Kind::Log, "x").is_none());
    }

    #[test]
    fn cells_side_by_side_are_one() {
        let map = HeatMap {
            rows: vec!["0".into(), "1".into()],
            first: 1,
            x_name: "layer",
            y_name: "channel",
            values: vec![vec![Some(1.0); 100], vec![Some(100.0), None, Some(1.0)]],
            is_broad: false,
        };
        let svg = map.svg(Kind::Log, "x").unwrap();
        assert!(
            svg.contains("class=\"heat h0\" d=\"M0 0.5h100M2 1.5h1\""),
            "{svg}"
        );
        assert!(svg.contains("class=\"heat h11\" d=\"M0 1.5h1\""), "{svg}");
    }
}
