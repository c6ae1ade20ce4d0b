//! Pictures of a record, as the input has them.

use std::borrow::Cow;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Keys of a picture in a message, in the order in which the reference looks at them.
const SOURCES: [&str; 4] = ["image", "url", "path", "base64"];

/// A picture of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// A path from the folder of the dataset, a `data:` URI, or base64.
    Named(String),
    /// A file's content.
    Bytes(Vec<u8>),
}

impl Image {
    /// Those of a JSON text: one, or a list.
    pub fn list(json: &str) -> Result<Vec<Self>, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        match value {
            Value::Array(all) => all.iter().map(Self::of).collect(),
            one => Ok(vec![Self::of(&one)?]),
        }
    }

    /// One: a path, a `data:` URI or base64, by itself or as `path`, `image`, `url` or `base64` of an object.
    fn of(value: &Value) -> Result<Self, String> {
        let text = match value {
            Value::String(text) => Some(text),
            Value::Object(keys) => SOURCES.iter().find_map(|key| match keys.get(*key) {
                Some(Value::String(text)) => Some(text),
                _ => None,
            }),
            _ => None,
        };
        let text = text.filter(|text| !text.is_empty());
        text.map(|text| Self::Named(text.clone()))
            .ok_or_else(|| "a picture is a path, a `data:` URI or base64".to_owned())
    }

    /// Whether a part of a message is a picture.
    pub fn is_part(part: &Value) -> bool {
        matches!(part["type"].as_str(), Some("image" | "image_url"))
    }

    /// For each picture of a conversation what it says of its source; `None` where the picture is elsewhere.
    pub fn of_messages(messages: &str) -> Result<Vec<Option<Self>>, String> {
        let messages: Value = serde_json::from_str(messages).map_err(|error| error.to_string())?;
        let contents = messages.as_array().into_iter().flatten();
        let parts = contents.filter_map(|message| message.get("content")?.as_array());
        let mut images = Vec::new();
        for part in parts.flatten() {
            match part.get("type").and_then(Value::as_str) {
                Some("image") => {
                    let said = SOURCES
                        .iter()
                        .any(|key| part.get(key).is_some_and(|source| !source.is_null()));
                    images.push(said.then(|| Self::of(part)).transpose()?);
                }
                Some("image_url") => images.push(Some(Self::of(&part["image_url"])?)),
                Some(kind @ ("video" | "audio")) => {
                    return Err(format!(
                        "a part of a message is `{kind}`, which is not read"
                    ));
                }
                _ => {}
            }
        }
        Ok(images)
    }

    /// Messages with parts of the kind `image` where they have `image_url`, as templates are given them; absent where they
    /// have none.
    pub fn in_messages(messages: &str) -> Option<String> {
        let mut messages: Value = serde_json::from_str(messages).ok()?;
        let contents = messages.as_array_mut()?.iter_mut();
        let parts = contents.filter_map(|message| message.get_mut("content")?.as_array_mut());
        let mut found = false;
        for part in parts.flatten() {
            let Some(inner) = part.get_mut("image_url").map(Value::take) else {
                continue;
            };
            if part["type"] == "image_url" {
                let url = match inner {
                    Value::Object(mut inner) => inner.remove("url").unwrap_or_default(),
                    inner => inner,
                };
                *part = json!({"type": "image", "url": url});
                found = true;
            } else {
                part["image_url"] = inner;
            }
        }
        found.then(|| messages.to_string())
    }

    /// The file that it is, seen from a folder.
    pub fn path(&self, folder: &Path) -> Option<std::path::PathBuf> {
        let Self::Named(name) = self else {
            return None;
        };
        let path = folder.join(name);
        // What is no name of a file cannot be asked for.
        (!name.starts_with("data:") && name.len() < 4096 && fs_err::metadata(&path).is_ok())
            .then_some(path)
    }

    /// Bytes of the file that it is, 0 where it is none.
    pub fn file_bytes(&self, folder: &Path) -> u64 {
        let path = self.path(folder);
        let found = path.and_then(|path| fs_err::metadata(path).ok());
        found.map_or(0, |found| found.len())
    }

    /// Its bytes.
    pub fn read(&self, folder: &Path) -> Result<Cow<'_, [u8]>, String> {
        let name = match self {
            Self::Bytes(bytes) => return Ok(bytes.into()),
            Self::Named(name) => name,
        };
        if let Some(path) = self.path(folder) {
            let found = fs_err::metadata(&path).map_err(|error| error.to_string())?;
            if !found.is_file() {
                return Err(format!("{} is not a regular file", path.display()));
            }
            let read = fs_err::read(&path).map_err(|error| error.to_string());
            return read.map(Cow::Owned);
        }
        if name.starts_with("http://") || name.starts_with("https://") {
            return Err(format!(
                "`{}` is elsewhere: pictures are not fetched",
                shortened(name)
            ));
        }
        let encoded = match name.strip_prefix("data:") {
            Some(rest) => rest
                .split_once(',')
                .filter(|(kind, _)| kind.ends_with(";base64"))
                .map(|(_, encoded)| encoded)
                .ok_or("a `data:` URI without `;base64,`")?,
            None => name,
        };
        let letters: Vec<u8> = encoded
            .bytes()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        STANDARD
            .decode(letters)
            .map(Cow::Owned)
            .map_err(|_| format!("`{}` is no file, and no base64", shortened(name)))
    }
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::path::Path;

    use super::Image;

    fn named(name: &str) -> Image {
        Image::Named(name.into())
    }

    #[test]
    fn lists_and_single_ones() {
        assert_eq!(Image::list(r#""a.png""#), Ok(vec![named("a.png")]));
        let all = r#"["a.png", {"path": "b.png", "bytes": null}, {"image": "c"}]"#;
        assert_eq!(
            Image::list(all),
            Ok(vec![named("a.png"), named("b.png"), named("c")])
        );
        assert_eq!(Image::list("[]"), Ok(Vec::new()));
        for wrong in [
            "3",
            "[null]",
            "[\"\"]",
            "{}",
            "[[\"a\"]]",
            "[{\"path\": 3}]",
        ] {
            assert!(Image::list(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn parts_of_messages() {
        let messages = r#"[{"role": "system", "content": "s"}, {"role": "user", "content": [
            {"type": "image", "url": "a.png"}, {"type": "text", "text": "and"}, {"type": "image"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]"#;
        let found = Image::of_messages(messages);
        let expected = [
            Some(named("a.png")),
            None,
            Some(named("data:image/png;base64,AA==")),
        ];
        assert_eq!(found, Ok(expected.to_vec()));
        let usual = Image::in_messages(messages).expect("an address");
        assert!(usual.contains(r#"{"type":"image","url":"data:image/png;base64,AA=="}"#));
        assert_eq!(Image::in_messages(&usual), None);
        let video = r#"[{"role": "user", "content": [{"type": "video", "path": "v.mp4"}]}]"#;
        assert!(Image::of_messages(video).is_err_and(|problem| problem.contains("video")));
    }

    #[test]
    fn bytes_of_each_kind() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("a.png"), b"abc").unwrap();
        let read = |image: &Image| image.read(folder.path()).map(Cow::into_owned);
        assert_eq!(read(&named("a.png")), Ok(b"abc".to_vec()));
        assert_eq!(
            read(&named("data:image/png;base64,YW\nJj")),
            Ok(b"abc".to_vec())
        );
        assert_eq!(read(&named("YWJj")), Ok(b"abc".to_vec()));
        assert_eq!(read(&Image::Bytes(b"x".to_vec())), Ok(b"x".to_vec()));
        for wrong in [
            "b.png",
            "https://host/a.png",
            "data:image/png,abc",
            ".",
            "/dev/zero",
        ] {
            assert!(read(&named(wrong)).is_err(), "{wrong}");
        }
        assert_eq!(named("a.png").file_bytes(folder.path()), 3);
        assert_eq!(named("b.png").path(Path::new("/")), None);
    }
}
