//! Connections to a daemon's socket that are made before they are needed: whoever gives up root's privileges meanwhile
//! could not make them afterwards.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bollard::BollardRequest;
use bollard::errors::Error;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::http::{self, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::lock;

/// How many requests are under way at most: one that loads an image, and others that ask meanwhile.
pub(super) const CONNECTIONS: usize = 3;

type Body = <BollardRequest as IntoBody>::Body;

/// Names the type of the bodies of bollard's requests, which it does not export.
trait IntoBody {
    type Body;
}

impl<B> IntoBody for Request<B> {
    type Body = B;
}

/// Connections that no request uses, or whose answer is still being read.
#[derive(Debug)]
pub(super) struct Connections {
    path: PathBuf,
    open: Mutex<Vec<SendRequest<Body>>>,
}

impl Connections {
    /// Makes the connections.
    pub(super) async fn open(path: PathBuf) -> Result<Arc<Self>, Error> {
        let connections = Arc::new(Self { path, open: Mutex::default() });
        for _ in 0..CONNECTIONS {
            let sender = connections.connect().await?;
            lock(&connections.open).push(sender);
        }
        Ok(connections)
    }

    async fn connect(&self) -> Result<SendRequest<Body>, Error> {
        let stream = UnixStream::connect(&self.path).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("a connection to the daemon ended: {error}");
            }
        });
        sender.ready().await?;
        Ok(sender)
    }

    /// The connection that has been ready for longest, or a new one.
    async fn ready(&self) -> Result<SendRequest<Body>, Error> {
        let found = {
            let mut open = lock(&self.open);
            open.retain(|sender| !sender.is_closed());
            let position = open.iter().position(SendRequest::is_ready);
            position.map(|position| open.remove(position))
        };
        match found {
            Some(sender) => Ok(sender),
            None => self.connect().await,
        }
    }

    /// Sends a request. The connection is free again when the answer was read.
    pub(super) async fn request(&self, request: BollardRequest) -> Result<Response<Incoming>, Error> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse::<Uri>().map_err(http::Error::from)?;
        head.headers.insert(HOST, HeaderValue::from_static("localhost"));
        let mut sender = self.ready().await?;
        let response = sender.send_request(Request::from_parts(head, body)).await;
        lock(&self.open).push(sender);
        Ok(response?)
    }
}
