//! The secrets of this daemon: where its own keys come from, how stored ones are kept, how old each
//! is.

mod permission;

pub(super) use self::permission::{Keyring, keyring};
