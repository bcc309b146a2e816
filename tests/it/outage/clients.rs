//! Clients nearby lose their connection before their message is acknowledged.

use super::run::{KEEPS, Run, Setup};
use crate::support::{Mosquitto, status};

#[tokio::test]
async fn a_publisher_that_is_gone_before_its_acknowledgement_loses_nothing() {
    let cloud = Mosquitto::start(KEEPS).await;
    let mut run = Run::start(&cloud, Setup::default()).await;
    for n in 0..12 {
        run.more(fastrand::u64(20..80)).await;
        run.nearby.reset();
        match n {
            4 => {
                run.line.cut().await;
                status::offline(&run.gateway).await;
            }
            8 => run.line.mend().await,
            _ => {}
        }
    }
    run.arrives().await;
}
