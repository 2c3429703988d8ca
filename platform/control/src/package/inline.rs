//! Source text in a template, as the files that CloudFormation makes of it.

/// What inline code may be written in. Source: CloudFormation, AWS::Lambda::Function Code, `ZipFile`, published: Node and
/// Python only, the file is called `index`, Node's is `.js`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `nodejs*`.
    Node,
    /// `python*`.
    Python,
}

impl Language {
    /// Of a runtime; `None` where code cannot be inline.
    pub fn of_runtime(runtime: &str) -> Option<Self> {
        let languages = [("nodejs", Self::Node), ("python", Self::Python)];
        languages.into_iter().find_map(|(prefix, language)| runtime.starts_with(prefix).then_some(language))
    }

    /// Name and text of each file. Source: CloudFormation User Guide, "`cfn-response` module", published: it comes with
    /// inline code alone, and for Python with "this exact import statement" only. Where it lies is ours: Node finds it from
    /// everywhere below `/var/task`, and from ES modules, too.
    pub(super) fn files(self, text: &str) -> Vec<(&'static str, &str)> {
        let (index, module, is_loaded) = match self {
            Self::Node => (
                "index.js",
                ("node_modules/cfn-response.js", include_str!("inline/cfn-response.js")),
                text.contains("cfn-response"),
            ),
            Self::Python => (
                "index.py",
                ("cfnresponse.py", include_str!("inline/cfnresponse.py")),
                text.contains("import cfnresponse"),
            ),
        };
        let mut files = vec![(index, text)];
        files.extend(is_loaded.then_some(module));
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_for_custom_resources_comes_with_the_import_that_loads_it() {
        let names =
            |language: Language, text| language.files(text).iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let (node, python) = (Language::Node, Language::Python);
        assert_eq!(names(node, "exports.handler = async () => 1"), ["index.js"]);
        assert_eq!(
            names(node, "const r = require(\"cfn-response\")"),
            ["index.js", "node_modules/cfn-response.js"]
        );
        assert_eq!(names(python, "import json\nimport cfnresponse\n"), ["index.py", "cfnresponse.py"]);
        assert_eq!(names(python, "from cfnresponse import send"), ["index.py"]);
    }
}
