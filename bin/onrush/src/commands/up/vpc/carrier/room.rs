//! Room in subnets that are full: who finds none gets that of an interface which no function has, once nobody is behind it.

use super::{Carrier, Places, without_room};
use network::fabric::Fabric;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How often interfaces that no function has are looked at while somebody is behind them.
const LOOK: Duration = Duration::from_secs(1);

impl Carrier {
    /// Before somebody gets an address: those of interfaces that somebody is behind stay theirs, in both networks.
    pub(super) fn hold(&self, places: &mut Places) {
        if places.network.has_left() {
            hold(&self.fabric, places);
        }
    }

    /// Functions went: who had no room looks for it now, and again whenever an interface that they leave is empty.
    pub(super) fn make_room(&self, places: &mut Places) {
        let Some(leaving) = hold(&self.fabric, places) else { return };
        look_again(&self.fabric, places);
        if leaving == 0 || places.waits {
            return;
        }
        let (fabric, waiting) = (self.fabric.clone(), Arc::downgrade(&self.places));
        let thread = std::thread::Builder::new().name("room".into());
        places.waits = thread.spawn(move || wait(&fabric, &waiting, leaving)).is_ok();
    }
}

/// Until nobody is behind an interface that no function has.
fn wait(fabric: &Fabric, places: &Weak<Mutex<Places>>, mut before: usize) {
    loop {
        std::thread::sleep(LOOK);
        let Some(places) = places.upgrade() else { return };
        let places = &mut *places.lock().unwrap_or_else(PoisonError::into_inner);
        // It may answer too late once.
        let Some(leaving) = hold(fabric, places) else { continue };
        if leaving < before {
            look_again(fabric, places);
        }
        before = leaving;
        if leaving == 0 {
            places.waits = false;
            return;
        }
    }
}

/// Behind how many interfaces that no function has somebody is, whose addresses nobody gets; `None`: the network has ended,
/// or answers too late.
fn hold(fabric: &Fabric, places: &mut Places) -> Option<usize> {
    let held = fabric.ask(|engine, now| engine.interfaces_in_use(now)).ok()?;
    let leaving = places.network.hold(held.clone());
    fabric.change(move |engine, _| {
        engine.hold(held);
    });
    Some(leaving)
}

/// Functions whose interfaces found no room look for it.
fn look_again(fabric: &Fabric, places: &mut Places) {
    let undeployed = fabric.ask(|engine, _| {
        let all = engine.wired().undeployed.iter().enumerate();
        all.filter(|(_, refusal)| refusal.is_some()).map(|(index, _)| index).collect::<Vec<_>>()
    });
    let mut without: BTreeSet<usize> = places.network.without_address().collect();
    without.extend(undeployed.unwrap_or_default());
    without.retain(|index| !places.network.is_left(*index));
    if without.is_empty() {
        return;
    }
    without.iter().for_each(|index| places.network.set_left(*index, false));
    fabric.change(move |engine, now| {
        let refused = without.iter().map(|index| engine.set_left(now, *index, false)).last();
        without_room(refused.iter().flatten());
    });
}
