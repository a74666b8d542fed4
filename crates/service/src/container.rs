//! What an instance runs of a container image: checks the fields of requests.

use api::{CreateInstance, StartInstance};
use model::{ContainerRun, Refusal};

use crate::refusals::invalid;

/// The most words of a command, and of variables.
const MOST_WORDS: usize = 1024;
/// The most bytes of all words and variables together: the disk that tells them to the guest has room for that.
const MOST_BYTES: usize = 512 << 10;

/// What a new instance is to run.
///
/// # Errors
/// `invalid_request` if a word or variable cannot be one.
pub fn wanted(request: &CreateInstance) -> Result<ContainerRun, Refusal> {
    let run = ContainerRun {
        entrypoint: some(request.entrypoint.clone()),
        cmd: some(request.cmd.clone()),
        env: request.env.clone().unwrap_or_default(),
        user: request.user.clone().filter(|user| !user.is_empty()),
        working_dir: request.working_dir.clone().filter(|dir| !dir.is_empty()),
        hostname: None,
        kernel: request.kernel.clone().filter(|name| !name.is_empty()),
    };
    check(&run)?;
    Ok(run)
}

/// What a stopped instance is to run from now on; `None`: as before.
///
/// # Errors
/// As [`wanted`].
pub fn change(request: StartInstance) -> Result<Option<ContainerRun>, Refusal> {
    let StartInstance { cmd, entrypoint } = request;
    let run =
        ContainerRun { entrypoint: some(entrypoint), cmd: some(cmd), ..ContainerRun::default() };
    check(&run)?;
    Ok((run != ContainerRun::default()).then_some(run))
}

/// The fields of a request that make the same.
pub fn shown(run: Option<&ContainerRun>) -> CreateInstance {
    let run = run.cloned().unwrap_or_default();
    CreateInstance {
        env: (!run.env.is_empty()).then_some(run.env),
        cmd: run.cmd,
        entrypoint: run.entrypoint,
        user: run.user,
        working_dir: run.working_dir,
        hostname: run.hostname,
        kernel: run.kernel,
        ..CreateInstance::default()
    }
}

/// hypeman's clients send empty lists for what is left out.
fn some(words: Option<Vec<String>>) -> Option<Vec<String>> {
    words.filter(|words| !words.is_empty())
}

fn check(run: &ContainerRun) -> Result<(), Refusal> {
    let words = run.entrypoint.iter().chain(&run.cmd).flatten();
    let words: Vec<&String> = words.chain(&run.user).chain(&run.working_dir).collect();
    if words.len() > MOST_WORDS || words.iter().any(|word| word.contains('\0')) {
        return Err(invalid(
            format!("the command has more than {MOST_WORDS} words, or one of them has a zero byte"),
            "put what is long into a file of the image or a volume",
        ));
    }
    let is_name = |name: &str| !name.is_empty() && !name.contains(['=', '\0']);
    let wrong = run.env.iter().find(|(name, value)| !is_name(name) || value.contains('\0'));
    if let Some((name, _)) = wrong {
        return Err(invalid(
            format!("the variable {name:?} has an empty name, a `=` in its name, or a zero byte"),
            "give each variable as a name and a value",
        ));
    }
    let variables = run.env.iter().map(|(name, value)| name.len() + value.len());
    let bytes: usize = words.iter().map(|word| word.len()).chain(variables).sum();
    if run.env.len() > MOST_WORDS || bytes > MOST_BYTES {
        return Err(invalid(
            format!(
                "there are more than {MOST_WORDS} variables, or command and variables have more than {} together",
                model::shown::bytes(MOST_BYTES as u64)
            ),
            "put what is long into a file of the image or a volume",
        ));
    }
    if let Some(dir) = run.working_dir.as_ref().filter(|dir| !dir.starts_with('/')) {
        return Err(invalid(
            format!("the working directory {dir:?} is not an absolute path"),
            "begin it with `/`",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn empty_fields_are_as_the_image_says() {
        let request = CreateInstance {
            cmd: words(&[]),
            user: Some(String::new()),
            ..CreateInstance::default()
        };
        assert_eq!(wanted(&request).unwrap(), ContainerRun::default());
        assert_eq!(change(StartInstance::default()).unwrap(), None);
        let run = change(StartInstance { cmd: words(&["true"]), entrypoint: None }).unwrap();
        assert_eq!(run.unwrap().cmd, words(&["true"]));
    }

    #[test]
    fn what_no_process_can_have_is_refused() {
        let refused = |request: CreateInstance| wanted(&request).is_err();
        let base = CreateInstance::default;
        assert!(refused(CreateInstance { cmd: words(&["a\0"]), ..base() }));
        assert!(refused(CreateInstance { working_dir: Some("srv".into()), ..base() }));
        for name in ["", "A=B", "A\0"] {
            let env = Some([(name.to_owned(), "1".to_owned())].into());
            assert!(refused(CreateInstance { env, ..base() }), "{name:?}");
        }
        let long = Some([("A".to_owned(), "x".repeat(MOST_BYTES))].into());
        assert!(refused(CreateInstance { env: long, ..base() }));
        assert!(!refused(CreateInstance { entrypoint: words(&["/bin/sh", ""]), ..base() }));
    }
}
