//! What an operator asks for: each puts its steps in order, or says every reason to refuse.

pub mod bootstrap;
pub mod failover;
pub mod forget;
pub mod leaving;
pub mod release;
pub mod remove;
pub mod replace;
pub mod reseed;
pub mod rotate;
pub mod switchover;
