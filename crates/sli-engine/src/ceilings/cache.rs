//! What was measured, remembered from one run to the next.
//!
//! A file for each processor, instruction set and number of threads, one for each shape of products on it, and one for each disk. They hold what
//! they are about: a file that is damaged or about something else is as good as none, and said.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::disk::device;
use super::processor::{isa, name};
use super::{DiskCeilings, ProcessorCeilings, ProductRates};
use crate::durable::{DiskError, write_atomic};

/// Files of more bytes are not ours.
const LARGEST: u64 = 1 << 16;

/// A folder with what was measured.
#[derive(Clone, Debug)]
pub struct CeilingsCache {
    folder: PathBuf,
}

/// Why a file of the cache is of no use.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} is of no use: {reason}", .path.display())]
pub struct CacheNotice {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct Entry<T> {
    /// Version of the program that measured.
    program: String,
    ceilings: T,
}

impl CeilingsCache {
    /// The cache in this folder, which need not exist.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was measured of this machine's processor with so many threads.
    ///
    /// # Errors
    /// The file is damaged or cannot be read.
    pub fn processor(&self, threads: usize) -> Result<Option<ProcessorCeilings>, CacheNotice> {
        let path = self.processor_path(threads);
        let found: Option<ProcessorCeilings> = load(&path)?;
        match found {
            Some(found) if !found.is_sound() => Err(notice(&path, &"a rate is not one")),
            Some(found)
                if (found.name.as_str(), found.isa.as_str(), found.threads)
                    != (&name(), &isa(), threads) =>
            {
                Err(notice(&path, &"it is about another processor"))
            }
            found => Ok(found),
        }
    }

    /// What was measured of the disk that holds this file or folder.
    ///
    /// # Errors
    /// As [`Self::processor`].
    pub fn disk(&self, of: &Path) -> Result<Option<DiskCeilings>, CacheNotice> {
        let Some(device) = device(of) else {
            return Ok(None);
        };
        let path = self.disk_path(device);
        let found: Option<DiskCeilings> = load(&path)?;
        match found {
            Some(found) if !found.is_sound() => Err(notice(&path, &"a rate is not one")),
            Some(found) if found.device != device => {
                Err(notice(&path, &"it is about another disk"))
            }
            found => Ok(found),
        }
    }

    /// What products with matrices of this shape `[out, in]` were measured to reach on so many threads.
    ///
    /// # Errors
    /// As [`Self::processor`].
    pub fn products(
        &self,
        threads: usize,
        shape: [usize; 2],
    ) -> Result<Option<ProductRates>, CacheNotice> {
        let path = self.products_path(threads, shape);
        let found: Option<ProductRates> = load(&path)?;
        match found {
            Some(found) if !found.is_sound() => Err(notice(&path, &"a rate is not one")),
            Some(found)
                if (found.name.as_str(), found.isa.as_str()) != (&name(), &isa())
                    || (found.threads, found.shape) != (threads, shape) =>
            {
                Err(notice(&path, &"it is about other products"))
            }
            found => Ok(found),
        }
    }

    /// Remembers how fast products are.
    pub fn save_products(&self, rates: &ProductRates) -> Result<(), DiskError> {
        self.save(&self.products_path(rates.threads, rates.shape), rates)
    }

    /// Remembers a processor.
    pub fn save_processor(&self, ceilings: &ProcessorCeilings) -> Result<(), DiskError> {
        self.save(&self.processor_path(ceilings.threads), ceilings)
    }

