//! Stages, and what tells entries of a cache apart.

use super::*;
use crate::gateway::{ApiParts, samples};
use model::stack::{EndpointType, Place};
use std::sync::Arc;

fn api(stages: &[&str]) -> Arc<Api> {
    let rest = RestApi {
        id: "Api".into(),
        place: Place::default(),
        name: "api".into(),
        api_id: "abc".into(),
        endpoint_type: EndpointType::Edge,
        url: String::new(),
        routes: Vec::new(),
        stages: samples::stages(stages),
        api_key_source: "HEADER".into(),
        binary_media_types: Vec::new(),
        cors: None,
        authorizers: Vec::new(),
    };
    samples::apis(ApiParts { rest_apis: vec![rest], ..ApiParts::default() }).rest[0].clone()
}

#[test]
fn the_first_segment_is_the_stage() {
    let api = api(&["Prod", "v1"]);
    let stage = |path: &'static str| api.stage(path).map(|(stage, rest)| (stage.unwrap().name.clone(), rest));
    assert_eq!(stage("/Prod/cart/7"), Some(("Prod".to_owned(), "/cart/7")));
    assert_eq!(stage("/v1"), Some(("v1".to_owned(), "/")));
    assert_eq!((stage("/cart"), stage("/prod/cart"), stage("/")), (None, None, None));
    assert_eq!(self::api(&[]).stage("/cart").unwrap().1, "/cart");
}

#[test]
fn a_client_asks_for_its_entry_anew_by_max_age_alone() {
    let head = |value: &str| {
        http::Request::builder().header("cache-control", value).body(()).unwrap().into_parts().0
    };
    assert!(wants_anew(&head("no-store, Max-Age=0")));
    assert!(!wants_anew(&head("no-cache")) && !wants_anew(&head("max-age=00")));
}

#[test]
fn ids_that_nobody_chose_stay() {
    assert_eq!(short_id("abc/cart"), short_id("abc/cart"));
    assert!(short_id("").len() == 6 && short_id("a") != short_id("b"));
}
