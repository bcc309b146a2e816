//! The whole: build the parts from the config, watch over them, stop them in order.
