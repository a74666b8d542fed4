//! Requests to a registry: its token, its answers, its errors.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url, redirect};
use serde::Deserialize;

use super::manifest::{ACCEPTED, MOST_BYTES};
use super::registries::{Place, Transport};
use super::{ContainerError, PullOptions, credentials};
use crate::ImageError;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(15);

/// How long an answer, or the next bytes of it, are waited for.
const STALLED: Duration = Duration::from_secs(30);

/// The most redirections, as curl has them by default.
const MOST_REDIRECTIONS: usize = 10;

/// Where docker.io answers.
const DOCKER: &str = "registry-1.docker.io";

/// Why a request failed.
pub enum Failure {
    /// The connection ended: it can go on.
    Cut(ContainerError),
    /// It would fail again.
    Final(ImageError),
}

impl From<ContainerError> for Failure {
    fn from(error: ContainerError) -> Self {
        match error {
            ContainerError::Stalled { .. } | ContainerError::Unreachable { .. } => Self::Cut(error),
            error => Self::Final(error.into()),
        }
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::Final(error)
    }
}

/// A client of one repository.
pub struct Client {
    http: reqwest::Client,
    registry: String,
    repository: String,
    /// `https://HOST/v2/REPOSITORY`.
    base: String,
    is_plain: bool,
    stalled: Duration,
    credentials: Option<(String, String)>,
    /// The header with the token, once one was asked for.
    authorization: Mutex<Option<HeaderValue>>,
}

/// What a token server answers.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// What a registry answers to a request that fails.
#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    code: String,
}

impl Client {
    pub fn new(place: &Place, options: &PullOptions) -> Result<Self, ContainerError> {
        let Place { registry, repository, transport, is_mirror } = place.clone();
        let host = if registry == "docker.io" { DOCKER } else { &registry };
        let is_plain = transport == Transport::Plain;
        let scheme = if is_plain { "http" } else { "https" };
        // Without it, no connection with TLS can be made; another part of the process may have chosen already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let stalled = options.stalled.unwrap_or(STALLED);
        let policy = redirect::Policy::custom(move |attempt| {
            let is_worse = !is_plain && attempt.url().scheme() != "https";
            match attempt.previous().len() > MOST_REDIRECTIONS || is_worse {
                true => attempt.error("it redirects too often, or to a place without TLS"),
                false => attempt.follow(),
            }
        });
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(stalled)
            .redirect(policy)
            .danger_accept_invalid_certs(transport == Transport::Unverified)
            .user_agent(concat!("handover/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| ContainerError::Unreachable {
                registry: registry.clone(),
                problem: deepest(&error),
            })?;
        let known = || credentials::find(&registry, &repository);
        let given = options.credentials.clone().filter(|_| !is_mirror);
        // A password goes without TLS only where a person said that there is none.
        let may_tell = !is_plain || options.plain_http.contains(&registry);
        Ok(Self {
            http,
            base: format!("{scheme}://{host}/v2/{repository}"),
            is_plain,
            stalled,
            credentials: if may_tell { given.or_else(known) } else { None },
            authorization: Mutex::default(),
            registry,
            repository,
        })
    }

    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// A manifest or index, of a tag or a digest.
    pub async fn manifest(&self, tag: &str) -> Result<Vec<u8>, ContainerError> {
        let url = format!("{}/manifests/{tag}", self.base);
        let response = self.get(&url, Some(&ACCEPTED.join(", ")), 0).await?;
        match response.status() {
            StatusCode::OK => self.small(response).await,
            StatusCode::NOT_FOUND => {
                let body = self.small(response).await.unwrap_or_default();
                let errors: Option<Errors> = serde_json::from_slice(&body).ok();
                let mut codes = errors.iter().flat_map(|all| &all.errors).map(|one| &one.code);
                if codes.any(|code| code == "NAME_UNKNOWN") {
                    let (place, name) = (self.registry.clone(), self.repository.clone());
                    return Err(ContainerError::UnknownName { place, name });
                }
                let (place, tag) = (self.registry.clone(), tag.to_owned());
                Err(ContainerError::UnknownTag { place, tag, known: Vec::new() })
            }
            status => Err(self.refused(status)),
        }
    }

