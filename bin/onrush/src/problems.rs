//! Problems of a file, shown with the lines that they are about.

use miette::{
    Diagnostic, LabeledSpan, MietteError, MietteSpanContents, Report, Severity, SourceCode, SourceSpan,
    SpanContents,
};
use std::fmt;
use template::app::{self, Part};
use template::{Problem, Related, Span};

/// Lines of more bytes than this are shown only around what is wrong in them: JSON as tools write it is one line.
const LINE_MAX: usize = 120;
/// So many bytes are shown on each side then.
const AROUND: usize = 40;
const _: () = assert!(2 * AROUND < LINE_MAX);

/// Prints problems to standard error, one after another, with source excerpts.
pub fn print(file_name: &str, text: &str, problems: &[Problem], severity: Severity) {
    for problem in problems {
        let (name, (text, problem)) = match app::part_at(text, problem.span.offset) {
            Some(part) => (part.file, in_its_part(&part, problem, text)),
            None => (file_name, (text, problem.clone())),
        };
        let shown = Shown { problem, severity };
        let source = Source { name: name.to_owned(), text: text.to_owned() };
        crate::say(&format!("{:?}", Report::new(shown).with_source_code(source)));
    }
}

/// A problem of one of several stacks as one of its own file: what belongs to it elsewhere is told in words.
fn in_its_part<'text>(part: &Part<'text>, problem: &Problem, whole: &str) -> (&'text str, Problem) {
    let moved = |span: Span| Span { offset: span.offset.saturating_sub(part.offset as u32), ..span };
    let mut found = Problem { span: moved(problem.span), related: Vec::new(), ..problem.clone() };
    for related in &problem.related {
        match app::part_at(whole, related.span.offset) {
            Some(other) if other.offset != part.offset => {
                let Span { line, column, .. } = related.span;
                let place = format!("{}:{line}:{column}: {}", other.file, related.label);
                found.help = Some(found.help.map_or(place.clone(), |help| format!("{help}; {place}")));
            }
            _ => found.related.push(Related { span: moved(related.span), ..related.clone() }),
        }
    }
    (part.text, found)
}

/// The name of the file that a problem is of, one of several stacks' or this.
pub fn file_of<'a>(file_name: &'a str, text: &'a str, problem: &Problem) -> &'a str {
    app::part_at(text, problem.span.offset).map_or(file_name, |part| part.file)
}

/// A problem with its file's name in a line.
pub fn one_line(file_name: &str, text: &str, problem: &Problem) -> String {
    problem.one_line(file_of(file_name, text, problem))
}

/// Prints a line to standard error for each kind of warning: the first of it, and how many more there are.
pub fn print_briefly(file_name: &str, text: &str, warnings: &[Problem]) {
    for line in brief_lines(file_name, text, warnings) {
        crate::say(&format!("warning: {line}"));
    }
}

/// Warnings are of one kind when they say the same before the names that follow on a colon. Of helps, those for slips are
/// told.
fn brief_lines(file_name: &str, text: &str, warnings: &[Problem]) -> Vec<String> {
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
        format!("{}{more}", one_line(file_name, text, &plain))
    };
    kinds.iter().map(line).collect()
}

/// A file of which long lines are shown in part.
#[derive(Debug)]
struct Source {
    name: String,
    text: String,
}

