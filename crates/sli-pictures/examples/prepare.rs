//! Prepares pictures for `tools/pictures/compare.py`: a line of standard input is a case, `{"settings", "model_type", "pictures",
//! "out"}`; its tensors go to the safetensors file `out`, or what is wrong to standard output.

use std::io::BufRead;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use serde_json::Value;
use sli_pictures::{ImageProcessor, Prepared, Values};

fn main() {
    for line in std::io::stdin().lock().lines() {
        let case: Value = serde_json::from_str(&line.expect("a line")).expect("a case");
        match prepare(&case) {
            Ok(prepared) => write(&prepared, case["out"].as_str().expect("`out`")),
            Err(problem) => eprintln!("{}: {problem}", case["out"]),
        }
    }
}

fn prepare(case: &Value) -> Result<Prepared, String> {
    let settings = case["settings"].as_object().expect("`settings`").clone();
    let processor = ImageProcessor::new(settings, case["model_type"].as_str());
    let processor = processor.map_err(|error| error.to_string())?;
    let paths = case["pictures"].as_array().expect("`pictures`");
    let paths = paths.iter().map(|path| path.as_str().expect("a path"));
    let files: Vec<Vec<u8>> = paths
        .map(|path| fs_err::read(path).expect("a file"))
        .collect();
    let files: Vec<&[u8]> = files.iter().map(Vec::as_slice).collect();
    let prepared = processor.prepare(&files, 1 << 32);
    prepared.map_err(|(at, error)| format!("picture {at}: {error}"))
}

fn write(prepared: &Prepared, path: &str) {
    let tensors = prepared.tensors.iter().map(|tensor| {
        let (kind, bytes): (_, Vec<u8>) = match &tensor.values {
            Values::F32(values) => (
                Dtype::F32,
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            ),
            Values::I64(values) => (
                Dtype::I64,
                values
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect(),
            ),
        };
        (tensor.name, tensor.shape.clone(), kind, bytes)
    });
    let tensors: Vec<_> = tensors.collect();
    let views = tensors.iter().map(|(name, shape, kind, bytes)| {
        (
            *name,
            TensorView::new(*kind, shape.clone(), bytes).expect("a tensor"),
        )
    });
    fs_err::write(path, serialize(views, None).expect("tensors")).expect("written");
}
