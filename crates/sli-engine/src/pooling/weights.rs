//! The weights of a module: a small file in its folder.

use sli_checkpoint::{Checkpoint, FolderError, ModelFolder};
use sli_kernels::{Compute, PackedKind, PackedWeights};

use super::activation::DenseActivation;
use super::recipe::{Dense, Residual, Step};
use super::stored::{PlacedFile, Stored};
use crate::error::{AGAIN, EngineError};
use crate::sentence_folder::{Module, TRANSFORMER_ALONE, modules, unusable};
use crate::weights::load::{decode, element};

/// The file of the weights, and the one that older versions wrote.
const FILE: &str = "model.safetensors";
const TORCH_FILE: &str = "pytorch_model.bin";

/// The weights of the modules behind the transformer of a sentence-transformers model, by their paths in its folder.
pub fn module_weights(home: &ModelFolder) -> Result<Vec<String>, EngineError> {
    let mut files = Vec::new();
    for module in modules(home)?.unwrap_or_default() {
        if !module.is_transformer() {
            files.extend(file_of(home, &module)?);
        }
    }
    Ok(files)
}

/// The file with the weights of a module, where it has any.
fn file_of(home: &ModelFolder, module: &Module) -> Result<Option<String>, FolderError> {
    for name in [FILE, TORCH_FILE] {
        let name = module.file(name);
        if home.has(&name)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The file of a module while its tensors are looked for.
pub(crate) struct ModuleWeights {
    file: PlacedFile,
    checkpoint: Checkpoint,
    taken: Vec<&'static str>,
}

impl ModuleWeights {
    pub fn open(home: &ModelFolder, module: &Module) -> Result<Self, EngineError> {
        let Some(name) = file_of(home, module)? else {
            let problem = "the weights of the module are missing".into();
            let name = home.join(module.file(FILE));
            return Err(unusable(name, problem, TRANSFORMER_ALONE));
        };
        Self::of_file(home, &name)
    }

    /// A file of a folder.
    pub fn of_file(folder: &ModelFolder, name: &str) -> Result<Self, EngineError> {
        folder.look(name)?;
        let file = PlacedFile {
            folder: folder.clone(),
            name: name.to_owned(),
        };
        let checkpoint = file.open()?;
        Ok(Self {
            file,
            checkpoint,
            taken: Vec::new(),
        })
    }

    /// A tensor that must be there with this shape.
    pub fn take(&mut self, name: &'static str, shape: &[usize]) -> Result<Stored, EngineError> {
        let refuse = |problem| unusable(self.file.path(), problem, AGAIN);
        let Some(tensor) = self.checkpoint.tensor(name) else {
            return Err(refuse(format!("it lacks the tensor `{name}`")));
        };
        if *tensor.shape != *shape {
            let problem = format!("`{name}` is {:?}, not {shape:?}", tensor.shape);
            return Err(refuse(problem));
        }
        let Some(float) = tensor.dtype.float() else {
            return Err(refuse(format!(
                "`{name}` is {}, which is not read",
                tensor.dtype
            )));
        };
        self.taken.push(name);
        Ok(Stored {
            file: self.file.clone(),
            name,
            shape: shape.to_vec(),
            element: element(float),
        })
    }

    /// What is left over would be used by something that is not known.
    pub fn finish(self) -> Result<(), EngineError> {
        let mut tensors = self.checkpoint.tensors();
        match tensors.find(|tensor| !self.taken.contains(&&*tensor.name)) {
            None => Ok(()),
            Some(tensor) => {
                let problem = format!("nothing uses the tensor `{}`", tensor.name);
                Err(unusable(self.file.path(), problem, TRANSFORMER_ALONE))
            }
        }
    }
}

impl Stored {
    /// How a matrix is packed.
    fn kind(&self, compute: Compute) -> PackedKind {
        PackedKind::for_weights(self.element, compute)
    }

    /// Memory that it takes, and more while it is read, bytes.
    fn bytes(&self, compute: Compute) -> u64 {
        let values = self.shape.iter().product::<usize>() as u64;
        match self.shape[..] {
            [rows, columns] => {
                let packed = PackedWeights::bytes_for(rows, columns, self.kind(compute)) as u64;
                packed + values * self.element.size() as u64
            }
            _ => values * 4,
        }
    }

    fn raw(&self) -> Result<Vec<u8>, EngineError> {
        let gone = || unusable(self.file.path(), "it has changed".into(), AGAIN);
        let checkpoint = self.file.open()?;
        let tensor = checkpoint.tensor(self.name).ok_or_else(gone)?;
        let values: usize = self.shape.iter().product();
        let bytes = values * self.element.size();
        if tensor.bytes != bytes as u64 {
            return Err(gone());
        }
        let mut raw = vec![0; bytes];
        checkpoint.read_at(tensor.file, tensor.offset, &mut raw)?;
        if let Some(index) = sli_kernels::first_non_finite(&raw, self.element) {
            let leaf = format!("`{}` of {}", self.name, self.file.path().display());
            return Err(EngineError::NonFinite { leaf, index });
        }
        Ok(raw)
    }

    /// As numbers.
    pub fn vector(&self) -> Result<Vec<f32>, EngineError> {
        let raw = self.raw()?;
        let mut values = vec![0.0; raw.len() / self.element.size()];
        decode(&raw, self.element, &mut values);
        Ok(values)
    }

    /// As a packed matrix.
    pub fn matrix(&self, compute: Compute) -> Result<PackedWeights, EngineError> {
        let raw = self.raw()?;
        let [rows, columns] = self.shape[..] else {
            let problem = format!("`{}` is no matrix", self.name);
            return Err(unusable(self.file.path(), problem, AGAIN));
        };
        let mut packed = PackedWeights::new(rows, columns, self.kind(compute));
        packed.pack_rows(0, &raw, self.element);
        Ok(packed)
    }
}

impl Step {
    /// Memory that its weights take, bytes.
    pub fn bytes(&self, compute: Compute) -> u64 {
        match self {
            Self::Normalize => 0,
            Self::LayerNorm { weight, bias } => weight.bytes(compute) + bias.bytes(compute),
            Self::Dense(dense) => {
                let residual = match &dense.residual {
                    Some(Residual::Projected(weight)) => weight.bytes(compute),
                    Some(Residual::Input) | None => 0,
                };
                let bias = dense.bias.as_ref().map_or(0, |bias| bias.bytes(compute));
                dense.weight.bytes(compute) + bias + residual
            }
        }
    }

    /// The wider of what comes in and what goes out, where the step knows it.
    pub fn widest(&self) -> usize {
        match self {
            Self::Normalize | Self::LayerNorm { .. } => 0,
            Self::Dense(dense) => dense.in_features.max(dense.out_features),
        }
    }

    /// With its weights in memory.
    pub fn load(&self, compute: Compute) -> Result<LoadedStep, EngineError> {
        Ok(match self {
            Self::Normalize => LoadedStep::Normalize,
            Self::LayerNorm { weight, bias } => LoadedStep::LayerNorm {
                weight: weight.vector()?,
                bias: bias.vector()?,
            },
            Self::Dense(dense) => LoadedStep::Dense(dense.load(compute)?),
        })
    }
}

impl Dense {
    fn load(&self, compute: Compute) -> Result<LoadedDense, EngineError> {
        Ok(LoadedDense {
            weight: self.weight.matrix(compute)?,
            bias: self.bias.as_ref().map(Stored::vector).transpose()?,
            activation: self.activation,
            residual: match &self.residual {
                None => LoadedResidual::None,
                Some(Residual::Input) => LoadedResidual::Input,
                Some(Residual::Projected(weight)) => {
                    LoadedResidual::Projected(weight.matrix(compute)?)
                }
            },
        })
    }
}

/// A [`Step`] whose weights are in memory.
pub(crate) enum LoadedStep {
    Normalize,
    LayerNorm { weight: Vec<f32>, bias: Vec<f32> },
    Dense(LoadedDense),
}

/// A [`Dense`] whose weights are in memory.
pub(crate) struct LoadedDense {
    pub weight: PackedWeights,
    pub bias: Option<Vec<f32>>,
    pub activation: DenseActivation,
    pub residual: LoadedResidual,
}

/// What is added to the output of a [`LoadedDense`].
pub(crate) enum LoadedResidual {
    None,
    Input,
    Projected(PackedWeights),
}
