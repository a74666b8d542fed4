//! Errors.

use model::{Code, Refusal};
use serde::{Deserialize, Serialize};

/// The body of every error response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorBody {
    /// The stable code.
    pub code: String,
    /// What failed, why, and what to do, in one string, for older clients.
    pub message: String,
    /// The same in its parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<ErrorDetails>,
}

/// The parts of an error's message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ErrorDetails {
    /// What failed and why.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl From<Refusal> for ErrorBody {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message, remedy } = refusal;
        let text = if remedy.is_empty() {
            message.clone()
        } else {
            let end = if message.ends_with(['?', '!', '.']) { "" } else { "." };
            format!("{message}{end} What to do: {remedy}")
        };
        Self {
            code: code.as_str().to_owned(),
            message: text,
            details: Some(ErrorDetails { reason: message, remedy }),
        }
    }
}

impl From<ErrorBody> for Refusal {
    /// An unknown code becomes [`Code::Internal`] and is named in the message.
    fn from(body: ErrorBody) -> Self {
        let (message, remedy) = match body.details {
            Some(ErrorDetails { reason, remedy }) => (reason, remedy),
            None => (body.message, String::new()),
        };
        match Code::ALL.iter().find(|code| code.as_str() == body.code) {
            Some(code) => Self::new(*code, message, remedy),
            None => Self::new(Code::Internal, format!("{message} ({})", body.code), remedy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_wire() {
        let refusal = Refusal::new(Code::InUse, "l4-gpu is in use by vm", "delete vm");
        let body = ErrorBody::from(refusal.clone());
        assert_eq!(body.message, "l4-gpu is in use by vm. What to do: delete vm");
        let asked = ErrorBody::from(Refusal::new(Code::InvalidRequest, "did you mean `a`?", "b"));
        assert_eq!(asked.message, "did you mean `a`? What to do: b");
        let json = serde_json::to_string(&body).unwrap();
        let back: ErrorBody = serde_json::from_str(&json).unwrap();
        assert_eq!(Refusal::from(back), refusal);
    }

    #[test]
    fn an_unknown_code_is_named() {
        let body: ErrorBody =
            serde_json::from_str(r#"{"code":"teapot","message":"short and stout"}"#).unwrap();
        let refusal = Refusal::from(body);
        assert_eq!(refusal.code, Code::Internal);
        assert_eq!(refusal.message, "short and stout (teapot)");
    }
}
