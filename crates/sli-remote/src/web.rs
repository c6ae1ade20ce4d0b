//! A folder behind HTTP, of which the names of files are not known.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

use url::Url;

use crate::client::{Client, Reply, Trouble};
use crate::error::RemoteError;
use crate::hub::arriving;
use crate::lock::hold;
use crate::store::{Arriving, Entry, Store, kept_as};

/// A folder that a web server has.
#[derive(Debug)]
pub(crate) struct WebFolder {
    client: Client,
    folder: Url,
    /// What was asked for; `None`: it is not there.
    seen: Mutex<BTreeMap<String, Option<Entry>>>,
}

impl WebFolder {
    /// The folder at this address.
    pub fn new(client: Client, mut folder: Url) -> Self {
        if !folder.path().ends_with('/') {
            folder.set_path(&format!("{}/", folder.path()));
        }
        Self {
            client,
            folder,
            seen: Mutex::default(),
        }
    }

    /// The folder's name where it is kept.
    pub fn key(&self) -> String {
        let host = self.folder.host_str().unwrap_or("web");
        kept_as(host, self.folder.as_str())
    }

    /// The address of a file; what stands behind `?` in that of the folder may be a signature, and stays.
    fn address(&self, path: &str) -> Url {
        let mut url = self.folder.clone();
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(path.split('/'));
        }
        url
    }

    fn ask(&self, path: &str) -> Result<Option<Entry>, RemoteError> {
        let (place, url) = (self.describe(), self.address(path));
        let mut reply = self.client.head(&place, &url)?;
        if matches!(reply.status, 400 | 403 | 405 | 501)
            || reply.status == 200 && size_of(&reply).is_none()
        {
            // A server that does not know the question, or a link that is signed for reading alone.
            reply = self.first_byte(&place, &url)?;
        }
        let refused = |problem: String| RemoteError::Refused {
            place: place.clone(),
            problem,
            hint: "check the address; a folder that needs a token of its own is not read".into(),
        };
        match reply.status {
            404 | 410 => return Ok(None),
            200 | 206 => {}
            401 | 403 => {
                return Err(refused(format!(
                    "the server does not let you read `{path}` ({})",
                    reply.status
                )));
            }
            status => return Err(refused(format!("the server answers {status} for `{path}`"))),
        }
        let Some(size) = size_of(&reply) else {
            return Err(refused(format!(
                "the server does not say how long `{path}` is"
            )));
        };
        let said = |name: &str| {
            let said = reply.header(name).unwrap_or_default();
            said.trim_start_matches("W/")
        };
        let said = [said("etag"), said("last-modified")];
        Ok(Some(Entry::by_what_is_said(path.to_owned(), size, said)))
    }

    fn first_byte(&self, place: &str, url: &Url) -> Result<Reply, RemoteError> {
        let mut waits = self.client.waits(place);
        loop {
            match self.client.follow(url, Some(&(0..1)), false) {
                Ok(answer) => return Ok(Reply::of(&answer)),
                Err(trouble) => waits.after(trouble)?,
            }
        }
    }
}

/// The bytes of the whole file.
fn size_of(reply: &Reply) -> Option<u64> {
    match reply.status {
        206 => reply
            .header("content-range")?
            .rsplit_once('/')?
            .1
            .parse()
            .ok(),
        416 => reply
            .header("content-range")?
            .strip_prefix("bytes */")?
            .parse()
            .ok(),
        _ => reply.header("content-length")?.parse().ok(),
    }
}

impl Store for WebFolder {
    fn describe(&self) -> String {
        let mut shown = self.folder.clone();
        // It may be a signature.
        shown.set_query(None);
        shown.to_string()
    }

    fn entries(&self) -> Option<&BTreeMap<String, Entry>> {
        None
    }

    fn entry(&self, path: &str) -> Result<Option<Entry>, RemoteError> {
        let seen = || hold(&self.seen);
        if let Some(entry) = seen().get(path) {
            return Ok(entry.clone());
        }
        let entry = self.ask(path)?;
        seen().insert(path.to_owned(), entry.clone());
        Ok(entry)
    }

    fn open(&self, entry: &Entry, range: Range<u64>) -> Result<Arriving, Trouble> {
        let answer = self
            .client
            .follow(&self.address(&entry.path), Some(&range), false)?;
        match answer.status {
            200 | 206 => arriving(answer, &self.describe(), entry, &range),
            status => Err(Trouble::Lasting(RemoteError::Network {
                place: self.describe(),
                problem: format!("the server answers {status} for `{}`", entry.path),
                hint: "check the address",
            })),
        }
    }

    fn client(&self) -> &Client {
        &self.client
    }
}
