//! Buckets on the second host: what S3, Google Cloud Storage and Azure Blob Storage answer when they are asked for a list of
//! objects and for one of them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::TcpStream;
use std::sync::Arc;

use crate::hub::{Hub, Repo};
use crate::wire::{MODIFIED, Request, respond, unescape};

/// `MODIFIED` as S3 writes it.
const MODIFIED_ISO: &str = "2026-01-01T00:00:00.000Z";
/// Objects on a page of a list.
const PAGE: usize = 5;

/// What a list says.
struct Page<'a> {
    objects: Vec<(&'a String, &'a Arc<Vec<u8>>)>,
    folders: BTreeSet<String>,
    next: Option<usize>,
}

impl Hub {
    /// Where the stores are: `AWS_ENDPOINT_URL` and its like. The objects of a bucket are those of the repository
    /// `objects/BUCKET`.
    pub fn objects(&self) -> String {
        format!("http://{}/objects", self.second)
    }

    /// An answer of a store about `BUCKET[/KEY]`.
    pub(crate) fn object(
        &self,
        request: &Request,
        rest: &[&str],
        out: &mut TcpStream,
    ) -> std::io::Result<()> {
        // The account of an emulator of Azure.
        let (is_azure, rest) = match rest {
            ["devstoreaccount1", rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let [bucket, key @ ..] = rest else {
            return respond(out, 404, &[], b"", request);
        };
        let id = format!("objects/{bucket}");
        let refusal = |code: &str| format!("<Error><Code>{code}</Code></Error>");
        let Some(repo) = self.known(&id) else {
            return respond(out, 404, &[], refusal("NoSuchBucket").as_bytes(), request);
        };
        let said = request.authorization.as_deref().unwrap_or_default();
        if repo.token.is_some_and(|token| !said.contains(token)) {
            return respond(out, 403, &[], refusal("AccessDenied").as_bytes(), request);
        }
        if let Some(region) = repo.region
            && !said.contains(&format!("/{region}/"))
        {
            let headers = [("x-amz-bucket-region", region.to_owned())];
            return respond(out, 301, &headers, b"", request);
        }
        let key = key.join("/");
        if !key.is_empty() {
            return self.file(request, &id, &key, out);
        }
        let page = page(&repo, request);
        let body = if is_azure { azure(&page) } else { s3(&page) };
        respond(out, 200, &[], body.as_bytes(), request)
    }
}

/// What is asked for of a list.
fn asked(request: &Request, name: &str) -> Option<String> {
    let (_, query) = request.target.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    Some(unescape(&value.replace('+', " ")))
}

fn page<'a>(repo: &'a Repo, request: &Request) -> Page<'a> {
    let prefix = asked(request, "prefix").unwrap_or_default();
    let token = asked(request, "continuation-token").or_else(|| asked(request, "marker"));
    let first = token.and_then(|token| token.parse().ok()).unwrap_or(0);
    let mut folders = BTreeSet::new();
    let mut objects = Vec::new();
    for (key, bytes) in &repo.files {
        let Some(rest) = key.strip_prefix(&prefix) else {
            continue;
        };
        match rest.split_once('/') {
            Some((folder, _)) if asked(request, "delimiter").is_some() => {
                folders.insert(format!("{prefix}{folder}/"));
            }
            _ => objects.push((key, bytes)),
        }
    }
    let next = (first + PAGE < objects.len()).then_some(first + PAGE);
    let objects = objects.into_iter().skip(first).take(PAGE).collect();
    Page {
        objects,
        folders,
        next,
    }
}

fn escaped(key: &str) -> String {
    key.replace('&', "&amp;").replace('<', "&lt;")
}

fn s3(page: &Page) -> String {
    let mut text = "<?xml version=\"1.0\"?><ListBucketResult>".to_owned();
    for (key, bytes) in &page.objects {
        let (key, size) = (escaped(key), bytes.len());
        let _ = write!(
            text,
            "<Contents><Key>{key}</Key><LastModified>{MODIFIED_ISO}</LastModified><ETag>\"{size}\"</ETag><Size>{size}</Size></Contents>"
        );
    }
    for folder in &page.folders {
        let folder = escaped(folder);
        let _ = write!(
            text,
            "<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>"
        );
    }
    if let Some(next) = page.next {
        let _ = write!(
            text,
            "<NextContinuationToken>{next}</NextContinuationToken>"
        );
    }
    text + "</ListBucketResult>"
}

fn azure(page: &Page) -> String {
    let mut text = "<?xml version=\"1.0\"?><EnumerationResults><Blobs>".to_owned();
    for (key, bytes) in &page.objects {
        let (key, size) = (escaped(key), bytes.len());
        let _ = write!(
            text,
            "<Blob><Name>{key}</Name><Properties><Last-Modified>{MODIFIED}</Last-Modified><Content-Length>{size}</Content-Length><Content-Type>x</Content-Type><Etag>{size}</Etag></Properties></Blob>"
        );
    }
    for folder in &page.folders {
        let folder = escaped(folder);
        let _ = write!(text, "<BlobPrefix><Name>{folder}</Name></BlobPrefix>");
    }
    text += "</Blobs>";
    if let Some(next) = page.next {
        let _ = write!(text, "<NextMarker>{next}</NextMarker>");
    }
    text + "</EnumerationResults>"
}
