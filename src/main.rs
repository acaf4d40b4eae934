//! The exporter's command.

fn main() {}
