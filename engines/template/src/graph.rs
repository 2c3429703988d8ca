//! Order of dependence, and circles.

/// What an order of dependence may look like.
pub(crate) struct Order {
    /// Every node that is in no circle and depends on none, dependencies first.
    pub(crate) sorted: Vec<usize>,
    /// Each circle as the nodes along it, without repeating the first.
    pub(crate) circles: Vec<Vec<usize>>,
}

/// Sorts nodes `0..edges.len()`; `edges[n]` are the nodes on which `n` depends. Cost: nodes + edges. Not recursive, so
/// that a chain of any length is fine.
pub(crate) fn sort(edges: &[Vec<usize>]) -> Order {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; edges.len()];
    let mut spoiled = vec![false; edges.len()];
    let mut order = Order { sorted: Vec::with_capacity(edges.len()), circles: Vec::new() };
    for start in 0..edges.len() {
        if marks[start] != Mark::New {
            continue;
        }
        marks[start] = Mark::Open;
        // A node and how many of its edges were followed.
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((node, followed)) = path.last_mut() {
            let node = *node;
            let Some(next) = edges[node].get(*followed).copied() else {
                marks[node] = Mark::Done;
                path.pop();
                if !spoiled[node] {
                    order.sorted.push(node);
                } else if let Some((parent, _)) = path.last() {
                    spoiled[*parent] = true;
                }
                continue;
            };
            *followed += 1;
            match marks[next] {
                Mark::New => {
                    marks[next] = Mark::Open;
                    path.push((next, 0));
                }
                Mark::Open => {
                    let from = path.iter().position(|(node, _)| *node == next).unwrap_or(0);
                    order.circles.push(path[from..].iter().map(|(node, _)| *node).collect());
                    spoiled[node] = true;
                }
                Mark::Done => spoiled[node] |= spoiled[next],
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first() {
        let order = sort(&[vec![2], vec![0, 2], vec![]]);
        assert_eq!(order.sorted, [2, 0, 1]);
        assert!(order.circles.is_empty());
    }

    #[test]
    fn circles_are_told_and_what_needs_them_is_left_out() {
        // 0 -> 1 -> 2 -> 1, 3 -> 3, 4 alone, 5 -> 0.
        let order = sort(&[vec![1], vec![2], vec![1], vec![3], vec![], vec![0]]);
        assert_eq!(order.circles, [vec![1, 2], vec![3]]);
        assert_eq!(order.sorted, [4]);
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let edges: Vec<Vec<usize>> =
            (0..200_000_usize).map(|n| n.checked_sub(1).into_iter().collect()).collect();
        let reversed: Vec<Vec<usize>> =
            (0..200_000_usize).map(|n| if n + 1 < 200_000 { vec![n + 1] } else { vec![] }).collect();
        assert_eq!(sort(&edges).sorted.len(), 200_000);
        assert_eq!(sort(&reversed).sorted[0], 199_999);
    }
}