    /// The content of a blob from an offset on.
    pub async fn blob(&self, digest: &str, from: u64) -> Result<Response, ContainerError> {
        let url = format!("{}/blobs/{digest}", self.base);
        let response = self.get(&url, None, from).await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(response),
            StatusCode::NOT_FOUND => Err(ContainerError::UnknownTag {
                place: self.registry.clone(),
                tag: digest.to_owned(),
                known: Vec::new(),
            }),
            status => Err(self.refused(status)),
        }
    }

    /// Reads an answer that is small.
    pub async fn small(&self, mut response: Response) -> Result<Vec<u8>, ContainerError> {
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind.is_some_and(|kind| kind.starts_with("text/html")) {
            return Err(self.no_registry("it sent a web page"));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.explain(&error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > MOST_BYTES {
                return Err(self.no_registry("an answer is larger than 4 MB"));
            }
        }
        Ok(bytes)
    }

    /// Asks, and asks again with a token if the registry wants one.
    async fn get(
        &self,
        url: &str,
        accept: Option<&str>,
        from: u64,
    ) -> Result<Response, ContainerError> {
        let ask = async || {
            let mut request = self.http.get(url);
            if let Some(accept) = accept {
                request = request.header(ACCEPT, accept);
            }
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            if let Some(authorization) = self.authorization() {
                request = request.header(AUTHORIZATION, authorization);
            }
            request.send().await.map_err(|error| self.explain(&error))
        };
        let response = ask().await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenge = response.headers().get(WWW_AUTHENTICATE);
        let challenge = challenge.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let header = self.answer(&challenge.unwrap_or_default()).await?;
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(header);
        ask().await
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The header that answers a challenge.
    async fn answer(&self, challenge: &str) -> Result<HeaderValue, ContainerError> {
        let challenges = http_auth::parser::ChallengeParser::new(challenge)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| self.no_registry("it asks for an unknown kind of authentication"))?;
        let bearer = challenges.iter().find(|one| one.scheme.eq_ignore_ascii_case("bearer"));
        let Some(bearer) = bearer else {
            let (name, password) = self.credentials.as_ref().ok_or_else(|| self.no_access())?;
            return self.header(&basic(name, password));
        };
        let parameter = |name: &str| {
            let mut found = bearer.params.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.to_unescaped())
        };
        let realm = parameter("realm").and_then(|realm| Url::parse(&realm).ok());
        let mut realm = realm.ok_or_else(|| self.no_registry("it names no token server"))?;
        // A password is not sent without TLS, unless the registry is used so on purpose.
        if realm.scheme() != "https" && !self.is_plain {
            return Err(self.no_registry("its token server has no TLS"));
        }
        let scope = format!("repository:{}:pull", self.repository);
        if let Some(service) = parameter("service") {
            realm.query_pairs_mut().append_pair("service", &service);
        }
        realm.query_pairs_mut().append_pair("scope", &scope);
        let mut request = self.http.get(realm);
        if let Some((name, password)) = &self.credentials {
            request = request.header(AUTHORIZATION, self.header(&basic(name, password))?);
        }
        let response = request.send().await.map_err(|error| self.explain(&error))?;
        if !response.status().is_success() {
            return Err(self.refused(response.status()));
        }
        let token: Token = serde_json::from_slice(&self.small(response).await?)
            .map_err(|_| self.no_registry("its token server does not send JSON"))?;
        let token = token.token.or(token.access_token);
        let token = token.ok_or_else(|| self.no_registry("its token server sends no token"))?;
        self.header(&format!("Bearer {token}"))
    }

    fn header(&self, text: &str) -> Result<HeaderValue, ContainerError> {
        let mut value = HeaderValue::from_str(text)
            .map_err(|_| self.no_registry("a token has characters that no token has"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    fn refused(&self, status: StatusCode) -> ContainerError {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => self.no_access(),
            StatusCode::TOO_MANY_REQUESTS => {
                ContainerError::TooManyRequests { registry: self.registry.clone() }
            }
            status if status.is_server_error() => ContainerError::Unreachable {
                registry: self.registry.clone(),
                problem: format!("it answers {}", status.as_u16()),
            },
            status => self.no_registry(&format!("it answers {}", status.as_u16())),
        }
    }

    fn no_access(&self) -> ContainerError {
        let (registry, name) = (self.registry.clone(), self.repository.clone());
        ContainerError::NoAccess { registry, name }
    }

    fn no_registry(&self, problem: &str) -> ContainerError {
        let registry = self.registry.clone();
        ContainerError::NoRegistry { registry, problem: problem.to_owned() }
    }

    /// Why a request failed.
    pub fn explain(&self, error: &reqwest::Error) -> ContainerError {
        let registry = self.registry.clone();
        if error.is_timeout() && !error.is_connect() {
            return ContainerError::Stalled { registry, seconds: self.stalled.as_secs() };
        }
        if error.is_redirect() {
            return self.no_registry("it redirects too often, or to a place without TLS");
        }
        ContainerError::Unreachable { registry, problem: deepest(error) }
    }
}

fn basic(name: &str, password: &str) -> String {
    use base64::Engine as _;
    let both = format!("{name}:{password}");
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(both))
}

/// The first cause of an error, which says most.
fn deepest(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    model::shown::escaped(&cause.to_string()).into_owned()
}
