//! What is said of a server whose SSH host key proves nothing: it was never recorded, or is another one now.

/// The key is another one than that which was recorded.
pub const CHANGED: &str = "its SSH host key is not the recorded one";

/// What to do then.
pub const CHANGED_HINT: &str = "Find out why: a reinstalled server has new keys, and so has an impostor. Is that machine new, or was it installed anew? \"pgstead replace SERVER\" shows both keys, and asks.";

/// No key was recorded.
pub const UNKNOWN: &str = "its SSH host key is not recorded yet";

/// What to do then.
pub const UNKNOWN_HINT: &str = "Run \"pgstead trust\": it shows the fingerprint and records the key on consent.";
