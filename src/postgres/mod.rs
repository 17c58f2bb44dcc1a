//! SQL over verified TLS.
//!
//! One [`Client`] is one session of role `pgstead` on one server, through a local socket that `remote/` forwards. The
//! transport's path says nothing about who answers: TLS does, with `verify-full` against the topology's CA. SQL text and
//! the decoding of its rows stand together in [`queries`]. This is the only module that knows
//! `tokio_postgres` and `rustls`. It changes nothing but rows of `pgstead.canary`, and retries nothing.

mod client;
mod error;
pub mod queries;
mod tls;

pub use crate::postgres::client::{Client, ConnectWish};
pub use crate::postgres::error::PostgresError;
pub use crate::postgres::tls::Tls;
