//! The wire format of protocol buffers: as much of it as SentencePiece models use.

/// How deep groups may lie in each other.
const DEEPEST: usize = 100;

/// A field's content.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content<'a> {
    /// A number of variable length.
    Number(u64),
    /// 4 bytes.
    Fixed32(u32),
    /// Bytes, a text or a message.
    Bytes(&'a [u8]),
    /// Something else, skipped.
    Other,
}

/// The fields of a message, in their order.
pub struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Of a message's bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The next field's number and content; `None` at the end.
    pub fn next(&mut self) -> Result<Option<(u32, Content<'a>)>, String> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let (field, kind) = self.tag()?;
        let content = match kind {
            3 => {
                self.skip_group(field)?;
                Content::Other
            }
            _ => self.content(kind)?,
        };
        Ok(Some((field, content)))
    }

    fn tag(&mut self) -> Result<(u32, u8), String> {
        let tag = self.number()?;
        let tag = u32::try_from(tag).map_err(|_| "a field's number is too large".to_owned())?;
        match tag >> 3 {
            0 => Err("a field has the number 0".into()),
            field => Ok((field, (tag & 7) as u8)),
        }
    }

    fn content(&mut self, kind: u8) -> Result<Content<'a>, String> {
        Ok(match kind {
            0 => Content::Number(self.number()?),
            1 => {
                self.take(8)?;
                Content::Other
            }
            2 => {
                let length = self.number()?;
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                Content::Bytes(self.take(length)?)
            }
            5 => {
                let bytes = self.take(4)?;
                Content::Fixed32(
                    bytes
                        .iter()
                        .rev()
                        .fold(0, |all, byte| all << 8 | u32::from(*byte)),
                )
            }
            other => return Err(format!("a field is of the kind {other}, which is none")),
        })
    }

    /// Up to the end of a group, others in it included.
    fn skip_group(&mut self, field: u32) -> Result<(), String> {
        let mut open = vec![field];
        while let Some(&innermost) = open.last() {
            match self.tag()? {
                (field, 3) if open.len() < DEEPEST => open.push(field),
                (_, 3) => return Err("groups lie too deep in each other".into()),
                (field, 4) if field == innermost => {
                    open.pop();
                }
                (_, 4) => return Err("the end of a group that did not begin".into()),
                (_, kind) => {
                    self.content(kind)?;
                }
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for (index, byte) in self.bytes.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[index + 1..];
                return Ok(value);
            }
        }
        Err("a number does not end".into())
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or("a field goes on after the end")?;
        self.bytes = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, Fields};

    fn all(bytes: &[u8]) -> Result<Vec<(u32, Content<'_>)>, String> {
        let mut fields = Fields::new(bytes);
        let mut found = Vec::new();
        while let Some(field) = fields.next()? {
            found.push(field);
        }
        Ok(found)
    }

    #[test]
    fn fields_of_every_kind() {
        let bytes = [
            &[0x08, 0x96, 0x01][..],
            &[0x12, 0x02, b'o', b'k'],
            &[0x1d, 0, 0, 0x80, 0x3f],
            &[0x21, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x2b, 0x33, 0x08, 1, 0x34, 0x2c],
        ];
        let expected = vec![
            (1, Content::Number(150)),
            (2, Content::Bytes(b"ok")),
            (3, Content::Fixed32(1.0_f32.to_bits())),
            (4, Content::Other),
            (5, Content::Other),
        ];
        assert_eq!(all(&bytes.concat()), Ok(expected));
    }

    #[test]
    fn every_broken_rule_is_an_error() {
        let deep = [0x2b; 4000];
        for (bytes, says) in [
            (&[0x80][..], "does not end"),
            (&[0x08], "does not end"),
            (&[0xff; 12], "does not end"),
            (
                &[
                    0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
                ],
                "does not end",
            ),
            (&[0x00, 1], "number 0"),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "too large"),
            (&[0x12, 0x05, 1], "after the end"),
            (
                &[
                    0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
                ],
                "after the end",
            ),
            (&[0x1d, 1, 2], "after the end"),
            (&[0x21, 1], "after the end"),
            (&[0x0c], "kind 4"),
            (&[0x0e], "kind 6"),
            (&[0x2b, 0x34], "did not begin"),
            (&[0x2b], "does not end"),
            (&deep, "too deep"),
        ] {
            let error = all(bytes).unwrap_err();
            assert!(error.contains(says), "{bytes:x?}: {error}");
        }
    }
}
