//! A model's processor of pictures: its description, and what it makes of files.

use serde_json::{Map, Value};

use crate::budget::Budget;
use crate::decode::{decode, header};
use crate::error::{DescriptionError, PictureError};
use crate::kept::Kept;
use crate::picture::Picture;
use crate::settings::{Settings, class_of_model};
use crate::size::Area;
use crate::tensor::Tensor;
use crate::ways::{Cut, Drawn, WAYS, Way};

/// What prepares pictures for a model.
#[derive(Debug)]
pub struct ImageProcessor {
    class: &'static str,
    way: Box<dyn Way>,
}

/// What became of the pictures of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// What the model reads.
    pub tensors: Vec<Tensor>,
    /// What placeholders in a text are expanded by.
    pub pictures: Vec<Facts>,
}

/// What there is to know of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its size in the file, upright.
    pub from: Area,
    /// The size of its views, where they have one; that of the first else.
    pub size: Area,
    /// The size of its last view.
    pub last: Area,
    /// Rows and columns of its tiles, or of its patches where it has no tiles; 0 and 0 where it is not divided.
    pub grid: (u32, u32),
    /// Its views: tiles and the whole.
    pub views: usize,
}

/// The keys of a file.
type Keys = Map<String, Value>;

/// A picture of a record that cannot be prepared: its number, and why.
pub type Refused = (usize, PictureError);

impl ImageProcessor {
    /// By the keys of its file.
    pub fn new(
        settings: Map<String, Value>,
        model_type: Option<&str>,
    ) -> Result<Self, DescriptionError> {
        Self::of(&Self::settings(settings, model_type)?)
    }

    /// The keys of `processor_config.json`, and those of the processor of pictures: its `image_processor` if it has one, else
    /// `preprocessor_config.json`.
    pub(crate) fn objects(
        preprocessor: Option<&str>,
        processor: Option<&str>,
    ) -> Result<(Keys, Keys), DescriptionError> {
        let whole = processor
            .map(|text| object("processor_config.json", text))
            .transpose()?;
        let mut whole = whole.unwrap_or_default();
        let settings = match (whole.remove("image_processor"), preprocessor) {
            (Some(Value::Object(keys)), _) => keys,
            (Some(_), _) => {
                let problem = "`image_processor` of processor_config.json is no object";
                return Err(DescriptionError::Json(problem.into()));
            }
            (None, Some(text)) => object("preprocessor_config.json", text)?,
            (None, None) => {
                let problem = "there is neither preprocessor_config.json nor processor_config.json with `image_processor`";
                return Err(DescriptionError::Json(problem.into()));
            }
        };
        Ok((whole, settings))
    }

    /// The settings of these keys; the class by them or by the type of the model.
    pub(crate) fn settings(
        settings: Map<String, Value>,
        model_type: Option<&str>,
    ) -> Result<Settings, DescriptionError> {
        let said = |key: &str| settings.get(key).and_then(Value::as_str);
        let class = said("image_processor_type").map(ToOwned::to_owned);
        let older =
            || Some(said("feature_extractor_type")?.replace("FeatureExtractor", "ImageProcessor"));
        let by_model = || model_type.and_then(class_of_model).map(ToOwned::to_owned);
        let class = class.or_else(older).or_else(by_model);
        let class = class.ok_or(DescriptionError::NoClass)?;
        let class = class.strip_suffix("Fast").unwrap_or(&class);
        if !WAYS.iter().any(|(name, _)| *name == class) {
            return Err(DescriptionError::Class(class.to_owned()));
        }
        Settings::new(class, settings)
    }

    /// By its settings.
    pub(crate) fn of(settings: &Settings) -> Result<Self, DescriptionError> {
        let class = settings.class();
        let way = WAYS.iter().find(|(name, _)| *name == class);
        let (class, read) = way.ok_or_else(|| DescriptionError::Class(class.to_owned()))?;
        Ok(Self {
            way: read(settings)?,
            class,
        })
    }

