//! Edits as a unified diff, which `patch` applies.

use super::sheet::{Edit, patch};
use std::fmt::Write;

/// Lines around a change.
const CONTEXT: usize = 3;
/// Regions larger than this are shown as removed and added whole.
const CELLS_MAX: usize = 4_000_000;

/// The diff of `edits` to `old`; empty for none. Edits must not overlap.
pub fn unified(name: &str, old: &str, edits: &[Edit]) -> String {
    let lines: Vec<&str> = old.split_inclusive('\n').collect();
    let mut starts: Vec<usize> =
        lines.iter().scan(0, |at, line| Some(std::mem::replace(at, *at + line.len()))).collect();
    starts.push(old.len());
    // What stands behind a last line without newline belongs to that line.
    let last = if old.ends_with('\n') { lines.len() } else { lines.len().saturating_sub(1) };
    let line_of = |at: usize| starts.partition_point(|start| *start <= at).saturating_sub(1).min(last);
    let mut sorted: Vec<&Edit> = edits.iter().collect();
    sorted.sort_by_key(|edit| (edit.at.start, edit.at.end));
    let mut regions: Vec<(usize, usize, Vec<Edit>)> = Vec::new();
    for edit in sorted {
        let first = line_of(edit.at.start);
        let inserts_lines = edit.at.is_empty() && starts[first] == edit.at.start && edit.text.ends_with('\n');
        let end =
            if inserts_lines { first } else { line_of(edit.at.end.saturating_sub(1).max(edit.at.start)) + 1 };
        let end = end.min(lines.len());
        match regions.last_mut() {
            Some((_, last, inside)) if first <= *last + 2 * CONTEXT => {
                *last = end.max(*last);
                inside.push(edit.clone());
            }
            _ => regions.push((first, end, vec![edit.clone()])),
        }
    }
    let mut out = String::new();
    let mut moved = 0_isize;
    for (first, end, inside) in regions {
        let base = starts[first];
        let shifted: Vec<Edit> = inside
            .into_iter()
            .map(|edit| Edit { at: edit.at.start - base..edit.at.end - base, text: edit.text })
            .collect();
        let Some(new) = patch(&old[base..starts[end]], &shifted) else { continue };
        let new: Vec<&str> = new.split_inclusive('\n').collect();
        let (from, to) = (first.saturating_sub(CONTEXT), (end + CONTEXT).min(lines.len()));
        let (before, after) = (first - from, to - end);
        let (old_count, new_count) = (to - from, before + new.len() + after);
        if out.is_empty() {
            out = format!("--- {name}\n+++ {name}\n");
        }
        let new_from = from.saturating_add_signed(moved);
        writeln!(out, "@@ -{},{old_count} +{},{new_count} @@", from + 1, new_from + 1)
            .expect("writing into a string does not fail");
        moved += new.len() as isize - (end - first) as isize;
        let mut put = |sign: char, line: &str| {
            out.push(sign);
            out += line;
            if !line.ends_with('\n') {
                out += "\n\\ No newline at end of file\n";
            }
        };
        lines[from..first].iter().for_each(|line| put(' ', line));
        for (sign, line) in compare(&lines[first..end], &new) {
            put(sign, line);
        }
        lines[end..to].iter().for_each(|line| put(' ', line));
    }
    out
}

/// Lines that stay, go and come, by the longest common subsequence.
fn compare<'text>(old: &[&'text str], new: &[&'text str]) -> Vec<(char, &'text str)> {
    if old.len().saturating_mul(new.len()) > CELLS_MAX {
        return old.iter().map(|line| ('-', *line)).chain(new.iter().map(|line| ('+', *line))).collect();
    }
    let width = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut rows = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            rows.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]
        {
            rows.push(('-', old[i]));
            i += 1;
        } else {
            rows.push(('+', new[j]));
            j += 1;
        }
    }
    rows
}

/// Applies a diff without its two first lines, as the program `patch` does.
#[cfg(test)]
pub fn apply(old: &str, diff: &str) -> String {
    let lines: Vec<&str> = old.split_inclusive('\n').collect();
    let (mut at, mut out) = (0, String::new());
    for row in diff.split_inclusive('\n') {
        if let Some(head) = row.strip_prefix("@@ -") {
            let first: usize = head.split(',').next().unwrap().parse().unwrap();
            lines[at..first - 1].iter().for_each(|line| out += line);
            at = first - 1;
        } else if let Some(line) = row.strip_prefix('+') {
            out += line;
        } else if row.starts_with('\\') {
            out.pop();
        } else {
            if let Some(line) = row.strip_prefix(' ') {
                out += line;
            }
            at += 1;
        }
    }
    lines[at..].iter().for_each(|line| out += line);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn edit(at: std::ops::Range<usize>, text: &str) -> Edit {
        Edit { at, text: text.into() }
    }

    #[test]
    fn a_word_and_a_new_line_are_shown_with_their_surroundings() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\n";
        let diff = unified("t", old, &[edit(6..7, "D"), edit(24..24, "new\n")]);
        let wanted = "--- t\n+++ t\n@@ -1,7 +1,7 @@\n a\n b\n c\n-d\n+D\n e\n f\n g\n@@ -10,4 +10,5 @@\n j\n k\n l\n+new\n m\n";
        assert_eq!(diff, wanted);
        assert_eq!(unified("t", old, &[]), "");
        let end = unified("t", "a", &[edit(1..1, "\nb")]);
        assert!(end.contains("-a\n\\ No newline at end of file\n+a\n+b\n\\ No newline"), "{end}");
    }

    proptest! {
        #[test]
        fn a_diff_says_what_the_edits_do(
            lines in prop::collection::vec("[ab]{1,3}", 1..40),
            places in prop::collection::btree_map(0..100_usize, "[xy\n]{1,5}", 1..4),
        ) {
            let old = lines.join("\n") + "\n";
            let mut edits: Vec<Edit> = Vec::new();
            for (place, text) in places {
                let at = place * old.len() / 100;
                if at < old.len() - 1 && edits.last().is_none_or(|last: &Edit| last.at.end < at) {
                    edits.push(Edit { at: at..at, text });
                }
            }
            prop_assume!(!edits.is_empty());
            let new = patch(&old, &edits).unwrap();
            let diff = unified("t", &old, &edits);
            let hunks = diff.strip_prefix("--- t\n+++ t\n").unwrap();
            prop_assert_eq!(apply(&old, hunks), new);
        }
    }
}
