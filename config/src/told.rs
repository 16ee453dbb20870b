//! An error as people are told it, on one line.

use std::error::Error;

/// The error's text, and those of its causes that are not part of it already: an error may say what
/// its cause says, or leave that to whoever prints it. For the `main` of a program.
pub fn told(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConfigError;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("the agent cannot start")]
    struct Silent(#[source] ConfigError);

    #[test]
    fn every_cause_is_told_once() {
        let error = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let config = ConfigError::Unreadable { file: "a.toml".into(), error };
        assert_eq!(told(&config), "a.toml: cannot be read: no such file");
        assert_eq!(told(&Silent(config)), "the agent cannot start: a.toml: cannot be read: no such file");
    }
}
