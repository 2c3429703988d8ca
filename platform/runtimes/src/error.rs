//! What can go wrong between a runtime identifier and a program that runs.

use std::{io, path::PathBuf, process::ExitStatus};

/// Why a function has no program to run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Neither the code nor a layer holds an executable `bootstrap`. AWS words it so on the first invocation.
    #[error("Couldn't find valid bootstrap(s): [{}]", .looked_at.join(" "))]
    InvalidEntrypoint {
        /// The paths inside the sandbox that were tried, in order.
        looked_at: Vec<String>,
        /// What is wrong with the first of them and how to cure it, for the log.
        hint: String,
    },
    /// AWS has this runtime, Onrush does not run it.
    #[error("runtime {runtime} is not run by Onrush: {way_out}")]
    Refused {
        /// The identifier asked for.
        runtime: String,
        /// What to do instead.
        way_out: &'static str,
    },
    /// Not an identifier that AWS knows.
    #[error(
        "{runtime} is not a Lambda runtime; Onrush runs provided.al2, provided.al2023, python3.N and nodejsN.x"
    )]
    Unknown {
        /// The identifier asked for.
        runtime: String,
    },
    /// No interpreter of this language is installed.
    #[error("no {language} is installed for runtime {runtime}; looked in {}", .looked_in.join(", "))]
    NoInterpreter {
        /// The identifier asked for.
        runtime: String,
        /// `python` or `node`.
        language: &'static str,
        /// The places searched.
        looked_in: Vec<String>,
    },
    /// The exact version is absent, and strictness forbids the nearest.
    #[error("runtime {runtime} needs {wanted}, but the nearest installed is {nearest} (strict runtimes)")]
    NotExact {
        /// The identifier asked for.
        runtime: String,
        /// The version it stands for, such as `Python 3.14`.
        wanted: String,
        /// What is installed, such as `Python 3.13.0`.
        nearest: String,
    },
    /// A managed runtime needs a handler and none is set.
    #[error("runtime {runtime} needs a handler such as {example}")]
    NoHandler {
        /// The identifier asked for.
        runtime: String,
        /// A handler in the language's form.
        example: &'static str,
    },
    /// The data directory could not be read or written.
    #[error("{}: {source}", .path.display())]
    Files {
        /// The file or folder acted on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RuntimeError {
    /// The `errorType` that the caller of an invocation sees.
    pub fn error_type(&self) -> &'static str {
        match self {
            RuntimeError::InvalidEntrypoint { .. } => "Runtime.InvalidEntrypoint",
            _ => "Runtime.Unknown",
        }
    }

    /// What the user can do about it, where that is not said already.
    pub fn cure(&self) -> Option<&'static str> {
        match self {
            RuntimeError::NotExact { .. } => Some(
                "install that version (any of pyenv, nvm, mise, asdf will do), or leave --strict-runtimes out",
            ),
            RuntimeError::NoInterpreter { .. } => {
                Some("install it, or build the function as a container image (PackageType: Image)")
            }
            _ => None,
        }
    }

    /// The body of an invocation that failed for this reason, worded as AWS's: `{"errorType":…,"errorMessage":
    /// "RequestId: ID Error: …"}` (shape as recorded on AWS).
    pub fn invoke_body(&self, request_id: &str) -> String {
        serde_json::json!({
            "errorType": self.error_type(),
            "errorMessage": format!("RequestId: {request_id} Error: {self}"),
        })
        .to_string()
    }
}

/// Why a Rust function could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no `Cargo.toml` in the code folder.
    #[error("no Cargo.toml in {}; CodeUri must name the folder of the Rust package", .folder.display())]
    NoManifest {
        /// The folder looked at.
        folder: PathBuf,
    },
    /// `cargo` is not installed.
    #[error(
        "cargo is not on PATH, and {} needs building: install Rust from https://rustup.rs, or point CodeUri at a folder that holds a built bootstrap",
        .folder.display()
    )]
    NoCargo {
        /// The package that needs building.
        folder: PathBuf,
    },
    /// The package makes no binary of the name that was asked for, or several with none to prefer.
    #[error("{} makes {} binaries ({}); a function needs exactly one, one named bootstrap, or in the template Metadata: {{BuildProperties: {{Binary: NAME}}}}", .manifest.display(), .names.len(), .names.join(", "))]
    Binaries {
        /// The manifest read.
        manifest: PathBuf,
        /// The binaries it declares.
        names: Vec<String>,
    },
    /// cargo failed; its last lines tell why.
    #[error("cargo build of {} failed ({status}):\n{}", .folder.display(), .last_lines.join("\n"))]
    Cargo {
        /// The package built.
        folder: PathBuf,
        /// How cargo ended.
        status: ExitStatus,
        /// The end of what it printed.
        last_lines: Vec<String>,
    },
    /// `cargo metadata` answered with something else than JSON of its format 1.
    #[error("cargo metadata of {} could not be read", .manifest.display())]
    Metadata {
        /// The manifest asked about.
        manifest: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    Files {
        /// The file or folder acted on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
