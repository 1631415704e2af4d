//! Blobs in chunks, for registries that limit the size of a request (distribution spec, "Pushing a blob in chunks").

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};

use super::payload::BlobPayload;
use super::protocol;
use super::request::{Payload, Request};
use super::transport::status_error;
use super::upload::{Failed, Session, arrived, content_range};

impl Session<'_> {
    /// Sends a blob from an offset to its end.
    pub(super) async fn send_chunks(&mut self, payload: &BlobPayload, from: u64) -> Result<(), Failed> {
        let size = self.remote.portions().chunk.max(self.least_chunk);
        let mut offset = from;
        while offset < payload.length {
            let length = size.min(payload.length - offset);
            let request = Request::new(Method::PATCH, self.location.clone())
                .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
                .payload(Payload::Blob(payload.part(offset, length)));
            let request = content_range(request, offset, length);
            let answer = self.remote.send_once(&request, &self.scope, self.core.context()).await?;
            match answer.status() {
                StatusCode::ACCEPTED | StatusCode::NO_CONTENT | StatusCode::CREATED => {}
                StatusCode::PAYLOAD_TOO_LARGE | StatusCode::RANGE_NOT_SATISFIABLE => {
                    return Err(Failed::TooLarge(status_error(answer, &request).await));
                }
                _ => return Err(Failed::Other(status_error(answer, &request).await)),
            }
            offset += length;
            // Some registries take a chunk and drop it: the blob would end as garbage.
            match arrived(answer.headers()) {
                Some(arrived) if arrived != offset && offset > 1 => {
                    let what = format!("{arrived} bytes have arrived, {offset} were sent");
                    return Err(Failed::LostChunk(protocol(&request, what)));
                }
                _ => self.follow(&request, &answer)?,
            }
        }
        Ok(())
    }
}
