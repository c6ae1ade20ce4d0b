//! Repositories, a second host with the large files, and every fault that a line has.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::wire::{MODIFIED, Request, head, read_request, respond, unescape};

/// The commit of every repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
/// Files from this size on are large: they lie on the second host and are known by SHA-256.
pub const LARGE: usize = 64 << 10;
/// How long a line's queue lasts while nobody sends.
const QUEUED: Duration = Duration::from_millis(20);

/// What goes wrong with one answer about a file.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Another status, with these headers.
    Status(u16, Vec<(&'static str, String)>),
    /// The line breaks after so many bytes of the body.
    Reset(usize),
    /// This byte of the file is another one, in the next answer that has it.
    Wrong(u64),
    /// The body comes in pieces of so many bytes, with a pause behind each.
    Slow(usize, Duration),
    /// Every answer of the second host about links that it has handed out is 403 from now on.
    EndLinks,
    /// The server does not know ranges.
    Whole,
    /// The file is another one now, a byte longer.
    Replaced,
}

/// A repository.
#[derive(Clone, Debug, Default)]
pub struct Repo {
    /// Its files by path.
    pub files: BTreeMap<String, Arc<Vec<u8>>>,
    /// It is read with this token alone.
    pub token: Option<&'static str>,
    /// Its owners have not been asked.
    pub gated: bool,
    /// It has another name now.
    pub moved: Option<String>,
    /// A bucket that is signed for with this region alone.
    pub region: Option<&'static str>,
}

impl Repo {
    /// A repository with these files, which everybody may read.
    pub fn of(files: BTreeMap<String, Vec<u8>>) -> Self {
        let files = files
            .into_iter()
            .map(|(path, bytes)| (path, Arc::new(bytes)));
        Self {
            files: files.collect(),
            ..Self::default()
        }
    }
}

#[derive(Default)]
struct State {
    repos: BTreeMap<String, Repo>,
    /// What is said of their files.
    nodes: BTreeMap<String, Vec<Value>>,
    faults: BTreeMap<String, VecDeque<Fault>>,
    requests: Vec<Request>,
    served: u64,
    /// Links are numbered; older ones have ended.
    link: u64,
    rate: Option<f64>,
    /// When the bytes that were sent so far have left at that rate.
    free: Option<Instant>,
}

/// The hub. It ends with the process.
#[derive(Clone)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    first: SocketAddr,
    pub(crate) second: SocketAddr,
}

