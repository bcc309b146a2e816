//! From readings to messages, from messages to commands. Pure: no clock, no socket, no task.
