//! Which function calls which: every name must mean a function, and no call may come round again.

use super::PlanInput;
use crate::load::{Behaviour, Load, Name};
use template::yaml::{Problem, Problems};

/// The most functions that wait for one another.
pub const DEPTH_MAX: usize = 16;

/// Records a problem for each call of what is no function, for each that would never end, and for the first that is too
/// deep.
pub(super) fn check(input: &PlanInput, load: &Load, problems: &mut Problems) {
    for name in load.behaviour.iter().flat_map(Behaviour::calls) {
        input.function(name, problems);
    }
    let depths = vec![None; input.functions.len()];
    let mut walk = Walk { input, load, depths, way: Vec::new(), too_deep: false, problems };
    for behaviour in &load.behaviour {
        if let Some(function) = input.find(&behaviour.function.text) {
            walk.descend(function);
        }
    }
}

struct Walk<'check> {
    input: &'check PlanInput,
    load: &'check Load,
    /// Of each function how many wait for one another from it on, once that is known.
    depths: Vec<Option<usize>>,
    /// Who calls whom down to here.
    way: Vec<usize>,
    too_deep: bool,
    problems: &'check mut Problems,
}

impl Walk<'_> {
    /// How many functions wait for one another from this one on.
    fn descend(&mut self, function: usize) -> usize {
        if let Some(depth) = self.depths[function] {
            return depth;
        }
        self.way.push(function);
        let mut depth = 1;
        for (callee, name) in calls_of(self.input, self.load, function) {
            if let Some(at) = self.way.iter().position(|caller| *caller == callee) {
                let functions = self.way[at..].iter().chain([&callee]);
                let round: Vec<&str> =
                    functions.map(|function| &*self.input.functions[*function].id).collect();
                let message = format!("this call comes round and would never end: {}", round.join(" calls "));
                self.problems.push(Problem::at(name.span, message));
                continue;
            }
            // Not even looked at beyond the bound, which also bounds the depth of this very function.
            let below = if self.way.len() < DEPTH_MAX { self.descend(callee) } else { 1 };
            depth = depth.max(below + 1);
            if self.way.len() + below > DEPTH_MAX && !std::mem::replace(&mut self.too_deep, true) {
                let message = format!("more than {DEPTH_MAX} functions would wait for one another");
                self.problems.push(Problem::at(name.span, message));
            }
        }
        self.way.pop();
        self.depths[function] = Some(depth);
        depth
    }
}

fn calls_of<'load>(
    input: &PlanInput,
    load: &'load Load,
    function: usize,
) -> impl Iterator<Item = (usize, &'load Name)> {
    let of =
        load.behaviour.iter().filter(move |behaviour| input.find(&behaviour.function.text) == Some(function));
    of.flat_map(Behaviour::calls).filter_map(|name| Some((input.find(&name.text)?, name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::FunctionInput;
    use std::time::Duration;

    fn said(count: usize, calls: &[(usize, usize)]) -> Vec<String> {
        let function = |index: usize| FunctionInput {
            id: format!("F{index}"),
            name: format!("stack-F{index}"),
            reserved: None,
            timeout: Duration::from_secs(3),
            memory_mb: 128,
            init_always_billed: false,
        };
        let input = PlanInput { functions: (0..count).map(function).collect(), ..PlanInput::default() };
        let behaviour: Vec<String> = (0..count)
            .map(|caller| {
                let steps = calls.iter().filter(|(from, _)| *from == caller);
                let steps: Vec<String> =
                    steps.map(|(_, to)| format!("{{call: {{function: F{to}}}}}")).collect();
                format!("  F{caller}: {{steps: [{}]}}\n", steps.join(", "))
            })
            .collect();
        let text = format!(
            "version: 1\nphases: [{{target: F0, users: 1, requests: 1}}]\nbehaviour:\n{}",
            behaviour.concat()
        );
        let load = Load::read("l", &text).unwrap();
        let problems = input.check(&load).err().unwrap_or_default();
        problems.iter().map(|problem| problem.one_line("l")).collect()
    }

    #[test]
    fn calls_that_come_round_are_refused_and_others_are_not() {
        assert_eq!(said(3, &[(0, 1), (0, 1), (1, 2), (0, 2)]), [""; 0]);
        assert_eq!(
            said(3, &[(0, 1), (1, 2), (2, 1)]),
            ["l:6:34: this call comes round and would never end: F1 calls F2 calls F1"]
        );
        assert_eq!(said(1, &[(0, 0)]), ["l:4:34: this call comes round and would never end: F0 calls F0"]);
    }

    #[test]
    fn a_call_of_no_function_is_named_with_the_nearest() {
        let said = said(12, &[(0, 100)]);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with("l:4:34: the function `F100` does not exist (did you mean `F10`?)"),
            "{said:?}"
        );
    }

    #[test]
    fn chains_are_bounded() {
        let chain = |length: usize| -> Vec<(usize, usize)> { (1..length).map(|to| (to - 1, to)).collect() };
        assert_eq!(said(DEPTH_MAX, &chain(DEPTH_MAX)), [""; 0]);
        let long = said(DEPTH_MAX + 1, &chain(DEPTH_MAX + 1));
        assert!(long.len() == 1 && long[0].contains("more than 16 functions"), "{long:?}");
        assert!(!said(2000, &chain(2000)).is_empty());
        // Every function calls every later one, the last first, so that each is known when it is met again.
        let all: Vec<(usize, usize)> =
            (0..40).flat_map(|from| (from + 1..40).rev().map(move |to| (from, to))).collect();
        assert!(!said(40, &all).is_empty());
    }
}
