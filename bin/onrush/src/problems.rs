//! Problems of a file, shown with the lines that they are about.

use miette::{Diagnostic, LabeledSpan, NamedSource, Report, Severity};
use std::fmt;
use template::Problem;

/// Prints problems to standard error, one after another, with source excerpts.
pub fn print(file_name: &str, text: &str, problems: &[Problem], severity: Severity) {
    for problem in problems {
        let shown = Shown { problem: problem.clone(), severity };
        let source = NamedSource::new(file_name, text.to_owned());
        eprintln!("{:?}", Report::new(shown).with_source_code(source));
    }
}

/// A problem as miette sees it.
#[derive(Debug)]
struct Shown {
    problem: Problem,
    severity: Severity,
}

impl fmt::Display for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.problem.cause)
    }
}

impl std::error::Error for Shown {}

impl Diagnostic for Shown {
    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let own = LabeledSpan::new_primary_with_span(
            Some(label(&self.problem.label).unwrap_or_else(|| "here".to_owned())),
            (self.problem.span.offset as usize, self.problem.span.len as usize),
        );
        let related = self.problem.related.iter().map(move |related| {
            LabeledSpan::new_with_span(
                label(&related.label),
                (related.span.offset as usize, related.span.len as usize),
            )
        });
        Some(Box::new(std::iter::once(own).chain(related)))
    }
}
