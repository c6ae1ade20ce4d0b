//! What a file is that is called a safetensors file and is none, told by how it begins.

/// Bytes that are looked at.
pub const BEGINNING: usize = 512;

/// How files begin that come instead of weights, and what they are.
const BEGINNINGS: [(&[u8], &str); 14] = [
    (
        b"version https://git-lfs.github.com",
        "a Git LFS pointer: the weights themselves were not fetched",
    ),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML document, as servers answer errors"),
    (
        b"PK\x03\x04",
        "a zip archive, as PyTorch's `torch.save` writes",
    ),
    (
        b"\x80\x02",
        "a Python pickle, as old PyTorch versions write",
    ),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"\x89HDF", "an HDF5 file, as TensorFlow writes"),
    (b"{", "JSON text, as servers answer errors"),
    (b"[", "JSON text"),
];

/// What a file is whose first bytes these are; `None` where they do not tell. `beginning` is the whole file
/// or [`BEGINNING`] bytes of it.
pub fn identify(beginning: &[u8]) -> Option<String> {
    if beginning.is_empty() {
        return Some("empty: its download did not begin".to_owned());
    }
    if beginning.len() >= 64 && beginning.iter().all(|&byte| byte == 0) {
        return Some("nothing but zeros where it begins: its download did not end".to_owned());
    }
    let text = beginning.trim_ascii_start();
    let known = BEGINNINGS.iter().find(|(begins, _)| {
        // Binary formats begin with the first byte, texts may be indented and capitalised.
        beginning.starts_with(begins)
            || (begins.len() > 4
                && text.len() >= begins.len()
                && text[..begins.len()].eq_ignore_ascii_case(begins))
    });
    if let Some((_, what)) = known {
        return Some((*what).to_owned());
    }
    let text = std::str::from_utf8(beginning).ok()?;
    let line = text.lines().next()?.trim();
    let readable =
        !line.is_empty() && !text.contains(|c: char| c.is_control() && !c.is_whitespace());
    readable.then(|| {
        let line: String = line.chars().take(60).collect();
        format!("text that begins with {line:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::identify;

    #[test]
    fn what_people_have_instead_of_weights() {
        for (beginning, what) in [
            (&b""[..], "empty"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
                "Git LFS",
            ),
            (b"\n <!DOCTYPE html><html>", "web page"),
            (b"<HTML><body>", "web page"),
            (b"<?xml version=\"1.0\"?><Error>", "XML"),
            (b"PK\x03\x04\x00", "zip"),
            (b"\x80\x02}q\x00", "pickle"),
            (b"GGUF\x03\0\0\0", "GGUF"),
            (b"{\"error\":\"Repository not found\"}", "JSON"),
            (b"Entry not found", "\"Entry not found\""),
            (&[0; 64], "zeros"),
        ] {
            let found = identify(beginning).unwrap();
            assert!(found.contains(what), "{found}");
        }
        for beginning in [&[0xff; 16][..], &8_u64.to_le_bytes()] {
            assert_eq!(identify(beginning), None);
        }
    }
}
