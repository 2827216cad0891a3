//! The functions that can be called by name.
