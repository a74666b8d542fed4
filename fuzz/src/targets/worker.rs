//! The messages between the daemon and its workers.

use std::fmt::Debug;

use host::worker_pool::protocol::{Outcome, Request, parse};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "worker",
    reads: "jobs and answers of worker processes",
    read,
    words: &[
        "{\"root\":\"/\",\"locks\":\"/\",\"job\":",
        "\"nothing\"",
        "{\"perform\":{\"step\":\"bind\"",
        "{\"observe\":",
        "{\"Ok\":",
        "{\"Err\":",
        "\"done\"",
        "{\"detail\":[",
        "{\"holders\":[",
        "{\"vf\":{",
        "{\"checked\":",
        "\"0000:01:00.0\"",
        "null",
        "\"address\":",
        "\"driver\":",
        ",",
        "}",
        "]",
    ],
    longest: 1 << 16,
};

fn read(bytes: &[u8]) -> Kind {
    if let Ok(request) = parse::<Request>(bytes) {
        again(&request);
        return Kind::of(request.job.describe());
    }
    match parse::<Outcome>(bytes) {
        Ok(Ok(answer)) => {
            again(&Outcome::Ok(answer.clone()));
            Kind::of(format!("{answer:?}"))
        }
        Ok(Err(error)) => Kind::of(error),
        Err(error) => Kind::of(error),
    }
}

fn again<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_vec(value).unwrap_or_default();
    assert_eq!(parse::<T>(&text).as_ref(), Ok(value));
}
