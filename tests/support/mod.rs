//! What several tests share.

#![allow(dead_code)] // each test uses a part

pub mod disk;
pub mod pods;
pub mod recording;
pub mod reference;
pub mod scrape;
pub mod world;
