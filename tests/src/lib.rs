//! Harness of the real-kernel tests.
