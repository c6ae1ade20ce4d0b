//! Lower case in front of a normalizer, as sentence-transformers has it with `do_lower_case`.

use ::tokenizers::NormalizerWrapper;
use ::tokenizers::normalizers::{Lowercase, Sequence};
use ::tokenizers::tokenizer::Tokenizer as Backend;

/// Has texts become lower case before anything else happens to them. A normalizer that is, or lists, a step of this
/// kind stays as it is; others, BERT's own switch among them, do not count.
pub fn prepend(backend: &mut Backend) -> Result<(), ::tokenizers::Error> {
    let own = backend.get_normalizer().cloned();
    let lowers = |step: &NormalizerWrapper| matches!(step, NormalizerWrapper::Lowercase(_));
    let rest = match own {
        None => Vec::new(),
        Some(NormalizerWrapper::Sequence(steps)) => steps.as_ref().to_vec(),
        Some(step) => vec![step],
    };
    if rest.iter().any(lowers) {
        return Ok(());
    }
    let mut steps = vec![NormalizerWrapper::Lowercase(Lowercase)];
    steps.extend(rest);
    backend.with_normalizer(Some(Sequence::new(steps)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use ::tokenizers::NormalizerWrapper;
    use ::tokenizers::models::wordlevel::WordLevel;
    use ::tokenizers::normalizers::{Lowercase, NFC, Sequence};
    use ::tokenizers::tokenizer::{NormalizedString, Normalizer, Tokenizer as Backend};

    use super::prepend;

    #[test]
    fn once_and_first() {
        let normalized = |own: Option<NormalizerWrapper>| {
            let mut backend = Backend::new(WordLevel::default());
            backend.with_normalizer(own).unwrap();
            prepend(&mut backend).unwrap();
            let normalizer = backend.get_normalizer().unwrap().clone();
            let mut text = NormalizedString::from("ΟΔΟΣ \u{130}");
            normalizer.normalize(&mut text).unwrap();
            (text.get().to_owned(), normalizer)
        };
        // Character by character: no final sigma.
        let lower = "οδοσ i\u{307}";
        assert_eq!(normalized(None).0, lower);
        let (text, normalizer) = normalized(Some(NFC.into()));
        assert_eq!(text, lower);
        assert!(
            matches!(normalizer, NormalizerWrapper::Sequence(steps) if steps.as_ref().len() == 2)
        );
        let (_, normalizer) = normalized(Some(Lowercase.into()));
        assert!(matches!(normalizer, NormalizerWrapper::Lowercase(_)));
        let own = Sequence::new(vec![NFC.into(), Lowercase.into()]);
        let (_, normalizer) = normalized(Some(own.into()));
        assert!(
            matches!(normalizer, NormalizerWrapper::Sequence(steps) if steps.as_ref().len() == 2)
        );
    }
}
