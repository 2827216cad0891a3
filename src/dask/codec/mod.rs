//! Values and arguments as they travel: msgpack, with places for the results of other tasks.
