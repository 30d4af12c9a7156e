//! Bytes to inputs. Hostile until decoded: an unknown kind, a short or long record is an error, never a panic.
