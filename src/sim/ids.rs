//! Names and identities in Kubernetes' forms, from a seed.

use fastrand::Rng;

/// Kubernetes' alphabet of generated names: no vowels, so no words.
const NAME: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const HEX: &[u8] = b"0123456789abcdef";

/// A source of names and identities; the same seed gives the same ones.
#[derive(Clone, Debug)]
pub struct Ids(Rng);

impl Ids {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    fn text(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length).filter_map(|_| self.0.choice(alphabet)).map(|byte| char::from(*byte)).collect()
    }

    /// A uid.
    pub fn uid(&mut self) -> String {
        let mut part = |length| self.text(HEX, length);
        format!("{}-{}-4{}-a{}-{}", part(8), part(4), part(3), part(3), part(12))
    }

    /// The random end of a generated name.
    pub fn suffix(&mut self) -> String {
        self.text(NAME, 5)
    }

    /// A pod template's hash.
    pub fn hash(&mut self) -> String {
        self.text(NAME, 10)
    }

    /// A containerd container's id, with the scheme.
    pub fn container(&mut self) -> String {
        format!("containerd://{}", self.text(HEX, 64))
    }

    /// The end of an event's name.
    pub fn event(&mut self) -> String {
        self.text(HEX, 16)
    }
}
