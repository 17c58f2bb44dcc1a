//! A topology that already runs: what changes, what stays, what heals, what is refused.
