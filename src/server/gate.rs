//! Who has a connection, and who must leave for somebody else.
//!
//! Connections are bounded, so those who hold many must not keep the others out: when there is no place left, the
//! client with the most connections loses one, first one that waits, then one that does not read its answer. What
//! is bounded beside them are large answers: one that its client does not read gives way to the next.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::Limits;
use super::auth::Client;

/// An answer gives way to the next if its client is so far behind with reading it.
const SLOW: Duration = Duration::from_millis(500);
/// How often those who wait for a place look for an answer that has to give way.
const LOOK: Duration = Duration::from_millis(250);

/// All connections.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) limits: Limits,
    /// Large answers that are made or wait for their clients.
    answers: Arc<Semaphore>,
    inner: Mutex<Inner>,
}

/// Bounded by the limit of connections.
#[derive(Debug, Default)]
struct Inner {
    next: u64,
    connections: HashMap<u64, Arc<Connection>>,
    clients: HashMap<Client, Share>,
}

/// What a client has.
#[derive(Debug)]
struct Share {
    connections: usize,
    answers: Arc<Semaphore>,
}

/// One connection, seen from outside.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    leave: Notify,
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy, Debug)]
struct Phase {
    /// Since when nothing has been asked.
    idle: Instant,
    /// Since when a request is worked on, until its answer is handed over.
    asked: Option<Instant>,
    /// Since when the client does not take what is written.
    behind: Option<Instant>,
    /// Large answers in its hands.
    answers: usize,
}

/// How readily a connection is given up: the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// It waits for a handshake or a request.
    Waiting,
    /// Its client does not read.
    Behind,
    /// It is worked for.
    Asked,
}

impl Phase {
    fn of_use(&self) -> (Use, Instant) {
        match (self.behind, self.asked) {
            (Some(since), _) => (Use::Behind, since),
            (None, Some(since)) => (Use::Asked, since),
            (None, None) => (Use::Waiting, self.idle),
        }
    }
}

impl Connection {
    fn new(client: Client) -> Self {
        let phase = Phase { idle: Instant::now(), asked: None, behind: None, answers: 0 };
        Self { client, leave: Notify::new(), phase: Mutex::new(phase) }
    }

    /// Waits until the place is needed for somebody else.
    pub(super) async fn told_to_leave(&self) {
        self.leave.notified().await;
    }

    /// A request is worked on until the value is dropped.
    pub(super) fn asked(self: &Arc<Self>) -> Asked {
        self.phase().asked = Some(Instant::now());
        Asked(Arc::clone(self))
    }

