//! What a report says of the activations and of experts.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::datatypes::{Float64Type, UInt32Type, UInt64Type};

use super::chart::{Band, HeatMap, Lines, Series};
use super::error::ReportError;
use super::markup::{Cell, table};
use super::page::Section;
use super::scale::Kind;
use super::tables::read;

/// Statistics by layer and name.
type Layers = BTreeMap<u32, BTreeMap<String, f64>>;

/// Statistics by stack and site.
type Sites = BTreeMap<(String, String), Layers>;

/// Channels that are shown.
const CHANNELS: usize = 24;

fn read_profile(path: &Path) -> Result<Sites, ReportError> {
    let mut sites = Sites::new();
    read(
        path,
        &["stack", "layer", "site", "statistic", "value"],
        |columns| {
            let (stacks, named) = (columns.texts(0)?, columns.texts(2)?);
            let (statistics, layers) = (columns.texts(3)?, columns.numbers::<UInt32Type>(1)?);
            let values = columns.numbers::<Float64Type>(4)?;
            for row in 0..columns.rows() {
                let key = (stacks[row].to_owned(), named[row].to_owned());
                let layer = sites
                    .entry(key)
                    .or_default()
                    .entry(layers[row].unwrap_or(0));
                let value = values[row].unwrap_or(f64::NAN);
                layer.or_default().insert(statistics[row].to_owned(), value);
            }
            Ok(())
        },
    )?;
    Ok(sites)
}

/// A statistic of every layer that has it.
fn points(
    layers: &Layers,
    value: impl Fn(&BTreeMap<String, f64>) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let of = |(layer, statistics): (&u32, _)| Some((f64::from(*layer), value(statistics)?));
    layers.iter().filter_map(of).collect()
}

fn named(name: &str) -> impl Fn(&BTreeMap<String, f64>) -> Option<f64> {
    move |statistics| statistics.get(name).copied()
}

fn root_mean_square(statistics: &BTreeMap<String, f64>) -> Option<f64> {
    let (mean, variance) = (statistics.get("mean")?, statistics.get("variance")?);
    Some((mean * mean + variance).sqrt())
}

/// Sites in the order in which values pass through them.
fn ordered<'a>(sites: &'a Sites, stack: &str) -> Vec<(&'a str, &'a Layers)> {
    let order = ["hidden", "attention", "cross_attention", "scan", "mlp"];
    let own = sites
        .iter()
        .filter(|((other, site), _)| other == stack && site != "router");
    let mut own: Vec<_> = own
        .map(|((_, site), layers)| (site.as_str(), layers))
        .collect();
    own.sort_by_key(|(site, _)| order.iter().position(|other| other == site));
    own
}

/// A line for each site.
fn by_site(
    sites: &[(&str, &Layers)],
    value: impl Fn(&BTreeMap<String, f64>) -> Option<f64>,
) -> Lines {
    let series = sites
        .iter()
        .map(|(site, layers)| Series::new(*site, points(layers, &value)));
    Lines {
        x_name: "layer",
        series: series.filter(|series| !series.points.is_empty()).collect(),
        whole: true,
        ..Lines::default()
    }
}

/// The parts of the report about `profile.parquet`, one a stack.
pub fn sections(folder: &Path, has_channels: bool) -> Result<Vec<Section>, ReportError> {
    let sites = read_profile(&folder.join("profile.parquet"))?;
    let mut stacks: Vec<&str> = sites.keys().map(|(stack, _)| stack.as_str()).collect();
    stacks.dedup();
    let mut channels = if has_channels {
        read_channels(&folder.join("channels.parquet"))?
    } else {
        BTreeMap::new()
    };
    let mut sections = Vec::new();
    for stack in &stacks {
        let title = match stacks.len() {
            1 => "Activations".to_owned(),
            _ => format!("Activations of the {stack}"),
        };
        let mut section = Section::new(&title);
        let own = ordered(&sites, stack);
        for (site, layers) in &own {
            magnitudes(&mut section, site, layers);
        }
        shapes(&mut section, &own);
        if let Some(rows) = channels.remove(*stack) {
            section.wide_chart(
                "Largest channels of the hidden state",
                "The largest magnitude of a channel over the median of all channels of the layer, of the channels that stand out \
                 most. A channel that is large through many layers is what rotations, SmoothQuant and mixed precision are about.",
                heat_of_channels(&rows),
            );
        }
        section.hidden_table("Every statistic", &statistics(&own));
        sections.push(section);
    }
    Ok(sections)
}

