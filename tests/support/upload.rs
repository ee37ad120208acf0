//! A multipart upload as a client makes it.
#![allow(dead_code)] // Each test file uses its own part.

use std::net::SocketAddr;

use super::client::{Reply, send};

/// An upload under way.
#[derive(Clone, Debug)]
pub struct Upload {
    pub to: SocketAddr,
    /// `/bucket/key`, as it goes over the wire.
    pub path: String,
    pub id: String,
}

impl Upload {
    /// CreateMultipartUpload.
    pub async fn start(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let reply = send(to, "POST", &format!("{path}?uploads"), headers, b"").await;
        assert_eq!(reply.status, 200, "{}", reply.code());
        Self { to, path: path.to_owned(), id: inner(&reply, "UploadId") }
    }

    /// All of it: these parts at these numbers, in this order. Gives the answer to the completion.
    pub async fn whole(to: SocketAddr, path: &str, parts: &[(u32, Vec<u8>)]) -> Reply {
        let upload = Self::start(to, path, &[]).await;
        let mut list = Vec::new();
        for (number, plain) in parts {
            list.push((*number, upload.part(*number, plain).await));
        }
        upload.complete(&list).await
    }

    /// UploadPart, whatever comes of it.
    pub async fn send_part(&self, number: u32, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let path = format!("{}?partNumber={number}&uploadId={}", self.path, self.id);
        send(self.to, "PUT", &path, headers, body).await
    }

    /// UploadPart; gives its ETag.
    pub async fn part(&self, number: u32, body: &[u8]) -> String {
        let reply = self.send_part(number, &[], body).await;
        assert_eq!(reply.status, 200, "part {number}: {}", reply.code());
        reply.header("etag").to_owned()
    }

    /// CompleteMultipartUpload.
    pub async fn complete(&self, parts: &[(u32, String)]) -> Reply {
        self.complete_with(parts, &[]).await
    }

    /// The same with headers.
    pub async fn complete_with(&self, parts: &[(u32, String)], headers: &[(&str, &str)]) -> Reply {
        send(self.to, "POST", &self.at(), headers, &document(parts)).await
    }

    /// ListParts.
    pub async fn list(&self) -> Reply {
        send(self.to, "GET", &self.at(), &[], b"").await
    }

    /// AbortMultipartUpload.
    pub async fn abort(&self) -> Reply {
        send(self.to, "DELETE", &self.at(), &[], b"").await
    }

    /// Its path, with its id.
    pub fn at(&self) -> String {
        format!("{}?uploadId={}", self.path, self.id)
    }
}

/// The list that completes an upload.
pub fn document(parts: &[(u32, String)]) -> Vec<u8> {
    let part = |(number, etag): &(u32, String)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    };
    let parts: String = parts.iter().map(part).collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>").into_bytes()
}

/// The text of an element of an answer; empty if it is not there.
pub fn inner(reply: &Reply, element: &str) -> String {
    let text = String::from_utf8_lossy(reply.bytes()).into_owned();
    let found = text.split_once(&format!("<{element}>")).and_then(|(_, rest)| rest.split_once('<'));
    found.map(|(text, _)| text.to_owned()).unwrap_or_default()
}
