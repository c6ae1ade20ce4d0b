//! Columns that are called otherwise than the keys of records.

use super::raw::KNOWN;

/// Which column stands for which key, as `--column KEY=NAME` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renames(Vec<(&'static str, String)>);

impl Renames {
    /// Of pairs of a key and the name of its column; the error is what is wrong with them.
    pub fn new(pairs: &[(String, String)]) -> Result<Self, String> {
        let mut known = Vec::new();
        for (key, name) in pairs {
            let Some(key) = KNOWN.into_iter().find(|known| known == key) else {
                return Err(format!(
                    "`{key}` is no key of a record; keys are {}",
                    KNOWN.join(", ")
                ));
            };
            if known.iter().any(|(other, _)| *other == key) {
                return Err(format!("two columns are given for `{key}`"));
            }
            if known.iter().any(|(_, other)| other == name) {
                return Err(format!("the column `{name}` is given for two keys"));
            }
            known.push((key, name.clone()));
        }
        Ok(Self(known))
    }

    /// The key that a column stands for; `None`: another column stands for the key of its name.
    pub fn key_of<'n>(&self, name: &'n str) -> Option<&'n str> {
        if let Some((key, _)) = self.0.iter().find(|(_, column)| column == name) {
            return Some(key);
        }
        let is_taken = self.0.iter().any(|(key, _)| *key == name);
        (!is_taken).then_some(name)
    }

    /// The column of a key.
    pub fn name_of<'n>(&'n self, key: &'n str) -> &'n str {
        let given = self.0.iter().find(|(known, _)| *known == key);
        given.map_or(key, |(_, name)| name)
    }

    /// The pairs.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(key, name)| (*key, name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::Renames;

    fn pair(key: &str, name: &str) -> (String, String) {
        (key.to_owned(), name.to_owned())
    }

    #[test]
    fn a_column_stands_for_one_key() {
        let renames = Renames::new(&[pair("text", "content"), pair("id", "text")]).unwrap();
        assert_eq!(renames.key_of("content"), Some("text"));
        assert_eq!(renames.key_of("text"), Some("id"));
        assert_eq!(renames.key_of("id"), None);
        assert_eq!(renames.key_of("labels"), Some("labels"));
        assert_eq!(renames.name_of("text"), "content");
        for wrong in [
            vec![pair("txt", "content")],
            vec![pair("text", "a"), pair("text", "b")],
            vec![pair("text", "a"), pair("id", "a")],
        ] {
            assert!(Renames::new(&wrong).is_err(), "{wrong:?}");
        }
    }
}
