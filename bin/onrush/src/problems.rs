//! Problems of a file, shown with the lines that they are about.

use miette::{Diagnostic, LabeledSpan, NamedSource, Report, Severity};
use std::fmt;
use template::Problem;

/// Prints problems to standard error, one after another, with source excerpts.
pub fn print(file_name: &str, text: &str, problems: &[Problem], severity: Severity) {
    for problem in problems {
        let shown = Shown { problem: problem.clone(), severity };
        let source = NamedSource::new(file_name, text.to_owned());
        crate::say(&format!("{:?}", Report::new(shown).with_source_code(source)));
    }
}

/// Prints a line to standard error for each kind of warning: the first of it, and how many more there are.
pub fn print_briefly(file_name: &str, warnings: &[Problem]) {
    for line in brief_lines(file_name, warnings) {
        crate::say(&format!("warning: {line}"));
    }
}

/// Warnings are of one kind when they say the same before the names that follow on a colon. Of helps, those for slips are
/// told.
fn brief_lines(file_name: &str, warnings: &[Problem]) -> Vec<String> {
    let mut kinds: Vec<(String, &Problem, usize)> = Vec::new();
    for warning in warnings {
        let message = warning.message();
        let kind = message.split(": ").next().unwrap_or_default();
        match kinds.iter_mut().find(|(known, ..)| *known == kind) {
            Some((.., count)) => *count += 1,
            None => kinds.push((kind.to_owned(), warning, 1)),
        }
    }
    let line = |(_, first, count): &(String, &Problem, usize)| {
        let more = if *count > 1 { format!(" (and {} more of this kind)", count - 1) } else { String::new() };
        let slip = first.help.clone().filter(|help| help.starts_with("did you mean"));
        let plain = Problem { help: slip, ..(*first).clone() };
        format!("{}{more}", plain.one_line(file_name))
    };
    kinds.iter().map(line).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use template::yaml::Span;

    #[test]
    fn warnings_of_one_kind_take_one_line() {
        let warning = |message: &str| Problem::at(Span::default(), message.to_owned());
        let lines = brief_lines(
            "t",
            &[
                warning("the event type `SQS` is not run: A does not get its events").help("HttpApi is run"),
                warning("AWS::SQS::Queue is not run: Orders"),
                warning("the event type `SQS` is not run: B does not get its events"),
                warning("a function has no property `Timout`").help("did you mean `Timeout`?"),
            ],
        );
        let ends = [
            "A does not get its events (and 1 more of this kind)",
            "AWS::SQS::Queue is not run: Orders",
            "no property `Timout` (did you mean `Timeout`?)",
        ];
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().zip(ends).all(|(line, end)| line.ends_with(end)), "{lines:?}");
    }
}