impl SourceCode for Source {
    /// # Errors
    /// The span is not in the text; or it is in a long line, and more than fits: several labels far from each other.
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let whole = self.text.read_span(span, before, after)?;
        let is_long = |line: &[u8]| line.len() > LINE_MAX;
        let named = |data: &'a [u8], shown: SourceSpan, line, column, lines| {
            Box::new(MietteSpanContents::new_named(self.name.clone(), data, shown, line, column, lines))
        };
        if before + after == 0 || !whole.data().split(|byte| *byte == b'\n').any(is_long) {
            return Ok(named(whole.data(), *whole.span(), whole.line(), whole.column(), whole.line_count()));
        }
        if span.len() > LINE_MAX {
            return Err(MietteError::OutOfBounds);
        }
        let at = self.text.read_span(span, 0, 0)?;
        let (start, end) = (span.offset(), span.offset() + span.len());
        let line_start = self.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.text[end..].find('\n').map_or(self.text.len(), |newline| end + newline);
        let boundary = |at: usize| (at..).find(|at| self.text.is_char_boundary(*at)).unwrap_or(at);
        let from = boundary(start.saturating_sub(AROUND).max(line_start));
        let to = boundary((end + AROUND).min(line_end));
        let column = self.text[line_start..from].chars().count();
        let shown = (from, to - from).into();
        Ok(named(&self.text.as_bytes()[from..to], shown, at.line(), column, at.line_count()))
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
            bounded(self.problem.span),
        );
        let related = self
            .problem
            .related
            .iter()
            .map(move |related| LabeledSpan::new_with_span(label(&related.label), bounded(related.span)));
        Some(Box::new(std::iter::once(own).chain(related)))
    }
}

/// Where something is, no longer than what is shown of a long line.
fn bounded(span: Span) -> (usize, usize) {
    (span.offset as usize, (span.len as usize).min(LINE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use template::yaml::Span;

    fn shown(text: &str, problem: Problem) -> String {
        let source = Source { name: "t.json".to_owned(), text: text.to_owned() };
        let report = Report::new(Shown { problem, severity: Severity::Error }).with_source_code(source);
        let mut out = String::new();
        let plain = miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::none());
        plain.render_report(&mut out, report.as_ref()).unwrap();
        out
    }

    fn span(text: &str, of: &str) -> Span {
        let offset = text.find(of).unwrap();
        let line = text[..offset].matches('\n').count() + 1;
        let column = text[..offset].chars().rev().take_while(|c| *c != '\n').count() + 1;
        Span { offset: offset as u32, len: of.len() as u32, line: line as u32, column: column as u32 }
    }

    #[test]
    fn of_a_long_line_only_what_is_around_the_problem_is_shown() {
        let filler = "é".repeat(5_000);
        let text = format!("{{\"a\": \"{filler}\", \"Timeot\": 3, \"b\": \"{filler}\", \"Timeout\": 4}}\n");
        let there = Problem::at(span(&text, "\"Timeot\""), "no such key".to_owned());
        for (problem, labels) in
            [(there.clone(), 1), (there.related(span(&text, "\"Timeout\""), "this one is".to_owned()), 2)]
        {
            let out = shown(&text, problem);
            assert!(out.contains("t.json:1:10011]"), "{out}");
            // miette counts columns in bytes.
            let lines: Vec<Vec<char>> = out.lines().map(|line| line.chars().collect()).collect();
            assert!(lines.iter().all(|line| line.len() < LINE_MAX + 20), "{out}");
            let pointed = |name: &str| {
                let at =
                    lines.iter().position(|line| line.iter().collect::<String>().contains(name)).unwrap();
                let column = lines[at].iter().collect::<String>().split(name).next().unwrap().chars().count();
                let mark: String = lines[at + 1].iter().skip(column).take(name.len()).collect();
                !mark.contains(' ') && lines[at + 1][column - 1] == ' '
            };
            assert!(pointed("\"Timeot\""), "{out}");
            assert!(labels == 1 || pointed("\"Timeout\""), "{out}");
        }
    }

    #[test]
    fn short_lines_are_shown_with_their_neighbours() {
        let text = "A: 1\nB: x\nC: 3\n";
        let out = shown(text, Problem::at(span(text, "x"), "not a number".to_owned()));
        assert!(["A: 1", "B: x", "C: 3", "t.json:2:4]"].iter().all(|part| out.contains(part)), "{out}");
    }

    #[test]
    fn warnings_of_one_kind_take_one_line() {
        let warning = |message: &str| Problem::at(Span::default(), message.to_owned());
        let lines = brief_lines(
            "t",
            "",
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
