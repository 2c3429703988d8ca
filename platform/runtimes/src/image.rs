//! Container images: the image itself says which program runs, and with which variables.

use crate::runtime::{TRUST, TRUST_VARIABLES};
use crate::{Launch, RuntimeError, Runtimes};

/// What a container gets that says nothing of `PATH`, as Docker has it.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image says of its program, with the function's own settings in place of it.
#[derive(Debug, Clone, Copy)]
pub struct ImageProgram<'a> {
    /// ENTRYPOINT.
    pub entry_point: &'a [String],
    /// CMD, which follows it.
    pub command: &'a [String],
    /// ENV.
    pub environment: &'a [(String, String)],
}

impl Runtimes {
    /// How a container image is started.
    ///
    /// The variables that name the roots to trust win over the image's own: many base images set `SSL_CERT_FILE` to a bundle
    /// that does not know this platform's authority. The function's own variables win over both.
    ///
    /// # Errors
    /// [`RuntimeError::InvalidEntrypoint`] when there is nothing to run.
    pub fn image(&self, image: &ImageProgram<'_>) -> Result<Launch, RuntimeError> {
        let program: Vec<String> = image.entry_point.iter().chain(image.command).cloned().collect();
        if program.first().is_none_or(String::is_empty) {
            return Err(RuntimeError::InvalidEntrypoint {
                looked_at: Vec::new(),
                hint: "the image has neither ENTRYPOINT nor CMD: set one in the Dockerfile, or ImageConfig in the template"
                    .to_owned(),
            });
        }
        let mut environment = image.environment.to_vec();
        let mut binds = Vec::new();
        if let Some(bundle) = &self.trust {
            binds.push((bundle.clone(), TRUST.to_owned()));
            environment.extend(TRUST_VARIABLES.map(|name| (name.to_owned(), TRUST.to_owned())));
        }
        Ok(Launch { program, binds, environment, warnings: Vec::new(), code_warnings: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_point_and_command_make_the_program_and_our_roots_are_trusted() {
        let runtimes = Runtimes::open("/nowhere".as_ref(), false).trusting("/ca.pem".into());
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (entry_point, command) = (list(&["/run"]), list(&["app.handler"]));
        let own =
            [("SSL_CERT_FILE".to_owned(), "/etc/ssl/own.pem".to_owned()), ("A".to_owned(), "b".to_owned())];
        let image = ImageProgram { entry_point: &entry_point, command: &command, environment: &own };
        let launch = runtimes.image(&image).unwrap();
        assert_eq!(launch.program, ["/run", "app.handler"]);
        let last = launch.environment.iter().rev().find(|(name, _)| name == "SSL_CERT_FILE").unwrap();
        assert_eq!((last.1.as_str(), launch.binds.len()), (TRUST, 1));
        let nothing = ImageProgram { entry_point: &[], command: &[], environment: &[] };
        assert_eq!(runtimes.image(&nothing).unwrap_err().error_type(), "Runtime.InvalidEntrypoint");
    }
}
