//! One test for each normative statement of the standards that a server can break, and more that strict suites look at.
//!
//! The tables in docs/ say which test holds which statement. All tests of a version share one gateway: each has client
//! ids and topics of its own, which begin with its number.

mod behaviour3;
mod behaviour5;
mod bytes;
mod bytes5;
mod scope5;
mod table;
mod v3;
mod v31;
mod v5;

use std::sync::{Arc, Weak};

use tokio::sync::Mutex;

use crate::support::Gateway;

/// The gateway that these tests share: started by the first one, ended by the last one that holds it.
async fn gateway() -> Arc<Gateway> {
    static SHARED: Mutex<Weak<Gateway>> = Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(gateway) = shared.upgrade() {
        return gateway;
    }
    // Acknowledgements that wait for the disk wait less than by default: there are many tests.
    let gateway = Arc::new(Gateway::start("[store]\npath = \"@store@\"\ncommit = \"10ms\"\n").await);
    *shared = Arc::downgrade(&gateway);
    gateway
}
