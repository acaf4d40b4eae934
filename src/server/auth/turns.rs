//! Turns at something costly: few at once, few that wait, and few of one client, so that none takes all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Client;

/// Hands out turns.
#[derive(Debug)]
pub(super) struct Turns {
    free: Arc<Semaphore>,
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Queue {
    /// Turns and those who wait for one, in all and of one client.
    most: usize,
    most_of_client: usize,
    clients: Mutex<HashMap<Client, usize>>,
}

/// A turn, given back when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    permit: OwnedSemaphorePermit,
    place: Place,
}

impl Turn {
    /// Gives it back after a pause only.
    pub(super) fn keep(self, pause: Duration) {
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            drop(self);
        });
    }

    /// Lets the next one have the turn, but the client has one less for a pause.
    pub(super) fn keep_place(self, pause: Duration) {
        let Self { permit, place } = self;
        drop(permit);
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            drop(place);
        });
    }
}

#[derive(Debug)]
struct Place {
    queue: Arc<Queue>,
    client: Client,
}

impl Turns {
    /// So many at once; so many at once or waiting, in all and of one client.
    pub(super) fn new(at_once: usize, most: usize, most_of_client: usize) -> Self {
        let queue = Queue { most, most_of_client, clients: Mutex::default() };
        Self { free: Arc::new(Semaphore::new(at_once)), queue: Arc::new(queue) }
    }

    /// Waits for a turn; `None` at once if too many do.
    pub(super) async fn take(&self, client: Client) -> Option<Turn> {
        let place = Queue::enter(&self.queue, client)?;
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        Some(Turn { permit, place })
    }
}

impl Queue {
    fn enter(queue: &Arc<Self>, client: Client) -> Option<Place> {
        let mut clients = queue.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = clients.get(&client).copied().unwrap_or(0);
        if of_client >= queue.most_of_client || clients.values().sum::<usize>() >= queue.most {
            return None;
        }
        clients.insert(client, of_client + 1);
        Some(Place { queue: Arc::clone(queue), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.queue.clients.lock().unwrap_or_else(PoisonError::into_inner);
        match clients.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => _ = clients.remove(&self.client),
        }
    }
}
