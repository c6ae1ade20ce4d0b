//! From values to places on an axis.

/// How values lie along an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Evenly.
    Linear,
    /// By their logarithms.
    Log,
    /// Linear around zero, logarithmic far from it: `asinh(value / unit)`.
    Symlog {
        /// Where one becomes the other.
        unit: f64,
    },
}

/// An axis of values.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
}

impl Scale {
    /// One that shows all of these values, those that it can show; `None` without any.
    pub fn over(kind: Kind, values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let shown = values.into_iter().filter(|value| shows(kind, *value));
        let (low, high) = shown.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        (low <= high).then(|| Self::between(kind, low, high))
    }

    /// One from a value to another, with room around a single one.
    pub fn between(kind: Kind, low: f64, high: f64) -> Self {
        let (low, high) = match kind {
            Kind::Log if high < low * 1.01 => (low / 2.0, high * 2.0),
            Kind::Linear | Kind::Symlog { .. } if high <= low => {
                let room = if low == 0.0 { 1.0 } else { low.abs() / 2.0 };
                (low - room, high + room)
            }
            _ => (low, high),
        };
        Self { kind, low, high }
    }

    /// The same with some room above and below.
    pub fn with_room(self) -> Self {
        let (low, high) = (self.bend(self.low), self.bend(self.high));
        let room = (high - low) * 0.05;
        Self {
            low: self.unbend(low - room),
            high: self.unbend(high + room),
            ..self
        }
    }

    /// From zero to the largest of these values, with some room above: what bars stand on.
    pub fn of_bars(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let largest = values
            .into_iter()
            .filter(|value| value.is_finite())
            .reduce(f64::max)?;
        Some(Self::between(Kind::Linear, 0.0, largest.max(0.0) * 1.05))
    }

    /// Where a value lies: 0 is the low end, 1 the high one; `None` where it has no place.
    pub fn place(&self, value: f64) -> Option<f64> {
        if !shows(self.kind, value) {
            return None;
        }
        let (low, high) = (self.bend(self.low), self.bend(self.high));
        Some(((self.bend(value) - low) / (high - low)).clamp(0.0, 1.0))
    }

    /// The value at a place.
    pub fn value(&self, place: f64) -> f64 {
        let (low, high) = (self.bend(self.low), self.bend(self.high));
        self.unbend(low + place * (high - low))
    }

    fn bend(&self, value: f64) -> f64 {
        match self.kind {
            Kind::Linear => value,
            Kind::Log => value.log10(),
            Kind::Symlog { unit } => (value / unit).asinh(),
        }
    }

    fn unbend(&self, bent: f64) -> f64 {
        match self.kind {
            Kind::Linear => bent,
            Kind::Log => 10_f64.powf(bent),
            Kind::Symlog { unit } => bent.sinh() * unit,
        }
    }

    /// Round values along it, about `count` of them.
    pub fn ticks(&self, count: usize) -> Vec<f64> {
        match self.kind {
            Kind::Linear => even(self.low, self.high, count),
            Kind::Log => powers(self.low, self.high, count),
            Kind::Symlog { unit } => {
                let farthest = self.high.max(-self.low);
                let side = if farthest > unit {
                    powers(unit, farthest, count.div_ceil(2))
                } else {
                    vec![farthest]
                };
                let mut ticks: Vec<f64> = side.iter().rev().map(|tick| -tick).collect();
                ticks.push(0.0);
                ticks.extend(side);
                ticks.retain(|tick| (self.low..=self.high).contains(tick));
                ticks
            }
        }
    }
}

/// Whether an axis has a place for a value.
fn shows(kind: Kind, value: f64) -> bool {
    value.is_finite() && (kind != Kind::Log || value > 0.0)
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn even(low: f64, high: f64, count: usize) -> Vec<f64> {
    let rough = (high - low) / count.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    let step = steps.into_iter().find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|number| number as f64 * step).collect()
}

/// Powers of ten; parts of them too where there are few, not all where there are many.
fn powers(low: f64, high: f64, count: usize) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let factors: &[f64] = match (high / low).log10() {
        decades if decades < 1.0 => &[1.0, 2.0, 3.0, 5.0, 7.0],
        decades if decades < 2.5 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let step = (last - first).unsigned_abs().div_ceil(count.max(1) as u32);
    let powers = (first..=last).step_by(step.max(1) as usize);
    let ticks = powers.flat_map(|power| factors.iter().map(move |f| f * 10_f64.powi(power)));
    ticks
        .filter(|tick| (low * 0.999..=high * 1.001).contains(tick))
        .collect()
}

/// A number in three digits or a few more.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".into();
    }
    let text = match size {
        0.0 => return "0".into(),
        _ if !(1e-3..1e6).contains(&size) => {
            let text = format!("{value:.2e}");
            let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
            return format!("{}e{power}", trim(digits));
        }
        _ if size >= 1000.0 => format!("{value:.0}"),
        _ if size >= 100.0 => format!("{value:.1}"),
        _ if size >= 10.0 => format!("{value:.2}"),
        _ if size >= 0.1 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    };
    trim(&text).to_owned()
}

/// Without zeros behind a point.
fn trim(digits: &str) -> &str {
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_places() {
        let log = Scale::between(Kind::Log, 0.1, 1000.0);
        assert_eq!(log.place(0.1), Some(0.0));
        assert!((log.place(10.0).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(log.place(0.0), None);
        assert_eq!(log.place(f64::NAN), None);
        assert_eq!(log.ticks(5), [0.1, 1.0, 10.0, 100.0, 1000.0]);
        let linear = Scale::between(Kind::Linear, 0.0, 10.0);
        assert_eq!(linear.ticks(5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        let both = Scale::between(Kind::Symlog { unit: 1.0 }, -100.0, 1000.0);
        assert_eq!(
            both.ticks(6),
            [-100.0, -10.0, -1.0, 0.0, 1.0, 10.0, 100.0, 1000.0]
        );
        assert!(Scale::over(Kind::Log, [0.0, f64::INFINITY]).is_none());
    }

    #[test]
    fn a_single_value_has_room_around_it() {
        for (kind, value) in [(Kind::Linear, 0.0), (Kind::Linear, -3.0), (Kind::Log, 7.0)] {
            let scale = Scale::over(kind, [value]).unwrap().with_room();
            let place = scale.place(value).unwrap();
            assert!((0.2..0.8).contains(&place), "{kind:?} {place}");
            assert!(!scale.ticks(5).is_empty());
        }
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 1.0, -0.25, 12345.0, 1.5e9, 3e-5, 99.999, f64::NAN, 1e6];
        let texts = numbers.map(short);
        assert_eq!(
            texts,
            [
                "0", "1", "-0.25", "12345", "1.5e9", "3e-5", "100", "–", "1e6"
            ]
        );
    }
}
