//! How large reads of the weights are done.

use sli_checkpoint::ReadMode;
use sli_checkpoint::source::ReadChoice;

/// In a few words.
pub fn describe(choice: &ReadChoice) -> String {
    let way = match choice.mode {
        ReadMode::Buffered => "through the page cache",
        ReadMode::BufferedDropBehind => "through the page cache, dropped behind",
        ReadMode::Direct => "O_DIRECT",
    };
    match (choice.direct, choice.buffered) {
        (Some(direct), Some(buffered)) => format!(
            "{way}: {:.2} GB/s direct, {:.2} through the page cache",
            direct / 1e9,
            buffered / 1e9
        ),
        _ => format!("{way}: {}", choice.reason),
    }
}

#[cfg(test)]
mod tests {
    use sli_checkpoint::ReadMode;
    use sli_checkpoint::source::ReadChoice;

    use super::describe;

    #[test]
    fn what_was_measured_is_said() {
        let mut choice = ReadChoice {
            mode: ReadMode::Direct,
            buffered: Some(1e9),
            direct: Some(1.5e9),
            reason: "measured faster",
        };
        let said = describe(&choice);
        assert_eq!(
            said,
            "O_DIRECT: 1.50 GB/s direct, 1.00 through the page cache"
        );
        (choice.mode, choice.direct) = (ReadMode::Buffered, None);
        assert!(describe(&choice).ends_with("measured faster"));
    }
}
