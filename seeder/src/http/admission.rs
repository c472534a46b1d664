//! Who is served at this moment: a limit over all connections, and one per address, so that one
//! host that opens connections and never reads cannot take every place.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of a server.
#[derive(Debug)]
pub(super) struct Admission {
    places: Arc<Semaphore>,
    per_address: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    pub(super) fn new(places: usize, per_address: usize) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(places));
        Arc::new(Self { places, per_address, taken: Mutex::new(HashMap::new()) })
    }

    /// A place for a client at `address`, if there is one. Loopback has no limit of its own: a
    /// proxy on this host stands for many clients.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_insert(0);
        if *count >= self.per_address && !address.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Place { admission: Arc::clone(self), address, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.admission.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            // Not kept for every address that was ever seen.
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_place() {
        let admission = Admission::new(5, 2);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut places: Vec<Place> =
            (0..2).map(|_| admission.admit(address("10.0.0.1")).unwrap()).collect();
        assert!(admission.admit(address("10.0.0.1")).is_none());
        // The same host, seen through a socket for both protocols.
        assert!(admission.admit(address("::ffff:10.0.0.1")).is_none());
        places.push(admission.admit(address("10.0.0.2")).unwrap());
        places.extend((0..2).map(|_| admission.admit(address("127.0.0.1")).unwrap()));
        assert!(admission.admit(address("10.0.0.3")).is_none(), "all five are taken");
        places.remove(0);
        places.push(admission.admit(address("10.0.0.1")).unwrap());
        drop(places);
        assert!(admission.taken.lock().unwrap().is_empty());
        let loopback: Vec<_> = (0..5).filter_map(|_| admission.admit(address("::1"))).collect();
        assert_eq!(loopback.len(), 5);
    }
}
