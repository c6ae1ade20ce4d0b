//! Requests that are tried again, follow their redirects, and give the token to its own host alone.

use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};
use url::Url;

use crate::error::RemoteError;
use crate::settings::{Settings, Token};

/// Redirects that one request follows.
const MOST_REDIRECTS: usize = 10;
/// Bytes of an answer that is not a file: lists of files of a large repository.
const ANSWER_LIMIT: u64 = 64 << 20;
/// Bytes of what a server says when it refuses.
const REFUSAL_LIMIT: u64 = 1 << 16;

/// How patient requests are.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Attempts without a byte of progress.
    pub attempts: u32,
    /// Wait before the second attempt; it doubles from there on.
    pub first_wait: Duration,
    /// Longest wait between attempts that a server may ask for.
    pub longest_wait: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_wait: Duration::from_millis(400),
            longest_wait: Duration::from_mins(2),
        }
    }
}

/// What asks.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    policy: Policy,
    /// The hub, and what it knows the user by.
    endpoint: Url,
    token: Option<Token>,
    answer_timeout: Duration,
    /// Bytes of files that arrived.
    received: AtomicU64,
}

/// An answer whose body has not been read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    /// Where it came from in the end.
    pub url: Url,
    headers: ureq::http::HeaderMap,
    body: Body,
}

impl Answer {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The whole body of a small answer.
    fn bytes(self, limit: u64) -> Result<Vec<u8>, ureq::Error> {
        self.body.into_with_config().limit(limit).read_to_vec()
    }

    /// The body as it arrives.
    pub fn reader(self) -> impl Read + Send + 'static {
        self.body.into_with_config().limit(u64::MAX).reader()
    }
}

/// Why an attempt failed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Another attempt may help.
    Passing(Passing),
    /// It will not.
    Lasting(RemoteError),
}

/// What another attempt may help against.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Passing {
    /// What happened.
    pub why: String,
    /// How long the server asks to wait.
    pub wait: Option<Duration>,
    /// It is the address that does not answer at all.
    pub is_unreachable: bool,
}

impl From<Passing> for Trouble {
    fn from(passing: Passing) -> Self {
        Self::Passing(passing)
    }
}

impl Trouble {
    pub fn passing(why: impl Into<String>) -> Self {
        Self::Passing(Passing {
            why: why.into(),
            wait: None,
            is_unreachable: false,
        })
    }
}

impl Passing {
    fn of(error: &ureq::Error) -> Self {
        let is_unreachable = match error {
            ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Timeout(ureq::Timeout::Connect) => true,
            ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            _ => false,
        };
        Self {
            why: error.to_string(),
            wait: None,
            is_unreachable,
        }
    }
}

/// The waits of one request.
pub(crate) struct Waits<'a> {
    policy: &'a Policy,
    place: &'a str,
    failed: u32,
}

impl Waits<'_> {
    /// Something arrived: the count begins anew.
    pub fn progress(&mut self) {
        self.failed = 0;
    }

    /// Waits before the next attempt, if there is to be one.
    pub fn after(&mut self, trouble: Trouble) -> Result<(), RemoteError> {
        let Passing {
            why,
            wait: asked,
            is_unreachable,
        } = match trouble {
            Trouble::Lasting(error) => return Err(error),
            Trouble::Passing(passing) => passing,
        };
        self.failed += 1;
        let most = if is_unreachable {
            self.policy.attempts.min(2)
        } else {
            self.policy.attempts
        };
        let fails = |problem: String| RemoteError::Network {
            place: self.place.to_owned(),
            problem,
            hint: "check the network and the proxy (HTTPS_PROXY), then run the same command again: it goes on where it \
                   was",
        };
        if self.failed >= most {
            let times = match self.failed {
                1 => "once".to_owned(),
                times => format!("{times} times"),
            };
            return Err(fails(format!("{why} (tried {times})")));
        }
        if let Some(asked) = asked.filter(|asked| *asked > self.policy.longest_wait) {
            let seconds = asked.as_secs();
            return Err(fails(format!("{why}: it asks to wait for {seconds} s")));
        }
        let doubled = self.policy.first_wait * 2_u32.pow(self.failed.min(10) - 1);
        let own = doubled.min(Duration::from_secs(30)).mul_f64(jitter());
        tracing::debug!(place = self.place, why, "another attempt");
        std::thread::sleep(asked.map_or(own, |asked| asked + own.mul_f64(0.1)));
        Ok(())
    }
}

/// Between one half and one and a half.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    let bits = std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish();
    0.5 + (bits >> 11) as f64 / (1_u64 << 53) as f64
}

