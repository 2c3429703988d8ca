//! Paths of APIs: which route or method a request is for.
//!
//! Source: API Gateway Developer Guide, "Working with routes for HTTP APIs" (a full match, then a greedy path variable, then
//! `$default`) and "Set up a proxy resource" (REST: of each part of the path the literal word, then a variable, then the
//! greedy one; the resource first, then its method).

use crate::event;
use model::stack::ApiRoute;
use std::collections::BTreeMap;

/// What a path's variables stand for.
pub(crate) type Parameters = BTreeMap<String, String>;

/// The routes of an API, the most specific first.
#[derive(Debug)]
pub(crate) struct Routes(Vec<Pattern>);

/// A route, taken apart.
#[derive(Debug)]
struct Pattern {
    segments: Vec<Segment>,
    route: ApiRoute,
    /// Its place in the template's order.
    index: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Word(String),
    Variable(String),
    Greedy(String),
}

/// A route that was found.
#[derive(Debug)]
pub(crate) struct Found<'a> {
    pub(crate) route: &'a ApiRoute,
    pub(crate) index: usize,
    pub(crate) parameters: Parameters,
}

/// What the resources of a REST API say to a request.
#[derive(Debug)]
pub(crate) enum Resource<'a> {
    /// A method of a resource.
    Method(Found<'a>),
    /// A resource without that method: the methods that it has.
    Other(Vec<&'a str>),
    /// There is none.
    None,
}

impl Routes {
    /// Routes of an HTTP API.
    pub(crate) fn of_http(routes: &[ApiRoute]) -> Self {
        Self::sorted(routes, Pattern::rank)
    }

    /// Methods of a REST API.
    pub(crate) fn of_rest(routes: &[ApiRoute]) -> Self {
        Self::sorted(routes, |pattern| {
            (pattern.kinds(), pattern.route.path.clone(), pattern.route.method == "ANY")
        })
    }

    fn sorted<K: Ord>(routes: &[ApiRoute], rank: impl Fn(&Pattern) -> K) -> Self {
        let patterns = routes.iter().cloned().enumerate();
        let mut patterns: Vec<_> = patterns.map(|(index, route)| Pattern::new(index, route)).collect();
        patterns.sort_by_cached_key(rank);
        Self(patterns)
    }

    /// The route of an HTTP API that a request is for.
    pub(crate) fn find(&self, method: &str, path: &str) -> Option<Found<'_>> {
        let segments = segments(path);
        self.0.iter().find_map(|pattern| {
            if !pattern.is_default() && !pattern.takes(method) {
                return None;
            }
            pattern.found(&segments)
        })
    }

    /// What the resources of a REST API say to a request.
    pub(crate) fn resource(&self, method: &str, path: &str) -> Resource<'_> {
        let segments = segments(path);
        let Some(at) = self.0.iter().position(|pattern| pattern.matches(&segments).is_some()) else {
            return Resource::None;
        };
        let path = &self.0[at].route.path;
        let same = self.0[at..].iter().take_while(|pattern| pattern.route.path == *path);
        // Of two methods the exact one stands before `ANY`.
        match same.clone().find(|pattern| pattern.takes(method)).and_then(|pattern| pattern.found(&segments))
        {
            Some(found) => Resource::Method(found),
            None => Resource::Other(same.map(|pattern| pattern.route.method.as_str()).collect()),
        }
    }
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

/// The one spelling of all paths that lead where this one does: without empty segments, and decoded.
pub(crate) fn canonical(path: &str) -> String {
    let decoded: Vec<_> = segments(path).into_iter().map(|segment| event::decode(segment, false)).collect();
    format!("/{}", decoded.join("/"))
}

impl Pattern {
    fn new(index: usize, route: ApiRoute) -> Self {
        let words = route.path.split('/').filter(|word| !word.is_empty());
        let segments = words.map(|word| {
            let name = word.strip_prefix('{').and_then(|word| word.strip_suffix('}'));
            match name {
                Some(name) => match name.strip_suffix('+') {
                    Some(name) => Segment::Greedy(name.to_owned()),
                    None => Segment::Variable(name.to_owned()),
                },
                None => Segment::Word(word.to_owned()),
            }
        });
        Self { segments: segments.collect(), route, index }
    }

    /// Lower is tried first: full matches before greedy ones, literal words before variables, a method before `ANY`,
    /// `$default` last.
    fn rank(&self) -> (bool, bool, Vec<u8>, bool) {
        let greedy = self.segments.iter().any(|segment| matches!(segment, Segment::Greedy(_)));
        (self.is_default(), greedy, self.kinds(), self.route.method == "ANY")
    }

