//! What MQTT 5.0 says beside its numbered statements, and strict suites look at.
