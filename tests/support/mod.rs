//! What several tests share.

#![allow(dead_code)] // each test uses a part

pub mod recording;
pub mod reference;
