//! What the environment says of the hub, by the names that its own library reads.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

/// The hub itself.
const ENDPOINT: &str = "https://huggingface.co";
/// Largest file with a token, bytes.
const TOKEN_LIMIT: u64 = 1 << 16;

/// A secret, which is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// For a header, and for nothing else.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token(..)")
    }
}

/// Where the hub is, what is kept of it, and who asks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HF_ENDPOINT`.
    pub endpoint: Url,
    /// `HF_HUB_CACHE`, or where it lies by default.
    pub cache: PathBuf,
    /// `HF_TOKEN`, or what `hf auth login` stored.
    pub token: Option<Token>,
    /// `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`: nothing is asked for.
    pub is_offline: bool,
    /// `HF_HUB_DISABLE_PROGRESS_BARS`: nothing shows how much of a download is there.
    pub without_bars: bool,
    /// `HF_HUB_DISABLE_SYMLINKS`: files lie in the snapshots themselves.
    pub without_links: bool,
    /// `HF_HUB_ETAG_TIMEOUT`: how long an answer about a file may take.
    pub answer_timeout: Duration,
    /// `HF_HUB_DOWNLOAD_TIMEOUT`: how long a line may say nothing.
    pub read_timeout: Duration,
}

/// A variable that says nothing that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {problem}")]
pub struct SettingsError {
    /// The variable.
    pub name: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Settings {
    /// As the environment of this process has it.
    pub fn from_env() -> Result<Self, SettingsError> {
        Self::of(|name| std::env::var(name).ok())
    }

    /// As `get` gives the variables.
    pub fn of(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let flag = |name: &str| {
            get(name).is_some_and(|value| {
                let value = value.to_ascii_uppercase();
                ["1", "ON", "YES", "TRUE"].contains(&value.as_str())
            })
        };
        let seconds = |name: &'static str| match get(name).map(|text| text.trim().parse::<f64>()) {
            None => Ok(Duration::from_secs(10)),
            Some(Ok(value)) if value > 0.0 && value < 1e6 => Ok(Duration::from_secs_f64(value)),
            Some(_) => Err(SettingsError {
                name,
                problem: "it is no number of seconds".into(),
            }),
        };
        let endpoint = get("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = Url::parse(endpoint.trim_end_matches('/')).ok();
        let endpoint = endpoint.filter(|url| ["http", "https"].contains(&url.scheme()));
        let Some(endpoint) = endpoint else {
            return Err(SettingsError {
                name: "HF_ENDPOINT",
                problem: "it is no address that begins with https:// or http://".into(),
            });
        };
        let home = get("HF_HOME").map(PathBuf::from).or_else(|| {
            let base = get("XDG_CACHE_HOME").map(PathBuf::from);
            let base = base.or_else(|| Some(PathBuf::from(get("HOME")?).join(".cache")));
            base.map(|base| base.join("huggingface"))
        });
        let cache = get("HF_HUB_CACHE").or_else(|| get("HUGGINGFACE_HUB_CACHE"));
        let cache = cache
            .map(PathBuf::from)
            .or_else(|| Some(home.as_ref()?.join("hub")));
        let Some(cache) = cache else {
            return Err(SettingsError {
                name: "HF_HOME",
                problem: "it is not set, and neither is HOME: there is no place for a cache".into(),
            });
        };
        let stored = || {
            let path = get("HF_TOKEN_PATH").map(PathBuf::from);
            let path = path.or_else(|| Some(home.as_ref()?.join("token")))?;
            let size = fs_err::metadata(&path).ok()?.len();
            (size <= TOKEN_LIMIT).then(|| fs_err::read_to_string(path).ok())?
        };
        let given = get("HF_TOKEN").or_else(|| get("HUGGING_FACE_HUB_TOKEN"));
        // Nobody names a token on the command line, so each is an implicit one.
        let implicit = !flag("HF_HUB_DISABLE_IMPLICIT_TOKEN");
        let token = implicit.then(|| given.or_else(stored)).flatten();
        let token = token.map(|token| token.replace(['\r', '\n'], "").trim().to_owned());
        let token = token.filter(|token| !token.is_empty());
        if token
            .as_ref()
            .is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(SettingsError {
                name: "HF_TOKEN",
                problem: "it holds characters that no token has".into(),
            });
        }
        Ok(Self {
            endpoint,
            cache,
            token: token.map(Token),
            is_offline: flag("HF_HUB_OFFLINE") || flag("TRANSFORMERS_OFFLINE"),
            without_bars: flag("HF_HUB_DISABLE_PROGRESS_BARS"),
            without_links: flag("HF_HUB_DISABLE_SYMLINKS"),
            answer_timeout: seconds("HF_HUB_ETAG_TIMEOUT")?,
            read_timeout: seconds("HF_HUB_DOWNLOAD_TIMEOUT")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let pairs: Vec<(String, String)> = pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect();
        Settings::of(move |name| {
            pairs
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn names_are_those_of_the_hubs_own_library() {
        let plain = of(&[("HOME", "/h")]).unwrap();
        assert_eq!(plain.cache, PathBuf::from("/h/.cache/huggingface/hub"));
        assert_eq!(plain.endpoint.as_str(), "https://huggingface.co/");
        assert!(plain.token.is_none() && !plain.is_offline);
        let cases = [
            (
                &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")][..],
                "/x/huggingface/hub",
            ),
            (&[("HF_HOME", "/f"), ("XDG_CACHE_HOME", "/x")], "/f/hub"),
            (&[("HF_HOME", "/f"), ("HUGGINGFACE_HUB_CACHE", "/o")], "/o"),
            (
                &[("HF_HUB_CACHE", "/c"), ("HUGGINGFACE_HUB_CACHE", "/o")],
                "/c",
            ),
        ];
        for (pairs, wanted) in cases {
            assert_eq!(of(pairs).unwrap().cache, PathBuf::from(wanted));
        }
        for value in ["1", "on", "Yes", "TRUE"] {
            assert!(
                of(&[("HOME", "/h"), ("TRANSFORMERS_OFFLINE", value)])
                    .unwrap()
                    .is_offline
            );
        }
        assert!(
            !of(&[("HOME", "/h"), ("HF_HUB_OFFLINE", "0")])
                .unwrap()
                .is_offline
        );
    }

    #[test]
    fn a_token_is_found_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(folder.path().join("token"), " hf_stored\n").unwrap();
        let home = folder.path().to_str().unwrap();
        let stored = of(&[("HF_HOME", home)]).unwrap();
        assert_eq!(stored.token.as_ref().unwrap().bearer(), "Bearer hf_stored");
        assert!(!format!("{stored:?}").contains("hf_stored"));
        let given = of(&[("HF_HOME", home), ("HF_TOKEN", "hf_given")]).unwrap();
        assert_eq!(given.token.unwrap().bearer(), "Bearer hf_given");
        let silent = [
            ("HF_HOME", home),
            ("HF_TOKEN", "hf_given"),
            ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1"),
        ];
        let silent = of(&silent);
        assert!(silent.unwrap().token.is_none());
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (name, value) in [
            ("HF_ENDPOINT", "huggingface.co"),
            ("HF_HUB_ETAG_TIMEOUT", "soon"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "-1"),
            ("HF_TOKEN", "a b"),
        ] {
            assert_eq!(of(&[("HOME", "/h"), (name, value)]).unwrap_err().name, name);
        }
        assert!(of(&[]).is_err());
    }
}