    /// The client does not take what is written, or has taken it all.
    pub(super) fn behind(&self, behind: bool) {
        let mut phase = self.phase();
        if behind != phase.behind.is_some() {
            let now = Instant::now();
            phase.idle = now;
            phase.behind = behind.then_some(now);
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is worked on.
#[derive(Debug)]
pub(super) struct Asked(Arc<Connection>);

impl Drop for Asked {
    fn drop(&mut self) {
        let mut phase = self.0.phase();
        phase.asked = None;
        phase.idle = Instant::now();
    }
}

impl Gate {
    /// With nobody inside.
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let answers = Arc::new(Semaphore::new(limits.answers));
        Arc::new(Self { limits, answers, inner: Mutex::default() })
    }

    /// A place for one more connection of this client, if there is one or somebody must leave for it.
    pub(super) fn enter(self: &Arc<Self>, client: Client) -> Option<Place> {
        let mut inner = self.lock();
        let own = inner.share(client) + 1;
        let full_for_client = own > self.limits.connections_per_client;
        if full_for_client || inner.connections.len() >= self.limits.connections {
            let of_client = full_for_client.then_some(client);
            inner.dismiss(client, own, of_client)?;
        }
        let id = inner.next;
        inner.next += 1;
        let connection = Arc::new(Connection::new(client));
        inner.connections.insert(id, Arc::clone(&connection));
        let most = self.limits.answers_per_client;
        let new = || Share { connections: 0, answers: Arc::new(Semaphore::new(most)) };
        let share = inner.clients.entry(client).or_insert_with(new);
        share.connections += 1;
        let answers = Arc::clone(&share.answers);
        drop(inner);
        Some(Place { id, handle: Handle { gate: Arc::clone(self), connection, answers } })
    }

    /// Tells the slowest reader of a large answer to leave.
    fn dismiss_slowest(&self) {
        let inner = self.lock();
        let slow = inner.connections.iter().filter_map(|(id, connection)| {
            let phase = *connection.phase();
            let behind = phase.behind.filter(|since| phase.answers > 0 && since.elapsed() >= SLOW)?;
            Some((behind, *id))
        });
        let slowest = slow.min().and_then(|(_, id)| inner.connections.get(&id).cloned());
        drop(inner);
        if let Some(connection) = slowest {
            tracing::debug!(client = %connection.client.0, "a client that does not read its answer has to leave");
            connection.leave.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn share(&self, client: Client) -> usize {
        self.clients.get(&client).map_or(0, |share| share.connections)
    }

    /// Makes room for a client that has `own` connections with the new one: the client with the most loses the one
    /// that is given up most readily, the oldest first. One that is in use only goes for a client that has less.
    fn dismiss(&mut self, newcomer: Client, own: usize, only: Option<Client>) -> Option<()> {
        let candidates = self.connections.iter().filter(|(_, c)| only.is_none_or(|only| c.client == only));
        let ranked = candidates.map(|(id, connection)| {
            let of_newcomer = usize::from(connection.client == newcomer);
            let share = self.share(connection.client) + of_newcomer;
            let (of_use, since) = connection.phase().of_use();
            (Reverse(share), of_use, since, *id)
        });
        let (Reverse(share), of_use, _, id) = ranked.min()?;
        if of_use == Use::Asked && share <= own {
            return None;
        }
        let connection = self.remove(id)?;
        connection.leave.notify_one();
        Some(())
    }

    fn remove(&mut self, id: u64) -> Option<Arc<Connection>> {
        let connection = self.connections.remove(&id)?;
        match self.clients.get_mut(&connection.client) {
            Some(share) if share.connections > 1 => share.connections -= 1,
            Some(_) | None => _ = self.clients.remove(&connection.client),
        }
        Some(connection)
    }
}

/// A place among the connections, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    pub(super) handle: Handle,
}

impl Place {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.handle.connection
    }

    pub(super) fn client(&self) -> Client {
        self.handle.connection.client
    }

    pub(super) fn limits(&self) -> Limits {
        self.handle.gate.limits
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handle.gate.lock().remove(self.id);
    }
}

/// What a request knows of its connection.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    gate: Arc<Gate>,
    connection: Arc<Connection>,
    answers: Arc<Semaphore>,
}

impl Handle {
    /// Waits for a place for a large answer: first among those of the same client, then among all. Meanwhile those who
    /// do not read theirs have to leave.
    pub(super) async fn hold(&self) -> Option<Holding> {
        let of_client = self.place(&self.answers).await?;
        let of_all = self.place(&self.gate.answers).await?;
        self.connection.phase().answers += 1;
        Some(Holding { connection: Arc::clone(&self.connection), _permits: [of_client, of_all] })
    }

