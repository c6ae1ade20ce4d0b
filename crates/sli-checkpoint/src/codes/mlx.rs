//! `quantization` of MLX: integers of 2 to 8 bits with a scale and an addend for a run of columns, or MXFP4 and NVFP4.
//!
//! `M.weight` (U32) `[.., out, in * bits / 32]` holds codes along the rows, the low bits first, across words;
//! `M.scales` and `M.biases` `[.., out, in / group_size]`. A number is `code * scale + addend`. `mode: mxfp4` and
//! `nvfp4` have scales alone, as bytes. A module's name as a key says other bits for it; what has no scales is plain.
//! Token tables are coded too and are decoded by rows.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::code::{Coded, Keys, UnknownCode};
use super::declared::{OfModules, Trouble};
use super::fp4;
use super::packed::{Packed, Zero};
use super::scale::Scale;
use super::tensors::{Placed, Tensors, matrices, of_type, part, seen, structure};
use crate::dtype::Dtype;
use crate::tensors::TensorInfo;

/// How a module is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mode {
    bits: usize,
    group: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Affine,
    Mxfp4,
    Nvfp4,
}

#[derive(Debug)]
pub(super) struct Mlx {
    all: Mode,
    modules: Vec<(String, Mode)>,
}

impl Mlx {
    pub fn read(config: &Map<String, Value>) -> Result<Self, UnknownCode> {
        let mode = |config: &Map<String, Value>, prefix: &str| {
            let keys = Keys(config);
            let unknown = |key: &str, reason| {
                let value = config.get(key).unwrap_or(&Value::Null);
                Keys::unknown(&format!("{prefix}{key}"), value, reason)
            };
            let kind = match config.get("mode").and_then(Value::as_str) {
                None | Some("affine") => Kind::Affine,
                Some("mxfp4") => Kind::Mxfp4,
                Some("nvfp4") => Kind::Nvfp4,
                Some(_) => return Err(unknown("mode", "`affine`, `mxfp4` and `nvfp4` are read")),
            };
            let (bits, group) = match kind {
                Kind::Affine => (4, 64),
                Kind::Mxfp4 => (4, 32),
                Kind::Nvfp4 => (4, 16),
            };
            let size = |key: &str, usual: usize| match config.get(key) {
                None | Some(Value::Null) => Some(usual),
                Some(value) => usize::try_from(value.as_u64()?).ok(),
            };
            let bits = size("bits", bits).filter(|bits| [2, 3, 4, 5, 6, 8].contains(bits));
            let bits = bits.ok_or_else(|| unknown("bits", "2, 3, 4, 5, 6 and 8 are read"))?;
            let group = size("group_size", group).filter(|&group| group > 0);
            let group = group.ok_or_else(|| unknown("group_size", "a size is wanted"))?;
            keys.one_of("quant_method", &["mlx"], "`mlx` is known beside these keys")?;
            Ok(Mode { bits, group, kind })
        };
        let mut modules = Vec::new();
        for (name, value) in config {
            match value {
                Value::Object(own) => {
                    Keys(own).only(&["bits", "group_size", "mode"])?;
                    modules.push((name.clone(), mode(own, &format!("{name}."))?));
                }
                // Not coded, as shows on its tensors.
                Value::Bool(false) => {}
                _ if ["bits", "group_size", "mode", "quant_method"].contains(&name.as_str()) => {}
                _ => {
                    return Err(Keys::unknown(
                        name,
                        value,
                        "the key is not known with this code",
                    ));
                }
            }
        }
        Ok(Self {
            all: mode(config, "")?,
            modules,
        })
    }

    fn mode(&self, module: &str) -> Mode {
        let own = self.modules.iter().find(|(name, _)| name == module);
        own.map_or(self.all, |(_, mode)| *mode)
    }
}

impl OfModules for Mlx {
    const CODES: &'static str = ".weight";

    fn is_coded(&self, tensor: &TensorInfo) -> bool {
        tensor.dtype == Dtype::U32
    }

    fn coded(
        &self,
        module: &str,
        words: Placed<'_>,
        tensors: Tensors<'_>,
    ) -> Result<Coded, Trouble> {
        let mode = self.mode(module);
        let scales = tensors.need(&format!("{module}.scales"))?;
        let (leading, [rows, along]) = matrices(words.1)?;
        let columns = along.saturating_mul(32) / mode.bits;
        let runs = columns.div_ceil(mode.group);
        if columns * mode.bits != along * 32
            || *scales.1.shape != *[leading, &[rows, runs]].concat()
        {
            let reason = format!(
                "rows of {along} words of {} bits in groups of {} have {runs} scales",
                mode.bits, mode.group
            );
            return Err(structure(scales.1, reason).into());
        }
        let shape = [leading, &[rows, columns]].concat();
        if mode.kind != Kind::Affine {
            let run = if mode.kind == Kind::Mxfp4 { 32 } else { 16 };
            return Ok(fp4::of_words(words, scales, run, &shape)?);
        }
        let scale = Scale::of_floats(scales.1)?;
        let addends = tensors.need(&format!("{module}.biases"))?;
        of_type(addends.1, scales.1.dtype)?;
        let grid = [rows, runs];
        let parts = [
            seen(words, [rows, along]),
            seen(scales, grid),
            part(addends, leading, &grid, grid)?,
        ];
        let code = Arc::new(Packed {
            bits: mode.bits as u32,
            run: mode.group,
            runs,
            scale,
            zero: Zero::Addend,
            has_order: false,
        });
        Ok(Coded {
            linear: true,
            ..Coded::new(shape, parts, code)
        })
    }
}
