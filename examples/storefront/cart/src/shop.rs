//! Carts of this environment, or of all of them where a cache is shared; and orders, which a warehouse confirms.
//!
//! | variable | meaning |
//! |---|---|
//! | `CACHE_HOST`, `CACHE_PORT` | where the cache is |
//! | `CACHE_CONNECTIONS` | connections of each environment's pool; 0 keeps carts in this environment's memory |
//! | `CACHE_TIMEOUT` | seconds that a connect may take |
//! | `WAREHOUSE_SECONDS` | seconds until the warehouse confirms an order |

use std::time::Duration;

use serde_json::{Value, json};

use crate::cache::{CacheError, Pool};
use crate::cart::{self, Carts};

/// What the handler needs.
pub struct Shop {
    carts: Carts,
    pool: Option<Pool>,
    warehouse: Duration,
}

impl Shop {
    /// As the function's variables say.
    pub fn from_environment() -> Self {
        let number = |name: &str, otherwise: u64| {
            std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
        };
        let host = std::env::var("CACHE_HOST").unwrap_or_default();
        let wanted = usize::try_from(number("CACHE_CONNECTIONS", 0)).unwrap_or(usize::MAX);
        let port = u16::try_from(number("CACHE_PORT", 443)).unwrap_or(443);
        let timeout = Duration::from_secs(number("CACHE_TIMEOUT", 30));
        let pool = (wanted > 0 && !host.is_empty()).then(|| Pool::new(host, port, wanted, timeout));
        Self { carts: Carts::default(), pool, warehouse: Duration::from_secs(number("WAREHOUSE_SECONDS", 5)) }
    }

    /// Answers one event. A cache that cannot be reached is a 504, with the reason in the function's own log.
    pub async fn answer(&mut self, event: &Value) -> Value {
        let cart = cart::of(event);
        let Some(pool) = self.pool.as_mut().filter(|_| cart.is_some()) else {
            return self.local(event).await;
        };
        match shared(pool, &mut self.carts, cart.as_deref().unwrap_or_default(), event).await {
            Ok(answer) if cart::is_order(event) => {
                tokio::time::sleep(self.warehouse).await;
                answer
            }
            Ok(answer) => answer,
            Err(error) => {
                eprintln!("cache: {error}");
                let body = json!({ "message": error.to_string(), "open": pool.len() });
                cart::response(504, &body)
            }
        }
    }

    async fn local(&mut self, event: &Value) -> Value {
        let answer = self.carts.answer(event);
        if cart::is_order(event) {
            tokio::time::sleep(self.warehouse).await;
        }
        answer
    }
}

/// The cart comes from the cache and goes back to it.
async fn shared(pool: &mut Pool, carts: &mut Carts, cart: &str, event: &Value) -> Result<Value, CacheError> {
    let key = format!("cart:{cart}");
    let held = pool.get(&key).await?;
    carts.take(cart, held.and_then(|bytes| serde_json::from_slice(&bytes).ok()));
    let answer = carts.answer(event);
    match carts.give(cart) {
        Some(items) => pool.set(&key, json!(items).to_string().as_bytes()).await?,
        None => pool.delete(&key).await?,
    }
    Ok(answer)
}
