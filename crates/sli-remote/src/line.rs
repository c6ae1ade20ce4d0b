//! The line of a [`Client`] as the library of object stores wants to have it: the same proxy, certificates and timeouts.

use std::io::Read;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};

use crate::client::{Client, Passing};

/// Bytes that are handed on at a time.
const PIECE: usize = 256 << 10;
/// How long a machine of a cloud may take to answer who it is.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(2);
/// Where machines of clouds ask who they are, beside addresses of their own link.
const IDENTITY: [&str; 2] = ["metadata.google.internal", "metadata"];

/// Why a request was not answered as it should be.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LineError {
    /// Another attempt may help.
    #[error(transparent)]
    Passing(#[from] Passing),
    /// Nothing says who asks, and this is no machine of a cloud.
    #[error("there are no credentials")]
    Nobody,
    /// The bucket lies in another region.
    #[error("the bucket lies in {0}")]
    Region(String),
    /// What is asked would go over an unprotected line.
    #[error("{0} is not protected")]
    Unprotected(String),
}

/// A line, which may be unprotected where the user said so.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub client: Arc<Client>,
    pub allow_http: bool,
}

impl HttpConnector for Line {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl Line {
    fn answer(&self, request: HttpRequest) -> Result<HttpResponse, LineError> {
        let (parts, body) = request.into_parts();
        let host = parts.uri.host().unwrap_or_default();
        let asks_who = host.starts_with("169.254.") || IDENTITY.contains(&host);
        let is_here = ["127.0.0.1", "localhost", "[::1]"].contains(&host);
        if parts.uri.scheme_str() != Some("https") && !asks_who && !is_here && !self.allow_http {
            return Err(LineError::Unprotected(host.to_owned()));
        }
        let timeout = asks_who.then_some(IDENTITY_TIMEOUT);
        let body = body.as_bytes().cloned().unwrap_or_default();
        let request = ureq::http::Request::from_parts(parts, body.to_vec());
        let response = match self.client.send(request, timeout) {
            Err(passing) if asks_who && passing.is_unreachable => return Err(LineError::Nobody),
            sent => sent?,
        };
        let (parts, body) = response.into_parts();
        if asks_who && !parts.status.is_success() {
            return Err(LineError::Nobody);
        }
        if let 301 | 400 = parts.status.as_u16()
            && let Some(region) = parts.headers.get("x-amz-bucket-region")
        {
            let region = region.to_str().unwrap_or_default().to_owned();
            return Err(LineError::Region(region));
        }
        let reader: Box<dyn Read + Send> =
            Box::new(body.into_with_config().limit(u64::MAX).reader());
        let body = HttpResponseBody::new(Incoming(Mutex::new(reader)));
        Ok(HttpResponse::from_parts(parts, body))
    }
}

#[async_trait]
impl HttpService for Line {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Each request has a thread of its own, which waits for it.
        self.answer(request)
            .map_err(|error| HttpError::new(HttpErrorKind::Unknown, error))
    }
}

/// The body of an answer as it arrives.
struct Incoming(Mutex<Box<dyn Read + Send>>);

impl Body for Incoming {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let reader = self.0.get_mut();
        let reader = reader.unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut piece = Vec::with_capacity(PIECE);
        let read = reader.take(PIECE as u64).read_to_end(&mut piece);
        Poll::Ready(match read {
            _ if !piece.is_empty() => Some(Ok(Frame::data(piece.into()))),
            Ok(_) => None,
            Err(error) => Some(Err(HttpError::new(HttpErrorKind::Interrupted, error))),
        })
    }
}