/// The largest magnitudes and the median of a site.
fn magnitudes(section: &mut Section, site: &str, layers: &Layers) {
    let of = |title: &str, name: &str| Series::new(title, points(layers, named(name)));
    let lines = Lines {
        x_name: "layer",
        series: vec![
            of("largest", "abs_max"),
            of("second", "abs_top2").faint(),
            of("third", "abs_top3").faint(),
            of("median", "abs_q0.5"),
        ],
        whole: true,
        ..Lines::default()
    };
    let title = match site {
        "hidden" => "Magnitudes of the hidden state".to_owned(),
        site => format!("Magnitudes of {}", site.replace('_', " ")),
    };
    let note = match site {
        "hidden" => {
            "The three largest magnitudes and the median. A few values thousands of times the median are massive activations: \
             they break 8-bit and 4-bit activation formats."
        }
        _ => "What the branch adds to the hidden state.",
    };
    section.chart(&title, note, lines.svg(Kind::Log, &title));
}

/// What the distributions look like.
fn shapes(section: &mut Section, sites: &[(&str, &Layers)]) {
    let kurtosis = by_site(sites, named("kurtosis"));
    section.chart(
        "Kurtosis",
        "How heavy the tails are: 3 for a normal distribution, hundreds where a few channels carry everything.",
        kurtosis.svg(Kind::Log, "Kurtosis by layer"),
    );
    let sizes = by_site(sites, root_mean_square);
    section.chart(
        "Root mean square",
        "How large the residual stream is, and what each branch adds to it.",
        sizes.svg(Kind::Log, "Root mean square by layer"),
    );
    let hidden: Vec<_> = sites
        .iter()
        .filter(|(site, _)| *site == "hidden")
        .copied()
        .collect();
    let mut influence = by_site(&hidden, |statistics| Some(1.0 - statistics.get("cosine")?));
    influence.bars = true;
    section.chart(
        "Influence of a layer",
        "1 - cosine of the hidden state before and behind the layer, mean over tokens. Layers with the least change the least: \
         they are the first to be pruned or quantised harder.",
        influence.svg(Kind::Linear, "Influence of a layer"),
    );
    if let Some((_, layers)) = hidden.first() {
        section.chart(
            "Distribution of the hidden state",
            "Between which values 50, 90, 98 and 99.8 % of all values lie, and the median.",
            fan(layers),
        );
    }
}

fn fan(layers: &Layers) -> Option<String> {
    let band = |name: &str, low: &str, high: &str| Band {
        name: name.to_owned(),
        points: layers
            .iter()
            .filter_map(|(layer, statistics)| {
                let ends = (*statistics.get(low)?, *statistics.get(high)?);
                Some((f64::from(*layer), ends.0, ends.1))
            })
            .collect(),
    };
    let lines = Lines {
        x_name: "layer",
        series: vec![Series::new("median", points(layers, named("q0.5")))],
        bands: vec![
            band("99.8 %", "q0.001", "q0.999"),
            band("98 %", "q0.01", "q0.99"),
            band("90 %", "q0.05", "q0.95"),
            band("50 %", "q0.25", "q0.75"),
        ],
        whole: true,
        ..Lines::default()
    };
    // Linear as far as half of the values of a middling layer go.
    let mut halves: Vec<f64> = lines.bands[3]
        .points
        .iter()
        .map(|point| point.2 - point.1)
        .collect();
    halves.sort_by(f64::total_cmp);
    let unit = halves
        .get(halves.len() / 2)
        .copied()
        .filter(|unit| *unit > 0.0);
    let unit = unit.map_or(1.0, |unit| 10_f64.powf(unit.log10().round()));
    lines.svg(
        Kind::Symlog { unit },
        "Distribution of the hidden state by layer",
    )
}