    /// Forgets a processor, and how fast products of any are.
    pub fn forget_processor(&self, threads: usize) -> std::io::Result<()> {
        let own = self.processor_path(threads);
        for file in fs_err::read_dir(&self.folder)? {
            let path = file?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if path == own || name.is_some_and(|name| name.starts_with("products-")) {
                fs_err::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Remembers a disk.
    pub fn save_disk(&self, ceilings: &DiskCeilings) -> Result<(), DiskError> {
        self.save(&self.disk_path(ceilings.device), ceilings)
    }

    fn save<T: Serialize>(&self, path: &Path, ceilings: &T) -> Result<(), DiskError> {
        fs_err::create_dir_all(&self.folder)?;
        let entry = Entry {
            program: program(),
            ceilings,
        };
        let text = serde_json::to_vec_pretty(&entry).map_err(std::io::Error::from)?;
        write_atomic(path, |out| out.write_all(&text))
    }

    fn processor_path(&self, threads: usize) -> PathBuf {
        self.path_of("processor", threads, "")
    }

    fn products_path(&self, threads: usize, [out, input]: [usize; 2]) -> PathBuf {
        self.path_of("products", threads, &format!("\n{out} x {input}"))
    }

    /// The file of something that belongs to this processor and so many threads.
    fn path_of(&self, kind: &str, threads: usize, what: &str) -> PathBuf {
        let key = format!("{}\n{}\n{threads}\n{}{what}", name(), isa(), program());
        let digest = blake3::hash(key.as_bytes()).to_hex();
        self.folder.join(format!("{kind}-{}.json", &digest[..16]))
    }

    fn disk_path(&self, device: u64) -> PathBuf {
        self.folder.join(format!("disk-{device:x}.json"))
    }
}

/// The version that measures.
fn program() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

fn notice(path: &Path, reason: &dyn std::fmt::Display) -> CacheNotice {
    CacheNotice {
        path: path.to_path_buf(),
        reason: reason.to_string(),
    }
}

/// What a file holds; nothing if it is not there, or of another version.
fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, CacheNotice> {
    let length = match fs_err::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(notice(path, &error)),
        Ok(metadata) => metadata.len(),
    };
    if length > LARGEST {
        return Err(notice(path, &"it is too large"));
    }
    let bytes = fs_err::read(path).map_err(|error| notice(path, &error))?;
    let entry: Entry<T> = serde_json::from_slice(&bytes).map_err(|error| notice(path, &error))?;
    Ok((entry.program == program()).then_some(entry.ceilings))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(folder: &Path) -> DiskCeilings {
        DiskCeilings {
            device: device(folder).unwrap(),
            buffered: 1e9,
            direct: None,
        }
    }

    #[test]
    fn what_is_saved_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CeilingsCache::new(folder.path().join("a/b"));
        assert!(cache.disk(folder.path()).unwrap().is_none());
        assert!(cache.processor(2).unwrap().is_none());
        cache.save_disk(&disk(folder.path())).unwrap();
        assert_eq!(
            cache.disk(folder.path()).unwrap(),
            Some(disk(folder.path()))
        );
        let processor = ProcessorCeilings {
            name: name(),
            isa: isa(),
            threads: 2,
            peak_bf16: 4e11,
            peak_f32: 2e11,
            gemm_bf16: 3e11,
            gemm_f32: 1e11,
            memory: 1e10,
        };
        cache.save_processor(&processor).unwrap();
        assert_eq!(cache.processor(2).unwrap(), Some(processor));
        assert!(cache.processor(1).unwrap().is_none());
        let rates = ProductRates {
            name: name(),
            isa: isa(),
            threads: 2,
            shape: [512, 256],
            bf16: 2e11,
            f32: 1e11,
        };
        cache.save_products(&rates).unwrap();
        assert_eq!(cache.products(2, [512, 256]).unwrap(), Some(rates.clone()));
        assert!(cache.products(1, [512, 256]).unwrap().is_none());
        assert!(cache.products(2, [256, 512]).unwrap().is_none());
        let path = cache.products_path(2, [256, 512]);
        fs_err::rename(cache.products_path(2, [512, 256]), &path).unwrap();
        assert!(cache.products(2, [256, 512]).is_err());
        cache
            .save_products(&ProductRates {
                bf16: f64::NAN,
                ..rates
            })
            .unwrap();
        assert!(cache.products(2, [512, 256]).is_err());
        cache.forget_processor(2).unwrap();
        assert!(cache.products(2, [512, 256]).unwrap().is_none());
        assert!(cache.processor(2).unwrap().is_none());
        assert!(cache.disk(folder.path()).unwrap().is_some());
    }

    #[test]
    fn what_is_damaged_is_said_and_never_used() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CeilingsCache::new(folder.path().to_path_buf());
        let path = cache.disk_path(device(folder.path()).unwrap());
        let negative = DiskCeilings {
            buffered: -1.0,
            ..disk(folder.path())
        };
        cache.save_disk(&negative).unwrap();
        assert!(cache.disk(folder.path()).is_err());
        for content in [&b""[..], b"{", b"\xff\xff", b"[1]", &vec![b' '; 1 << 17]] {
            fs_err::write(&path, content).unwrap();
            let notice = cache.disk(folder.path()).unwrap_err();
            assert_eq!(notice.path, path);
        }
        fs_err::write(&path, "{\"program\": \"0\", \"ceilings\": {}}").unwrap();
        assert!(cache.disk(folder.path()).is_err());
        let other = Entry {
            program: "older".to_owned(),
            ceilings: disk(folder.path()),
        };
        fs_err::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(cache.disk(folder.path()).unwrap(), None);
        let elsewhere = DiskCeilings {
            device: 1,
            ..disk(folder.path())
        };
        cache.save_disk(&elsewhere).unwrap();
        fs_err::rename(cache.disk_path(1), &path).unwrap();
        assert!(cache.disk(folder.path()).is_err());
    }
}
