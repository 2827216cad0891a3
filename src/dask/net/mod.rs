//! Connections: addresses, TLS, messages in and out, and the thread that drives them.