    async fn place(&self, places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        // One wait, so that the turn in the queue is kept.
        let mut place = pin!(Arc::clone(places).acquire_owned());
        loop {
            match tokio::time::timeout(LOOK, &mut place).await {
                Ok(place) => return place.ok(),
                Err(_) => self.gate.dismiss_slowest(),
            }
        }
    }
}

/// The place of a large answer, free again when dropped.
#[derive(Debug)]
pub(super) struct Holding {
    connection: Arc<Connection>,
    _permits: [OwnedSemaphorePermit; 2],
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.connection.phase().answers -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn client(number: u8) -> Client {
        Client(IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)))
    }

    fn gate(connections: usize, connections_per_client: usize) -> Arc<Gate> {
        Gate::new(Limits {
            connections,
            connections_per_client,
            answers: 2,
            answers_per_client: 1,
            ..Limits::default()
        })
    }

    /// Whether somebody was told that this place is needed.
    fn must_leave(place: &Place) -> bool {
        !place.handle.gate.lock().connections.contains_key(&place.id)
    }

    async fn second() {
        tokio::time::advance(Duration::from_secs(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_idle_connection_of_a_client_leaves_for_its_newest() {
        let gate = gate(10, 3);
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(gate.enter(client(1)).unwrap());
            second().await;
        }
        // The first one is in use, so it is the second that is idle for the longest time.
        let asked = places[0].connection().asked();
        places.push(gate.enter(client(1)).unwrap());
        assert_eq!(places.iter().map(must_leave).collect::<Vec<_>>(), [false, true, false, false]);
        tokio::time::timeout(Duration::from_secs(1), places[1].connection().told_to_leave()).await.unwrap();
        drop(asked);
        assert_eq!(gate.lock().share(client(1)), 3);
        drop(places);
        assert!(gate.lock().connections.is_empty() && gate.lock().clients.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_the_most_loses_one_and_who_has_one_keeps_it() {
        let gate = gate(6, 5);
        let lone = gate.enter(client(9)).unwrap();
        second().await;
        let many: Vec<_> = (0..5).map(|_| gate.enter(client(1)).unwrap()).collect();
        // Everything that the heavy client has is in use, and still it has to give one.
        let _asked: Vec<_> = many.iter().map(|place| place.connection().asked()).collect();
        let next = gate.enter(client(2)).unwrap();
        assert_eq!((must_leave(&lone), many.iter().filter(|place| must_leave(place)).count()), (false, 1));
        // Those who have one each: the oldest that waits leaves.
        drop(many);
        let others: Vec<_> = (3..7).map(|number| gate.enter(client(number)).unwrap()).collect();
        let last = gate.enter(client(8)).unwrap();
        assert_eq!([&lone, &next, &last].map(must_leave), [true, false, false]);
        // And where all are in use, the newcomer has to go.
        let _asked: Vec<_> = others.iter().chain([&next, &last]).map(|p| p.connection().asked()).collect();
        assert!(gate.enter(client(10)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_leaves_before_who_waits_for_an_answer() {
        let gate = gate(10, 2);
        let (reading, slow) = (gate.enter(client(1)).unwrap(), gate.enter(client(1)).unwrap());
        let _asked = [reading.connection().asked(), slow.connection().asked()];
        slow.connection().behind(true);
        let _new = gate.enter(client(1)).unwrap();
        assert_eq!([&reading, &slow].map(must_leave), [false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_read_gives_way() {
        let gate = gate(10, 10);
        let slow: Vec<_> = (1..=2).map(|number| gate.enter(client(number)).unwrap()).collect();
        let mut held = Vec::new();
        for place in &slow {
            held.push(place.handle.hold().await.unwrap());
            place.connection().behind(true);
            second().await;
        }
        let next = gate.enter(client(3)).unwrap();
        let mut waiting = pin!(next.handle.hold());
        tokio::select! {
            _ = &mut waiting => panic!("there is no place"),
            () = slow[0].connection().told_to_leave() => {}
        }
        held.remove(0);
        assert!(tokio::time::timeout(LOOK, waiting).await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_read_is_waited_for_and_one_client_does_not_hold_all() {
        let gate = gate(10, 10);
        let (one, same, other) =
            (gate.enter(client(1)).unwrap(), gate.enter(client(1)).unwrap(), gate.enter(client(2)).unwrap());
        let held = one.handle.hold().await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(9), same.handle.hold()).await.is_err());
        assert!(tokio::time::timeout(LOOK, other.handle.hold()).await.is_ok());
        drop(held);
        assert!(tokio::time::timeout(LOOK, same.handle.hold()).await.is_ok());
    }
}