    fn kinds(&self) -> Vec<u8> {
        let kind = |segment: &Segment| match segment {
            Segment::Word(_) => 0,
            Segment::Variable(_) => 1,
            Segment::Greedy(_) => 2,
        };
        self.segments.iter().map(kind).collect()
    }

    fn is_default(&self) -> bool {
        self.route.route_key == "$default"
    }

    fn takes(&self, method: &str) -> bool {
        self.route.method == "ANY" || self.route.method == method
    }

    fn found(&self, path: &[&str]) -> Option<Found<'_>> {
        Some(Found { parameters: self.matches(path)?, route: &self.route, index: self.index })
    }

    fn matches(&self, path: &[&str]) -> Option<Parameters> {
        let mut parameters = Parameters::new();
        if self.is_default() {
            return Some(parameters);
        }
        let mut rest = path;
        for segment in &self.segments {
            let (first, after) = rest.split_first()?;
            match segment {
                Segment::Word(word) if word == first => {}
                Segment::Word(_) => return None,
                Segment::Variable(name) => {
                    parameters.insert(name.clone(), event::decode(first, false));
                }
                Segment::Greedy(name) => {
                    parameters.insert(name.clone(), event::decode(&rest.join("/"), false));
                    return Some(parameters);
                }
            }
            rest = after;
        }
        rest.is_empty().then_some(parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::samples::routes;

    #[test]
    fn the_most_specific_route_wins() {
        let routes = Routes::of_http(&routes(&[
            "$default",
            "ANY /{proxy+}",
            "GET /cart/{id}",
            "ANY /cart/{id}",
            "GET /cart/new",
            "GET /",
            "ANY /x/{proxy+}",
            "GET /{a}/{b}",
        ]));
        for (method, path, key) in [
            ("GET", "/cart/new", "GET /cart/new"),
            ("GET", "/cart/7", "GET /cart/{id}"),
            ("PUT", "/cart/7", "ANY /cart/{id}"),
            ("PUT", "/a/b", "ANY /{proxy+}"),
            ("GET", "/x/y", "GET /{a}/{b}"),
            ("GET", "/", "GET /"),
            ("PUT", "/", "$default"),
        ] {
            assert_eq!(routes.find(method, path).unwrap().route.route_key, key, "{method} {path}");
        }
        assert_eq!(routes.find("GET", "/cart/a%20b").unwrap().parameters["id"], "a b");
        assert_eq!(routes.find("GET", "/q/y/z").unwrap().parameters["proxy"], "q/y/z");
        assert_eq!(routes.find("GET", "/cart/new").unwrap().index, 4);
    }

    #[test]
    fn spellings_of_a_path_are_one() {
        for path in ["/cart/7", "//cart/7", "/cart//7", "/cart/7/", "/cart/%37", "/%63art/7//"] {
            assert_eq!(canonical(path), "/cart/7", "{path}");
        }
        assert_eq!((canonical("/"), canonical("//")), ("/".to_owned(), "/".to_owned()));
        assert_eq!(canonical("/a%2537"), "/a%37", "decoded once");
    }

    #[test]
    fn a_resource_is_chosen_before_its_method() {
        let routes = Routes::of_rest(&routes(&[
            "ANY /{proxy+}",
            "GET /cart/{id}",
            "ANY /cart/{id}/items",
            "POST /cart/{id}/items",
            "GET /x/{proxy+}",
            "GET /{a}/{b}",
            "GET /",
        ]));
        let key = |method: &str, path: &str| match routes.resource(method, path) {
            Resource::Method(found) => found.route.route_key.clone(),
            Resource::Other(methods) => format!("has {}", methods.join(" ")),
            Resource::None => "none".to_owned(),
        };
        assert_eq!(key("GET", "/cart/7"), "GET /cart/{id}");
        assert_eq!(key("PUT", "/cart/7"), "has GET", "the greedy resource does not step in");
        assert_eq!(key("POST", "/cart/7/items"), "POST /cart/{id}/items");
        assert_eq!(key("PUT", "/cart/7/items"), "ANY /cart/{id}/items");
        assert_eq!(key("GET", "/x/y"), "GET /x/{proxy+}");
        assert_eq!(key("GET", "/y/z"), "GET /{a}/{b}");
        assert_eq!(key("PUT", "/q/r/s/t"), "ANY /{proxy+}");
        assert_eq!(key("GET", "/"), "GET /");
        assert_eq!(key("PUT", "/"), "has GET");
    }
}