impl Client {
    /// Asks as the settings say.
    pub fn new(settings: &Settings, policy: Policy) -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(settings.answer_timeout.max(Duration::from_secs(1))))
            .timeout_per_read(Some(settings.read_timeout))
            .max_idle_connections_per_host(16)
            .input_buffer_size(256 << 10)
            .user_agent(concat!("sli/", env!("CARGO_PKG_VERSION")))
            .proxy(Proxy::try_from_env())
            .tls_config(tls)
            .build();
        Self {
            agent: config.into(),
            policy,
            endpoint: settings.endpoint.clone(),
            token: settings.token.clone(),
            answer_timeout: settings.answer_timeout,
            received: AtomicU64::new(0),
        }
    }

    /// The hub.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Whether the user is known to the hub.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Bytes of files that arrived so far, also those that were asked for twice.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub fn note_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn waits<'a>(&'a self, place: &'a str) -> Waits<'a> {
        Waits {
            policy: &self.policy,
            place,
            failed: 0,
        }
    }

    /// The token goes to the hub, over the line that the hub is known by, and to nobody else.
    fn may_know(&self, url: &Url) -> bool {
        url.origin() == self.endpoint.origin()
    }

    /// One request without its redirects; what the server will say otherwise soon is trouble.
    fn once(&self, url: &Url, range: Option<&Range<u64>>, head: bool) -> Result<Answer, Trouble> {
        let mut request = if head {
            self.agent.head(url.as_str())
        } else {
            self.agent.get(url.as_str())
        };
        if let Some(range) = range {
            let last = range.end.saturating_sub(1);
            request = request.header("range", format!("bytes={}-{last}", range.start));
        }
        // Bytes are wanted as they are stored.
        request = request.header("accept-encoding", "identity");
        if let Some(token) = self.token.as_ref().filter(|_| self.may_know(url)) {
            request = request.header("authorization", token.bearer());
        }
        let wait = self.answer_timeout;
        let request = request.config().timeout_recv_response(Some(wait)).build();
        let response = request.call().map_err(|error| Passing::of(&error))?;
        let (parts, body) = settled(response)?.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            url: url.clone(),
            headers: parts.headers,
            body,
        })
    }

    /// One request as it is, without a token and without its redirects.
    pub fn send(
        &self,
        request: ureq::http::Request<Vec<u8>>,
        timeout: Option<Duration>,
    ) -> Result<ureq::http::Response<Body>, Passing> {
        let config = self.agent.configure_request(request);
        let config = config.timeout_recv_response(Some(timeout.unwrap_or(self.answer_timeout)));
        let request = match timeout {
            Some(_) => config.timeout_connect(timeout).build(),
            None => config.build(),
        };
        let response = if request.body().is_empty() {
            self.agent.run(request.map(|_| ()))
        } else {
            self.agent.run(request)
        };
        settled(response.map_err(|error| Passing::of(&error))?)
    }

    /// One request with its redirects.
    pub fn follow(
        &self,
        url: &Url,
        range: Option<&Range<u64>>,
        head: bool,
    ) -> Result<Answer, Trouble> {
        let mut url = url.clone();
        for _ in 0..MOST_REDIRECTS {
            let answer = self.once(&url, range, head)?;
            let is_redirect = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
            let Some(next) = answer.header("location").filter(|_| is_redirect) else {
                return Ok(answer);
            };
            let next = url
                .join(next)
                .ok()
                .filter(|next| ["http", "https"].contains(&next.scheme()));
            let Some(next) = next else {
                return Err(Trouble::passing(
                    "the server sends on to an address that is none",
                ));
            };
            if url.scheme() == "https" && next.scheme() == "http" {
                return Err(Trouble::passing(
                    "the server sends on to an unprotected address",
                ));
            }
            url = next;
        }
        Err(Trouble::passing("the server sends on and on"))
    }

    /// The answer to a question, whole.
    pub fn ask(&self, place: &str, url: &Url) -> Result<(Reply, Vec<u8>), RemoteError> {
        let mut waits = self.waits(place);
        loop {
            let tried = self.follow(url, None, false).and_then(|answer| {
                let reply = Reply::of(&answer);
                let limit = if reply.status < 300 {
                    ANSWER_LIMIT
                } else {
                    REFUSAL_LIMIT
                };
                let bytes = answer.bytes(limit).map_err(|error| Passing::of(&error))?;
                Ok((reply, bytes))
            });
            match tried {
                Ok(answer) => return Ok(answer),
                Err(trouble) => waits.after(trouble)?,
            }
        }
    }

    /// What is said of a file without its bytes.
    pub fn head(&self, place: &str, url: &Url) -> Result<Reply, RemoteError> {
        let mut waits = self.waits(place);
        loop {
            match self.follow(url, None, true) {
                Ok(answer) => return Ok(Reply::of(&answer)),
                Err(trouble) => waits.after(trouble)?,
            }
        }
    }
}

/// An answer, unless the server will soon give another one.
fn settled(response: ureq::http::Response<Body>) -> Result<ureq::http::Response<Body>, Passing> {
    let status = response.status().as_u16();
    match status {
        408 | 425 | 429 | 500..=504 | 520..=524 => {
            let wait = response.headers().get("retry-after");
            Err(Passing {
                why: format!("the server answers {status}"),
                wait: wait.and_then(|wait| retry_after(wait.to_str().ok()?)),
                is_unreachable: false,
            })
        }
        _ => Ok(response),
    }
}

/// Status and headers of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub status: u16,
    headers: ureq::http::HeaderMap,
}

impl Reply {
    pub fn of(answer: &Answer) -> Self {
        Self {
            status: answer.status,
            headers: answer.headers.clone(),
        }
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The seconds of a `Retry-After`, or the time until its date.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text.trim()).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}
