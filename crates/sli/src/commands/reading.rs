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
    let rate = |rate: f64, processor: Option<f64>| {
        let processor = processor.map_or_else(String::new, |part| {
            format!(" at {:.0} % of a processor", part * 100.0)
        });
        format!("{:.2} GB/s{processor}", rate / 1e9)
    };
    match (choice.direct, choice.buffered) {
        (Some(direct), Some(buffered)) => format!(
            "{way}: {} direct, {} through the page cache",
            rate(direct, choice.direct_processor),
            rate(buffered, choice.buffered_processor),
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
            buffered_processor: Some(0.9),
            direct_processor: Some(0.125),
            reason: "measured faster",
        };
        let said = describe(&choice);
        assert_eq!(
            said,
            "O_DIRECT: 1.50 GB/s at 12 % of a processor direct, 1.00 GB/s at 90 % of a processor through \
             the page cache"
        );
        (choice.mode, choice.direct) = (ReadMode::Buffered, None);
        assert!(describe(&choice).ends_with("measured faster"));
    }
}