    /// The class of the reference that it is.
    pub fn class(&self) -> &'static str {
        self.class
    }

    /// The tensors of a record with these pictures, for which `allowed` bytes may be held.
    pub fn prepare(&self, files: &[&[u8]], allowed: u64) -> Result<Prepared, Refused> {
        self.prepare_again(files, allowed, &mut Kept::default())
    }

    /// The same with pictures that were drawn before; what is held of them is no part of `allowed`, and goes where there is not
    /// room for both.
    pub fn prepare_again(
        &self,
        files: &[&[u8]],
        allowed: u64,
        kept: &mut Kept,
    ) -> Result<Prepared, Refused> {
        let beside = allowed.saturating_sub(kept.bytes());
        match self.prepare_beside(files, beside, kept) {
            Err((_, PictureError::Memory { .. })) if kept.bytes() > 0 => {
                kept.clear();
                self.prepare_beside(files, allowed, kept)
            }
            prepared => prepared,
        }
    }

    fn prepare_beside(
        &self,
        files: &[&[u8]],
        allowed: u64,
        kept: &mut Kept,
    ) -> Result<Prepared, Refused> {
        let mut budget = Budget::new(allowed);
        let mut drawn = Vec::new();
        for (at, file) in files.iter().enumerate() {
            let key = Kept::key(file, files.len());
            let picture = match kept.find(&key) {
                Some(found) => copied(found, &mut budget),
                None => self.draw(file, files.len(), &mut budget),
            };
            drawn.push((key, picture.map_err(|error| (at, error))?));
        }
        let (keys, drawn): (Vec<_>, Vec<_>) = drawn.into_iter().unzip();
        let tensors = match drawn[..] {
            [] => Vec::new(),
            _ => {
                let last = drawn.len() - 1;
                let tensors = self.way.arrange(&drawn, &mut budget);
                tensors.map_err(|error| (last, error))?
            }
        };
        let pictures = drawn.iter().map(facts).collect();
        for (key, picture) in keys.into_iter().zip(&drawn) {
            if kept.find(&key).is_none() {
                kept.keep(key, picture);
            }
        }
        Ok(Prepared { tensors, pictures })
    }

    fn draw(&self, file: &[u8], of: usize, budget: &mut Budget) -> Result<Drawn, PictureError> {
        let header = header(file)?;
        let from = Area {
            height: header.height,
            width: header.width,
        };
        let Cut { canvases, grid } = self.way.cut(from, of)?;
        let before = *budget;
        let picture = decode(file, budget.left())?;
        budget.hold_pixels(from.height, from.width)?;
        let mut views = Vec::new();
        for canvas in &canvases {
            views.extend(canvas.draw(&picture, budget)?);
        }
        // The views stay, what was between goes.
        budget.back_to(before);
        for view in &views {
            budget.hold_pixels(view.height(), view.width())?;
        }
        Ok(Drawn { from, grid, views })
    }
}

/// A picture that was drawn before.
fn copied(found: &Drawn, budget: &mut Budget) -> Result<Drawn, PictureError> {
    for view in &found.views {
        budget.hold_pixels(view.height(), view.width())?;
    }
    Ok(found.clone())
}

fn facts(picture: &Drawn) -> Facts {
    let size = |view: Option<&Picture>| view.map_or(picture.from, crate::layout::area_of);
    Facts {
        from: picture.from,
        size: size(picture.views.first()),
        last: size(picture.views.last()),
        grid: picture.grid,
        views: picture.views.len(),
    }
}

fn object(file: &str, text: &str) -> Result<Map<String, Value>, DescriptionError> {
    match serde_json::from_str(text) {
        Ok(Value::Object(keys)) => Ok(keys),
        Ok(_) => Err(DescriptionError::Json(format!("{file} is no JSON object"))),
        Err(error) => Err(DescriptionError::Json(format!("{file}: {error}"))),
    }
}