impl Hub {
    /// A hub with nothing on it.
    ///
    /// # Panics
    /// There is no loopback line.
    pub fn start() -> Self {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("a port of the loopback line");
        let (first, second) = (listen(), listen());
        let address = |listener: &TcpListener| listener.local_addr().expect("its address");
        let hub = Self {
            state: Arc::default(),
            first: address(&first),
            second: address(&second),
        };
        for (listener, is_second) in [(first, false), (second, true)] {
            let hub = hub.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let hub = hub.clone();
                    std::thread::spawn(move || hub.serve(stream, is_second));
                }
            });
        }
        hub
    }

    /// The repository of an id.
    pub(crate) fn known(&self, id: &str) -> Option<Repo> {
        self.lock().repos.get(id).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.first)
    }

    /// The address of the second host, where a folder lies behind HTTP.
    pub fn web(&self, id: &str) -> String {
        format!("http://{}/web/{id}/", self.second)
    }

    /// Puts a repository there.
    pub fn put(&self, id: &str, repo: Repo) {
        let nodes = repo
            .files
            .iter()
            .map(|(path, bytes)| node(path, bytes))
            .collect();
        let mut state = self.lock();
        state.nodes.insert(id.to_owned(), nodes);
        state.repos.insert(id.to_owned(), repo);
    }

    /// The next answers about the bytes of this file go wrong so, one after another.
    pub fn spoil(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.lock()
            .faults
            .insert(path.to_owned(), faults.into_iter().collect());
    }

    /// Bytes a second of all lines together, from now on.
    pub fn throttle(&self, rate: f64) {
        self.lock().rate = Some(rate);
    }

    /// The requests so far, which are forgotten.
    pub fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.lock().requests)
    }

    /// Bytes of files that were sent.
    pub fn served(&self) -> u64 {
        self.lock().served
    }

    fn serve(&self, stream: TcpStream, second: bool) {
        let Ok(mut out) = stream.try_clone() else {
            return;
        };
        let _ = out.set_nodelay(true);
        let mut input = BufReader::new(stream);
        while let Some(request) = read_request(&mut input, second) {
            self.lock().requests.push(request.clone());
            if self.answer(&request, &mut out).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &Request, out: &mut TcpStream) -> std::io::Result<()> {
        let (path, _) = request
            .target
            .split_once('?')
            .unwrap_or((&request.target, ""));
        let parts: Vec<String> = path
            .trim_start_matches('/')
            .split('/')
            .map(unescape)
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        match (request.second, &parts[..]) {
            (false, ["api", "models" | "datasets", rest @ ..]) => self.api(request, rest, out),
            (true, ["signed", link, id @ .., "resolve", _, file]) => {
                if *link != self.lock().link.to_string() {
                    return respond(out, 403, &[], b"expired", request);
                }
                self.file(request, &id.join("/"), file, out)
            }
            (true, ["objects", rest @ ..]) => self.object(request, rest, out),
            (true, ["web", org, name, file @ ..]) => {
                self.file(request, &format!("{org}/{name}"), &file.join("/"), out)
            }
            (false, ["datasets", rest @ ..] | rest) => self.resolve(request, rest, out),
            _ => respond(out, 404, &[], b"", request),
        }
    }

    /// The repository of an id, unless the one who asks may not have it.
    fn repo(&self, request: &Request, id: &str) -> Result<Repo, (u16, &'static str)> {
        let repo = self.lock().repos.get(id).cloned();
        let Some(repo) = repo else {
            return Err((401, "RepoNotFound"));
        };
        if let Some(token) = repo.token
            && request.authorization.as_deref() != Some(&format!("Bearer {token}"))
        {
            return Err((401, "RepoNotFound"));
        }
        if repo.gated {
            return Err((403, "GatedRepo"));
        }
        Ok(repo)
    }

    fn api(&self, request: &Request, rest: &[&str], out: &mut TcpStream) -> std::io::Result<()> {
        let split = rest
            .iter()
            .position(|part| *part == "revision" || *part == "tree");
        let Some(split) = split else {
            return respond(out, 404, &[], b"", request);
        };
        let id = rest[..split].join("/");
        let revision = rest[split + 1..].join("/");
        let repo = match self.repo(request, &id) {
            Ok(repo) => repo,
            Err((status, code)) => {
                let headers = [("x-error-code", code.to_owned())];
                return respond(out, status, &headers, b"{}", request);
            }
        };
        if let Some(moved) = &repo.moved {
            let target = request.target.replacen(&id, moved, 1);
            return respond(out, 307, &[("location", target)], b"", request);
        }
        if !["main", COMMIT, "v1", "refs/pr/1"].contains(&revision.as_str()) {
            let headers = [("x-error-code", "RevisionNotFound".to_owned())];
            return respond(out, 404, &headers, b"{}", request);
        }
        if rest[split] == "revision" {
            let body = json!({"id": id, "sha": COMMIT}).to_string();
            return respond(out, 200, &[], body.as_bytes(), request);
        }
        // A page for every five files.
        let page: usize = request
            .target
            .split_once("cursor=")
            .and_then(|(_, rest)| rest.split('&').next()?.parse().ok())
            .unwrap_or(0);
        let all = self.lock().nodes.get(&id).cloned().unwrap_or_default();
        let nodes: Vec<Value> = all.into_iter().skip(page).take(5).collect();
        let mut headers = Vec::new();
        if page + 5 < repo.files.len() {
            let (path, _) = request
                .target
                .split_once('?')
                .unwrap_or((&request.target, ""));
            let next = format!(
                "<{}{path}?recursive=true&cursor={}>; rel=\"next\"",
                self.endpoint(),
                page + 5
            );
            headers.push(("link", next));
        }
        respond(
            out,
            200,
            &headers,
            Value::Array(nodes).to_string().as_bytes(),
            request,
        )
    }

    /// `ID/resolve/COMMIT/PATH`: small files at once, large ones from the second host.
    fn resolve(
        &self,
        request: &Request,
        rest: &[&str],
        out: &mut TcpStream,
    ) -> std::io::Result<()> {
        let Some(split) = rest.iter().position(|part| *part == "resolve") else {
            return respond(out, 404, &[], b"", request);
        };
        let (id, path) = (rest[..split].join("/"), rest[split + 2..].join("/"));
        let repo = match self.repo(request, &id) {
            Ok(repo) => repo,
            Err((status, code)) => {
                return respond(
                    out,
                    status,
                    &[("x-error-code", code.to_owned())],
                    b"",
                    request,
                );
            }
        };
        if let Some(moved) = &repo.moved {
            return respond(
                out,
                307,
                &[("location", request.target.replacen(&id, moved, 1))],
                b"",
                request,
            );
        }
        let Some(bytes) = repo.files.get(&path) else {
            return respond(
                out,
                404,
                &[("x-error-code", "EntryNotFound".to_owned())],
                b"",
                request,
            );
        };
        if bytes.len() < LARGE {
            return self.file(request, &id, &path, out);
        }
        let link = self.lock().link;
        let escaped = path.replace('/', "%2F");
        let target = format!(
            "http://{}/signed/{link}/{id}/resolve/{COMMIT}/{escaped}?sig=s3cret",
            self.second
        );
        respond(out, 302, &[("location", target)], b"", request)
    }

    /// Waits until so many bytes more have left. What a sender was late for is made up for, as far as queues of a real line would
    /// ([`QUEUED`]): the line does not rest because a processor was busy.
    fn pace(&self, bytes: usize) {
        let left = {
            let mut state = self.lock();
            let Some(rate) = state.rate else {
                return;
            };
            let now = Instant::now();
            let free = state
                .free
                .map_or(now, |free| free.max(now.checked_sub(QUEUED).unwrap_or(now)))
                + Duration::from_secs_f64(bytes as f64 / rate);
            state.free = Some(free);
            free.saturating_duration_since(now)
        };
        std::thread::sleep(left);
    }

    fn next_fault(&self, path: &str, range: Option<&Range<u64>>) -> Option<Fault> {
        let mut state = self.lock();
        let faults = state.faults.get_mut(path)?;
        match (faults.front()?, range) {
            (Fault::Wrong(at), Some(range)) if !range.contains(at) => None,
            _ => faults.pop_front(),
        }
    }

    pub(crate) fn file(
        &self,
        request: &Request,
        id: &str,
        path: &str,
        out: &mut TcpStream,
    ) -> std::io::Result<()> {
        let found = self
            .lock()
            .repos
            .get(id)
            .and_then(|repo| repo.files.get(path).cloned());
        let Some(mut bytes) = found else {
            return respond(out, 404, &[], b"", request);
        };
        let fault = match request.method.as_str() {
            "HEAD" => None,
            _ => self.next_fault(path, request.range.as_ref()),
        };
        let etag = format!(
            "\"{}-{}\"",
            bytes.len(),
            hex(&Sha256::digest(&bytes[..bytes.len().min(4096)]))
        );
        let mut headers = vec![
            ("etag", etag),
            ("last-modified", MODIFIED.to_owned()),
            ("accept-ranges", "bytes".to_owned()),
            ("x-repo-commit", COMMIT.to_owned()),
        ];
        let mut range = request.range.clone();
        let mut pace = None;
        let mut stop = usize::MAX;
        match fault {
            Some(Fault::Status(status, more)) => {
                return respond(out, status, &more, b"busy", request);
            }
            Some(Fault::EndLinks) => {
                self.lock().link += 1;
                return respond(out, 403, &[], b"expired", request);
            }
            Some(Fault::Wrong(at)) => {
                if let Some(byte) = Arc::make_mut(&mut bytes).get_mut(at as usize) {
                    *byte ^= 0x10;
                }
            }
            Some(Fault::Replaced) => Arc::make_mut(&mut bytes).push(0),
            Some(Fault::Reset(after)) => stop = after,
            Some(Fault::Slow(size, pause)) => pace = Some((size, pause)),
            Some(Fault::Whole) => range = None,
            None => {}
        }
        let size = bytes.len() as u64;
        let (status, body) = match range {
            Some(range) if range.start < size => {
                let end = range.end.min(size);
                headers.push((
                    "content-range",
                    format!("bytes {}-{}/{size}", range.start, end - 1),
                ));
                (206, &bytes[range.start as usize..end as usize])
            }
            Some(_) => {
                headers.push(("content-range", format!("bytes */{size}")));
                return respond(out, 416, &headers, b"", request);
            }
            None => (200, &bytes[..]),
        };
        if request.method == "HEAD" {
            return respond(out, status, &headers, body, request);
        }
        head(out, status, &headers, body.len())?;
        let piece = pace.map_or(64 << 10, |(size, _)| size);
        let mut sent = 0;
        for part in body.chunks(piece) {
            let part = &part[..part.len().min(stop - sent)];
            out.write_all(part)?;
            sent += part.len();
            self.lock().served += part.len() as u64;
            if sent == stop {
                // What is left in the buffers of the line goes with it.
                let _ = out.shutdown(std::net::Shutdown::Both);
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            if let Some((_, pause)) = pace {
                std::thread::sleep(pause);
            }
            self.pace(part.len());
        }
        Ok(())
    }
}

/// What the hub says of a file.
fn node(path: &str, bytes: &[u8]) -> Value {
    let mut sha = Sha1::new();
    sha.update(format!("blob {}\0", bytes.len()).as_bytes());
    sha.update(bytes);
    let oid = hex(&sha.finalize());
    if bytes.len() < LARGE {
        return json!({"type": "file", "path": path, "size": bytes.len(), "oid": oid});
    }
    let lfs = json!({"oid": hex(&Sha256::digest(bytes)), "size": bytes.len(), "pointerSize": 134});
    json!({"type": "file", "path": path, "size": bytes.len(), "oid": oid, "lfs": lfs})
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}"));
        text
    })
}
