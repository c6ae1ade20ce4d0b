//! Writes the pixels of pictures to `FILE.rgb`: width and height as 32-bit integers, then red, green and blue.

use std::process::ExitCode;

fn main() -> ExitCode {
    for path in std::env::args().skip(1) {
        let picture = fs_err::read(&path)
            .map_err(|error| error.to_string())
            .and_then(|file| {
                sli_pictures::decode(&file, 1 << 32).map_err(|error| error.to_string())
            });
        let written = picture.and_then(|picture| {
            let mut bytes = Vec::new();
            bytes.extend(picture.width().to_le_bytes());
            bytes.extend(picture.height().to_le_bytes());
            bytes.extend(picture.data());
            fs_err::write(format!("{path}.rgb"), bytes).map_err(|error| error.to_string())
        });
        if let Err(problem) = written {
            eprintln!("{path}: {problem}");
        }
    }
    ExitCode::SUCCESS
}
