//! Files of GGUF and of torch that are put together piece by piece, to be right or wrong.

/// A file that is put together piece by piece.
pub struct Made {
    tensors: u64,
    keys: u64,
    body: Vec<u8>,
    data: usize,
}

impl Made {
    pub fn new() -> Self {
        Self {
            tensors: 0,
            keys: 0,
            body: Vec::new(),
            data: 64,
        }
    }

    fn text(&mut self, text: &[u8]) {
        self.body.extend((text.len() as u64).to_le_bytes());
        self.body.extend(text);
    }

    /// A key of a type with the bytes of its value.
    pub fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys += 1;
        self.text(key.as_bytes());
        self.body.extend(kind.to_le_bytes());
        self.body.extend(value);
        self
    }

    pub fn tensor(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        self.tensors += 1;
        self.text(name.as_bytes());
        self.body.extend((shape.len() as u32).to_le_bytes());
        self.body
            .extend(shape.iter().flat_map(|side| side.to_le_bytes()));
        self.body.extend(kind.to_le_bytes());
        self.body.extend(offset.to_le_bytes());
        self
    }

    pub fn file(self) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend(self.tensors.to_le_bytes());
        file.extend(self.keys.to_le_bytes());
        file.extend(self.body);
        file.resize(file.len().next_multiple_of(32) + self.data, 0);
        file
    }
}

/// A list of a type that claims so many entries.
pub fn list(kind: u32, count: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat()
}

/// An archive of these members.
pub fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let (at, size) = (
            (file.len() as u32).to_le_bytes(),
            (content.len() as u32).to_le_bytes(),
        );
        let length = (name.len() as u16).to_le_bytes();
        let checksum = crc32fast::hash(content).to_le_bytes();
        let middle = [&[0; 8][..], &checksum, &size, &size, &length, &[0; 2]].concat();
        file.extend([b"PK\x03\x04\0\0", &middle[..], name.as_bytes(), content].concat());
        directory.extend(
            [
                b"PK\x01\x02\0\0\0\0",
                &middle[..],
                &[0; 10],
                &at,
                name.as_bytes(),
            ]
            .concat(),
        );
    }
    let count = (members.len() as u16).to_le_bytes();
    let places = [directory.len(), file.len()].map(|n| (n as u32).to_le_bytes());
    file.extend(&directory);
    file.extend(
        [
            b"PK\x05\x06\0\0\0\0",
            &count[..],
            &count,
            &places[0],
            &places[1],
            &[0; 2],
        ]
        .concat(),
    );
    file
}

/// A file of one pickle and a storage of eight numbers under the key `0`.
pub fn pickled(pickle: &[u8]) -> Vec<u8> {
    archive(&[("x/data.pkl", pickle), ("x/data/0", &[0; 32])])
}

fn text(text: &str) -> Vec<u8> {
    [
        b"X",
        &(text.len() as u32).to_le_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

fn int(number: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &number.to_le_bytes()].concat()
}

fn tuple(items: &[i64]) -> Vec<u8> {
    let items: Vec<u8> = items.iter().flat_map(|&item| int(item)).collect();
    [b"(", &items[..], b"t"].concat()
}

/// The pickle of `{"w": tensor}`, whose storage claims so many elements of a class.
pub fn pickled_tensor(
    class: &str,
    elements: i64,
    offset: i64,
    shape: &[i64],
    strides: &[i64],
) -> Vec<u8> {
    [
        b"\x80\x02}".to_vec(),
        text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        format!("ctorch\n{class}\n").into_bytes(),
        text("0"),
        text("cpu"),
        int(elements),
        b"tQ".to_vec(),
        int(offset),
        tuple(shape),
        tuple(strides),
        b"\x89NtRs.".to_vec(),
    ]
    .concat()
}