fn statistics(sites: &[(&str, &Layers)]) -> String {
    let names = [
        "mean",
        "variance",
        "kurtosis",
        "abs_max",
        "abs_top2",
        "abs_top3",
        "abs_q0.5",
        "min",
        "q0.001",
        "q0.5",
        "q0.999",
        "max",
        "cosine",
        "non_finite",
    ];
    let heads: Vec<&str> = ["site", "layer"].into_iter().chain(names).collect();
    let rows = sites.iter().flat_map(|(site, layers)| {
        layers.iter().map(move |(layer, statistics)| {
            let values = names.iter().map(|name| {
                statistics
                    .get(*name)
                    .map_or_else(Cell::none, |value| Cell::short(*value))
            });
            [
                Cell::Text((*site).to_owned()),
                Cell::count(u64::from(*layer)),
            ]
            .into_iter()
            .chain(values)
            .collect()
        })
    });
    table(&heads, rows)
}

/// Magnitudes of channels of the hidden states, by stack and layer.
type Channels = BTreeMap<String, BTreeMap<u32, Vec<f32>>>;

fn read_channels(path: &Path) -> Result<Channels, ReportError> {
    let mut stacks = Channels::new();
    read(path, &["stack", "layer", "site", "abs_max"], |columns| {
        let (names, sites) = (columns.texts(0)?, columns.texts(2)?);
        let layers = columns.numbers::<UInt32Type>(1)?;
        for row in (0..columns.rows()).filter(|row| sites[*row] == "hidden") {
            let layer = layers[row].unwrap_or(0);
            let stack = stacks.entry(names[row].to_owned()).or_default();
            stack.insert(layer, columns.list(3, row)?);
        }
        Ok(())
    })?;
    Ok(stacks)
}

fn heat_of_channels(layers: &BTreeMap<u32, Vec<f32>>) -> Option<String> {
    // The first boundary is the embedding, whose channels are no layer's.
    let columns: Vec<Vec<f64>> = layers
        .values()
        .map(|values| {
            let mut sorted = values.clone();
            sorted.sort_by(f32::total_cmp);
            let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
            values
                .iter()
                .map(|value| f64::from(*value) / f64::from(median))
                .collect()
        })
        .collect();
    let count = columns.iter().map(Vec::len).max()?;
    let of = |layer: usize, channel: usize| {
        let value = columns[layer].get(channel).copied();
        value.filter(|value| value.is_finite() && *value > 0.0)
    };
    let most = |channel: usize| {
        let values = (0..columns.len()).filter_map(|layer| of(layer, channel));
        values.fold(0.0, f64::max)
    };
    let mut order: Vec<(usize, f64)> = (0..count).map(|channel| (channel, most(channel))).collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    order.truncate(CHANNELS);
    let map = HeatMap {
        rows: order
            .iter()
            .map(|(channel, _)| channel.to_string())
            .collect(),
        first: layers.keys().next().map_or(0, |layer| *layer as usize),
        x_name: "layer",
        y_name: "channel",
        values: order
            .iter()
            .map(|(channel, _)| {
                (0..columns.len())
                    .map(|layer| of(layer, *channel))
                    .collect()
            })
            .collect(),
        is_broad: true,
    };
    map.svg(Kind::Log, "Largest channels by layer")
}

/// The tokens of each expert, by stack and layer.
type Loads = BTreeMap<String, BTreeMap<u32, Vec<u64>>>;

