//! JPEG files, against what Pillow decodes of them (`tools/pictures/files.py`).

use std::path::Path;

use sli_pictures::decode;

#[test]
fn a_jpeg_is_what_libjpeg_makes_of_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files");
    let mut compared = 0;
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "jpg") {
            let read = |path: &Path| decode(&fs_err::read(path).unwrap(), 1 << 24).unwrap();
            assert_eq!(
                read(&path),
                read(&path.with_extension("png")),
                "{}",
                path.display()
            );
            compared += 1;
        }
    }
    assert_eq!(compared, 10);
}
