//! Secrets stay secret, and passwords authenticate.
