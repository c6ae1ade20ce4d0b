//! Numbers of 0 to 255 to what a model reads.

use crate::error::DescriptionError;
use crate::settings::Settings;

/// What becomes of each number of each channel.
#[derive(Clone, Debug)]
pub struct Normalise {
    values: Box<[[f32; 256]; 3]>,
}

impl Normalise {
    /// By `do_rescale`, `rescale_factor`, `do_normalize`, `image_mean` and `image_std`: one subtraction and one division in
    /// single precision, as the torchvision backend does it.
    pub fn read(settings: &Settings) -> Result<Self, DescriptionError> {
        Self::with(settings, "image_mean", "image_std")
    }

    /// The same by other keys of mean and deviation.
    pub fn with(
        settings: &Settings,
        mean: &str,
        deviation: &str,
    ) -> Result<Self, DescriptionError> {
        let (means, deviations) = (settings.channels(mean)?, settings.channels(deviation)?);
        let factor = rescale_factor(settings)?;
        if !settings.switch("do_normalize")? {
            return Ok(Self::of(|value, _| {
                factor.map_or(value, |factor| value * factor as f32)
            }));
        }
        let there = |numbers: Option<[f64; 3]>, key| {
            numbers.ok_or_else(|| settings.refused(key, "`do_normalize` needs it"))
        };
        let (means, deviations) = (there(means, mean)?, there(deviations, deviation)?);
        if deviations.contains(&0.0) {
            return Err(settings.refused(deviation, "nothing is divided by zero"));
        }
        let stretch = factor.map_or(1.0, |factor| (1.0 / factor) as f32);
        Ok(Self::of(|value, channel| {
            (value - means[channel] as f32 * stretch) / (deviations[channel] as f32 * stretch)
        }))
    }

    /// By a function of the number and its channel.
    pub fn of(function: impl Fn(f32, usize) -> f32) -> Self {
        let mut values = Box::new([[0.0; 256]; 3]);
        for (channel, row) in values.iter_mut().enumerate() {
            for (number, value) in row.iter_mut().enumerate() {
                *value = function(number as f32, channel);
            }
        }
        Self { values }
    }

    /// What becomes of a number of a channel.
    pub fn at(&self, number: u8, channel: usize) -> f32 {
        self.values[channel][usize::from(number)]
    }
}

/// `rescale_factor`, where `do_rescale` is on.
pub fn rescale_factor(settings: &Settings) -> Result<Option<f64>, DescriptionError> {
    if !settings.switch("do_rescale")? {
        return Ok(None);
    }
    let factor = settings
        .number("rescale_factor")?
        .filter(|&factor| factor != 0.0);
    factor
        .map(Some)
        .ok_or_else(|| settings.refused("rescale_factor", "`do_rescale` needs a number"))
}
