//! Whether a handler's module is where it says: told at the deployment, where AWS tells it at the first invocation.

use std::fs;
use std::path::Path;

use crate::{Request, Warning};

/// A handler's language, by how it names a module.
#[derive(Clone, Copy)]
pub(crate) enum Language {
    /// `folder.module.function`, or with slashes.
    Python,
    /// `folder/module.function`.
    Node,
}

/// A warning if the package has nothing that the handler's module could be. Layers may bring modules, too: with any, nothing
/// is said. The folder is listed once.
pub(crate) fn warning(request: &Request<'_>, language: Language) -> Option<Warning> {
    let Request { handler, code, known_as, layers: None, .. } = *request else { return None };
    let (module, ending) = match language {
        Language::Python => (handler.rsplit_once('.').map(|(module, _)| module.replace('.', "/")), "py"),
        Language::Node => {
            let name = handler.rfind('/').map_or(0, |slash| slash + 1);
            (handler[name..].find('.').map(|dot| handler[..name + dot].to_owned()), "js")
        }
    };
    let Some(module) = module else {
        return Some(format!("handler `{handler}` names no function: MODULE.FUNCTION is wanted"));
    };
    if module.split('/').any(|part| part == "..") {
        return None;
    }
    let wanted = code.join(module.trim_start_matches('/'));
    let (folder, stem) = (wanted.parent()?, wanted.file_name()?.to_str()?);
    // A module may be source, compiled, native, or a folder, but no source of the other language.
    let foreign: &[&str] = match language {
        Language::Python => &[".js", ".mjs", ".cjs"],
        Language::Node => &[".py"],
    };
    let is_it = |name: &str| {
        let rest = name.strip_prefix(stem);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') && !foreign.contains(&rest))
    };
    // What cannot be listed is not judged, but for a folder that is not there.
    let names: Vec<_> = match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(_) => return None,
    };
    if names.iter().any(|name| is_it(name)) {
        return None;
    }
    // Code in the template itself is always called `index`.
    let index = format!("index.{ending}");
    let hint = if names.contains(&index) { format!(", but {index}") } else { String::new() };
    let place = known_as.map_or("the function's package".into(), Path::to_string_lossy);
    Some(format!(
        "handler `{handler}`: there is no {module}.{ending} in {place}{hint}; invocations will fail with Runtime.ImportModuleError"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: &Path, handler: &str, language: Language) -> Option<Warning> {
        warning(
            &Request {
                runtime: "",
                handler,
                code,
                known_as: Some(code),
                layers: None,
                memory_mb: 128,
                node_options: None,
                exec_wrapper: None,
            },
            language,
        )
    }

    #[test]
    fn a_module_that_is_there_in_any_form_is_not_missed() {
        let code = tempfile::tempdir().unwrap();
        for folder in ["pkg/sub", "whole"] {
            fs::create_dir_all(code.path().join(folder)).unwrap();
        }
        for file in
            ["app.py", "native.cpython-313-x86_64-linux-gnu.so", "pkg/sub/deep.pyc", "index.mjs", "pkg/a.cjs"]
        {
            fs::write(code.path().join(file), "").unwrap();
        }
        for handler in ["app.h", "native.h", "pkg.sub.deep.h", "pkg/sub/deep.h", "whole.h"] {
            assert_eq!(said(code.path(), handler, Language::Python), None, "{handler}");
        }
        for handler in ["index.handler", "pkg/a.handler", "index.nested.handler", "./pkg/a.h", "native.h"] {
            assert_eq!(said(code.path(), handler, Language::Node), None, "{handler}");
        }
    }

    #[test]
    fn a_module_that_is_not_there_is_named() {
        let code = tempfile::tempdir().unwrap();
        fs::write(code.path().join("app.py"), "").unwrap();
        let missing = said(code.path(), "apps.main.h", Language::Python).unwrap();
        assert!(
            missing.contains("there is no apps/main.py in ") && missing.contains("ImportModuleError"),
            "{missing}"
        );
        fs::write(code.path().join("index.mjs"), "").unwrap();
        assert!(said(code.path(), "ap.h", Language::Node).unwrap().contains("there is no ap.js in "));
        fs::write(code.path().join("index.js"), "").unwrap();
        let inline = said(code.path(), "lambda.handler", Language::Node).unwrap();
        assert!(
            inline.contains("there is no lambda.js in ") && inline.contains(", but index.js;"),
            "{inline}"
        );
        assert!(said(code.path(), "app.h", Language::Node).unwrap().contains("there is no app.js in "));
        assert!(said(code.path(), "index.h", Language::Python).unwrap().contains("there is no index.py in "));
        for language in [Language::Python, Language::Node] {
            assert!(said(code.path(), "app", language).unwrap().contains("MODULE.FUNCTION"));
        }
        let layers = Some(code.path());
        let request = Request {
            runtime: "",
            handler: "x.h",
            code: code.path(),
            known_as: None,
            layers,
            memory_mb: 128,
            node_options: None,
            exec_wrapper: None,
        };
        assert_eq!(warning(&request, Language::Python), None, "a layer may bring it");
    }
}
