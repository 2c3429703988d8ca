//! What a cart answers: HTTP events of payload format 2.0 (function URL, HTTP API), and plain events.
//!
//! Carts live in this environment's memory: another environment has carts of its own, and an idle one
//! forgets them. Where a cache is shared, a cart is here only while it is worked on.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The oldest carts make room for new ones beyond this many.
const CARTS_MAX: usize = 10_000;
/// The different items one cart may hold.
const ITEMS_MAX: usize = 100;

/// Every cart of this environment: item and quantity, by cart id.
#[derive(Default)]
pub struct Carts {
    carts: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Carts {
    /// Answers one event. HTTP events get `{statusCode, headers, body}`, all others are told what they said.
    ///
    /// ```text
    /// GET    /cart/ID            the cart
    /// PUT    /cart/ID/ITEM       puts {"quantity": n} of an item in it (1 without a body)
    /// DELETE /cart/ID            empties it
    /// POST   /order/ID           orders what is in it, and empties it
    /// ```
    pub fn answer(&mut self, event: &Value) -> Value {
        let http = &event["requestContext"]["http"];
        let Some(method) = http["method"].as_str() else { return json!({ "echo": event }) };
        let path = event["rawPath"].as_str().unwrap_or("/");
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (status, body) = match (method, parts.as_slice()) {
            ("GET", []) => (200, json!({ "service": "cart", "carts": self.carts.len() })),
            ("GET", ["cart"]) => (200, json!({ "carts": self.carts.len() })),
            ("GET", ["cart", id]) => (200, self.show(id)),
            ("PUT" | "POST", ["cart", id, item]) => self.put(id, item, quantity(event)),
            ("DELETE", ["cart", id]) => {
                self.carts.remove(*id);
                (200, self.show(id))
            }
            ("POST", ["order", id]) => {
                let ordered = self.carts.remove(*id).unwrap_or_default();
                (200, json!({ "order": id, "items": ordered }))
            }
            _ => (404, json!({ "message": format!("no {method} {path}") })),
        };
        response(status, &body)
    }

    /// What the cache holds of a cart.
    pub fn take(&mut self, id: &str, items: Option<BTreeMap<String, u64>>) {
        match items {
            Some(items) => drop(self.carts.insert(id.to_owned(), items)),
            None => drop(self.carts.remove(id)),
        }
    }

    /// What the cache is to hold of a cart; nothing is kept here.
    pub fn give(&mut self, id: &str) -> Option<BTreeMap<String, u64>> {
        self.carts.remove(id)
    }

    fn show(&self, id: &str) -> Value {
        json!({ "cart": id, "items": self.carts.get(id).cloned().unwrap_or_default() })
    }

    fn put(&mut self, id: &str, item: &str, quantity: Option<u64>) -> (u16, Value) {
        let Some(quantity) = quantity else {
            return (400, json!({ "message": "quantity must be a whole number" }));
        };
        if self.carts.len() >= CARTS_MAX && !self.carts.contains_key(id) {
            self.carts.pop_first();
        }
        let cart = self.carts.entry(id.to_owned()).or_default();
        if cart.len() >= ITEMS_MAX && !cart.contains_key(item) {
            return (409, json!({ "message": format!("a cart holds at most {ITEMS_MAX} different items") }));
        }
        match quantity {
            0 => drop(cart.remove(item)),
            _ => drop(cart.insert(item.to_owned(), quantity)),
        }
        (200, self.show(id))
    }
}

/// The cart that an HTTP event is about.
pub fn of(event: &Value) -> Option<String> {
    event["requestContext"]["http"]["method"].as_str()?;
    let mut parts = event["rawPath"].as_str()?.split('/').filter(|part| !part.is_empty());
    matches!(parts.next()?, "cart" | "order").then(|| parts.next().map(str::to_owned))?
}

/// Whether an HTTP event is an order.
pub fn is_order(event: &Value) -> bool {
    event["requestContext"]["http"]["method"] == "POST"
        && event["rawPath"].as_str().is_some_and(|path| path.starts_with("/order/"))
}

/// An HTTP response of payload format 2.0.
pub fn response(status: u16, body: &Value) -> Value {
    json!({
        "statusCode": status,
        "headers": { "content-type": "application/json" },
        "body": body.to_string(),
    })
}

/// The body's `quantity`; 1 without a body, nothing if the body says something else.
fn quantity(event: &Value) -> Option<u64> {
    let Some(body) = event["body"].as_str().filter(|body| !body.is_empty()) else { return Some(1) };
    serde_json::from_str::<Value>(body).ok()?["quantity"].as_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(method: &str, path: &str, body: Option<&str>) -> Value {
        json!({ "version": "2.0", "rawPath": path, "requestContext": { "http": { "method": method } }, "body": body })
    }

    fn body(answer: &Value) -> Value {
        serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
    }

    #[test]
    fn what_was_put_is_shown_until_deleted() {
        let mut carts = Carts::default();
        carts.answer(&http("PUT", "/cart/ada/tea", Some(r#"{"quantity":2}"#)));
        let shown = carts.answer(&http("GET", "/cart/ada", None));
        assert_eq!(body(&shown), json!({ "cart": "ada", "items": { "tea": 2 } }));
        let emptied = carts.answer(&http("DELETE", "/cart/ada", None));
        assert_eq!(body(&emptied)["items"], json!({}));
    }

    #[test]
    fn an_order_takes_what_is_in_the_cart() {
        let mut carts = Carts::default();
        carts.answer(&http("PUT", "/cart/ada/tea", None));
        let order = http("POST", "/order/ada", None);
        assert!(is_order(&order) && of(&order).as_deref() == Some("ada"));
        assert_eq!(body(&carts.answer(&order)), json!({ "order": "ada", "items": { "tea": 1 } }));
        assert_eq!(body(&carts.answer(&order))["items"], json!({}));
        assert_eq!(of(&http("GET", "/cart", None)), None);
    }

    #[test]
    fn odd_requests_get_a_status_and_plain_events_an_echo() {
        let mut carts = Carts::default();
        assert_eq!(carts.answer(&http("PATCH", "/cart", None))["statusCode"], 404);
        assert_eq!(carts.answer(&http("PUT", "/cart/a/b", Some("{")))["statusCode"], 400);
        assert_eq!(carts.answer(&json!({ "k": [1] })), json!({ "echo": { "k": [1] } }));
    }
}
