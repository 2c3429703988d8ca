//! Accounts and Regions: each pair has its own functions, limits and doors, and a request goes where its signature says.
//!
//! What a template has is in the pair that the platform was started for, its home. The doors of another pair are opened when
//! the first request for it comes.

use crate::router::Doors;
use crate::signature::{self, Signer};
use http::request::Parts;
use model::error::{ApiError, ErrorCode};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Pairs of account and Region beside home that are open at most. Ours: each has a store and a queue of its own.
pub const REALMS_MAX: usize = 64;

/// An account in a Region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Realm {
    /// Twelve digits.
    pub account_id: String,
    /// `eu-west-1`.
    pub region: String,
}

impl fmt::Display for Realm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "account {} in {}", self.account_id, self.region)
    }
}

/// Opens pairs of account and Region.
pub trait Opens: Send + Sync {
    /// The doors of one, with all that was stored for it. Never called twice for the same; may take its time.
    ///
    /// # Errors
    /// Why it cannot be opened.
    fn open(&self, realm: &Realm) -> Result<Arc<Doors>, String>;
}

/// What home knows of the others.
#[derive(Default)]
pub(crate) struct Others {
    opens: Option<Arc<dyn Opens>>,
    open: RwLock<BTreeMap<Realm, Arc<Doors>>>,
    opening: tokio::sync::Mutex<()>,
}

impl Others {
    pub(crate) fn new(opens: Option<Arc<dyn Opens>>) -> Self {
        Self { opens, ..Self::default() }
    }

    fn find(&self, realm: &Realm) -> Option<Arc<Doors>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).get(realm).cloned()
    }

    /// The first of them for which `look` finds something.
    pub(crate) fn look<T>(&self, look: impl Fn(&Doors) -> Option<T>) -> Option<(Arc<Doors>, T)> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.values().find_map(|doors| Some((doors.clone(), look(doors)?)))
    }
}

impl Doors {
    /// Which account and Region these doors are of.
    pub fn realm(&self) -> Realm {
        Realm { account_id: self.account_id.clone(), region: self.region.clone() }
    }

    /// The account and Region that a request is signed for; `None` is this one. Without keys a signature says its Region
    /// alone.
    pub(crate) fn realm_of(&self, head: &Parts, signer: Option<&Signer>) -> Option<Realm> {
        self.others.opens.as_ref()?;
        let (account, region) = match signer {
            Some(signer) => (signer.account_id.as_deref(), Some(signer.region.as_str())),
            None => (None, signature::region_of(head)),
        };
        let account = account.unwrap_or(&self.home_account_id);
        let region = region.unwrap_or(&self.region);
        if account == self.account_id && region == self.region {
            return None;
        }
        Some(Realm { account_id: account.to_owned(), region: region.to_owned() })
    }

    /// The doors of a pair of account and Region, if they are open.
    pub(crate) fn opened(self: &Arc<Self>, account_id: &str, region: &str) -> Option<Arc<Self>> {
        let realm = Realm { account_id: account_id.to_owned(), region: region.to_owned() };
        if realm == self.realm() { Some(self.clone()) } else { self.others.find(&realm) }
    }

    /// The doors of a pair of account and Region, opened if need be.
    ///
    /// # Errors
    /// There are too many, or it cannot be opened.
    pub async fn of(self: &Arc<Self>, realm: Realm) -> Result<Arc<Self>, ApiError> {
        if realm == self.realm() {
            return Ok(self.clone());
        }
        if let Some(doors) = self.others.find(&realm) {
            return Ok(doors);
        }
        let Some(opens) = self.others.opens.clone() else { return Ok(self.clone()) };
        let _one = self.others.opening.lock().await;
        if let Some(doors) = self.others.find(&realm) {
            return Ok(doors);
        }
        let count = self.others.open.read().unwrap_or_else(PoisonError::into_inner).len();
        if count >= REALMS_MAX {
            let message =
                format!("Onrush has at most {REALMS_MAX} pairs of account and Region beside its own.");
            return Err(ApiError::new(ErrorCode::Service, message));
        }
        let wanted = realm.clone();
        let opened = tokio::task::spawn_blocking(move || opens.open(&wanted)).await;
        let doors = opened.unwrap_or_else(|_| Err("the platform's log has the cause".to_owned()));
        let doors = doors.map_err(|cause| {
            tracing::error!("{realm} cannot be opened: {cause}");
            ApiError::new(ErrorCode::Service, format!("{realm} cannot be opened: {cause}"))
        })?;
        if doors.control.count() == 0 {
            tracing::warn!(
                "a request is signed for {realm}, where there are no functions; what this Onrush was started with is of {}: call it with AWS_REGION={}, or start with --region {}",
                self.realm(),
                self.region,
                realm.region
            );
        }
        self.others.open.write().unwrap_or_else(PoisonError::into_inner).insert(realm, doors.clone());
        Ok(doors)
    }
}
