//! Byte counts on the command line: `8GiB`, `1.5 GB`, `750000000`.

/// Reads a byte count: `KiB`, `MiB`, `GiB`, `TiB` are powers of 1024, `KB`, `MB`, `GB`, `TB` powers
/// of 1000, a bare number is bytes. Fractions are allowed and rounded down; case does not matter.
pub fn parse_byte_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start();
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1_u64 << 40,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        short @ ("k" | "m" | "g" | "t") => {
            let short = short.to_ascii_uppercase();
            return Err(format!(
                "`{unit}` is ambiguous; write {number}{short}iB or {number}{short}B"
            ));
        }
        _ => {
            return Err(format!(
                "`{unit}` is no unit; use KiB, MiB, GiB, TiB, KB, MB, GB or TB"
            ));
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err("expected a number of bytes such as 8GiB".into());
    }
    // Digits beyond the fifteenth are less than a byte of a TiB.
    let fraction = &fraction[..fraction.len().min(15)];
    let scale = 10_u128.pow(fraction.len() as u32);
    let too_large = || "the number is too large".to_owned();
    let digits = |text: &str| match text {
        "" => Ok(0_u128),
        text => text.parse().map_err(|_| too_large()),
    };
    let bytes = digits(whole)?
        .checked_mul(scale)
        .and_then(|scaled| scaled.checked_add(digits(fraction).ok()?))
        .and_then(|scaled| scaled.checked_mul(u128::from(factor)))
        .ok_or_else(too_large)?
        / scale;
    u64::try_from(bytes).map_err(|_| too_large())
}

#[cfg(test)]
mod tests {
    use super::parse_byte_size;

    #[test]
    fn units() {
        for (text, bytes) in [
            ("0", 0),
            ("750000000", 750_000_000),
            ("12B", 12),
            ("1KiB", 1024),
            ("1kb", 1000),
            ("8GiB", 8 << 30),
            ("8gib", 8 << 30),
            ("8 GiB", 8 << 30),
            ("8GB", 8_000_000_000),
            ("2TiB", 2 << 40),
            ("1.5GiB", 3 << 29),
            (".5MiB", 1 << 19),
            ("0.1GB", 100_000_000),
            ("0.3333333333333333333333KB", 333),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_byte_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses() {
        for text in [
            "",
            "GiB",
            ".",
            "-1",
            "-1GiB",
            "1e9",
            "1.2.3GiB",
            "8G",
            "8X",
            "inf",
            "NaN",
            "0x10",
            "1,5GiB",
            "18446744073709551616",
            "16777216TiB",
            "999999999999999999999999999999999999999999",
            "+5",
            "١٢",
        ] {
            assert!(parse_byte_size(text).is_err(), "{text}");
        }
    }
}