/// The parts of the report about `experts.parquet`, one a stack.
pub fn expert_sections(path: &Path) -> Result<Vec<Section>, ReportError> {
    let mut loads = Loads::new();
    read(path, &["stack", "layer", "expert", "tokens"], |columns| {
        let (stacks, layers) = (columns.texts(0)?, columns.numbers::<UInt32Type>(1)?);
        let experts = columns.numbers::<UInt32Type>(2)?;
        let tokens = columns.numbers::<UInt64Type>(3)?;
        for row in 0..columns.rows() {
            let stack = loads.entry(stacks[row].to_owned()).or_default();
            let layer = stack.entry(layers[row].unwrap_or(0)).or_default();
            // They are in order; a table that says otherwise gets no room for it.
            if experts[row].map(|expert| expert as usize) == Some(layer.len()) {
                layer.push(tokens[row].unwrap_or(0));
            } else {
                return Err(ReportError::damaged(
                    path,
                    "its experts are not in order".into(),
                ));
            }
        }
        Ok(())
    })?;
    let single = loads.len() == 1;
    let section = |(stack, layers): (String, BTreeMap<u32, Vec<u64>>)| {
        let title = if single {
            "Experts".to_owned()
        } else {
            format!("Experts of the {stack}")
        };
        expert_section(&title, &layers)
    };
    Ok(loads.into_iter().map(section).collect())
}

fn expert_section(title: &str, layers: &BTreeMap<u32, Vec<u64>>) -> Section {
    let mut section = Section::new(title);
    let shares = |loads: &[u64]| -> Vec<f64> {
        let mean = loads.iter().sum::<u64>() as f64 / loads.len().max(1) as f64;
        loads.iter().map(|load| *load as f64 / mean).collect()
    };
    let variation = |loads: &[u64]| {
        let shares = shares(loads);
        let square = |share: &f64| (share - 1.0).powi(2);
        (shares.iter().map(square).sum::<f64>() / shares.len().max(1) as f64).sqrt()
    };
    let unused = |loads: &[u64]| loads.iter().filter(|load| **load == 0).count();
    let sorted = layers.values().map(|loads| {
        let mut shares = shares(loads);
        shares.sort_by(|a, b| b.total_cmp(a));
        shares
            .into_iter()
            .map(|share| Some(share).filter(|share| *share > 0.0))
            .collect()
    });
    let map = HeatMap {
        rows: layers.keys().map(ToString::to_string).collect(),
        first: 1,
        x_name: "rank of the expert within its layer",
        y_name: "layer",
        values: sorted.collect(),
        is_broad: false,
    };
    section.chart(
        "Load of experts",
        "Tokens of an expert over the mean of its layer, the busiest on the left; no colour where no token came.",
        map.svg(Kind::Log, "Load of experts"),
    );
    let series = |value: &dyn Fn(&[u64]) -> f64| {
        let points = layers
            .iter()
            .map(|(layer, loads)| (f64::from(*layer), value(loads)));
        points.collect::<Vec<_>>()
    };
    let lines = Lines {
        x_name: "layer",
        series: vec![Series::new("coefficient of variation", series(&variation))],
        whole: true,
        ..Lines::default()
    };
    section.chart(
        "Imbalance",
        "The coefficient of variation of the experts' loads: 0 if all get as many tokens.",
        lines.svg(Kind::Linear, "Imbalance by layer"),
    );
    let rows = layers.iter().map(|(layer, loads)| {
        let busiest = loads
            .iter()
            .enumerate()
            .max_by_key(|(index, load)| (**load, usize::MAX - index));
        vec![
            Cell::count(u64::from(*layer)),
            Cell::count(loads.len() as u64),
            Cell::count(loads.iter().sum()),
            Cell::short(variation(loads)),
            Cell::count(unused(loads) as u64),
            busiest.map_or_else(Cell::none, |(index, _)| Cell::count(index as u64)),
            shares(loads)
                .into_iter()
                .reduce(f64::max)
                .map_or_else(Cell::none, Cell::short),
        ]
    });
    let names = [
        "layer",
        "experts",
        "choices",
        "coefficient of variation",
        "never chosen",
        "busiest expert",
        "its load over the mean",
    ];
    section.hidden_table("Experts by layer", &table(&names, rows));
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_layers_of_many_experts_are_few_bytes() {
        let load = |layer: u64, expert: u64| (expert * expert * 7919 + layer * 104_729) % 1000;
        let layers = (1..=100).map(|layer| {
            let loads = (0..256).map(|expert| load(u64::from(layer), expert));
            (layer, loads.collect())
        });
        let html = super::super::page::page(
            "a",
            "b",
            &[expert_section("Experts", &layers.collect())],
            &[],
        );
        assert!(html.len() < 200_000, "{} bytes", html.len());
    }
}
