//! The gateway is ended, in peace and without a word.

use super::run::{KEEPS, Run, Setup};
use crate::support::{Mosquitto, status};

#[tokio::test]
async fn a_gateway_that_is_killed_before_during_and_after_an_outage_keeps_what_it_acknowledged() {
    for protocol in ["5", "3.1.1"] {
        let cloud = Mosquitto::start(KEEPS).await;
        let mut run = Run::start(&cloud, Setup { protocol, ..Setup::default() }).await;
        run.percent(20).await;
        run.kill().await;
        run.line.cut().await;
        status::offline(&run.gateway).await;
        for _ in 0..4 {
            run.more(fastrand::u64(20..120)).await;
            run.kill().await;
        }
        run.percent(70).await;
        run.line.mend().await;
        run.kill().await;
        run.more(100).await;
        run.kill().await;
        run.arrives().await;
    }
}

#[tokio::test]
async fn a_gateway_that_is_killed_while_online_keeps_what_it_acknowledged() {
    let cloud = Mosquitto::start(KEEPS).await;
    let mut run = Run::start(&cloud, Setup::default()).await;
    for _ in 0..5 {
        run.more(fastrand::u64(50..200)).await;
        run.kill().await;
        status::online(&run.gateway).await;
    }
    run.arrives().await;
}

#[tokio::test]
async fn a_gateway_that_is_stopped_in_peace_during_an_outage_keeps_everything() {
    let mut cloud = Mosquitto::persistent(KEEPS).await;
    let mut run = Run::start(&cloud, Setup::default()).await;
    // The first stop is online, the others in the outage.
    run.percent(20).await;
    run.restart().await;
    status::online(&run.gateway).await;
    cloud.stop().await;
    for percent in [40, 60] {
        run.percent(percent).await;
        run.restart().await;
    }
    cloud.start_again().await;
    run.cloud_sends_again(100);
    run.arrives().await;
}

/// Hundreds with `FIELDPOST_CRASHES=300`.
#[tokio::test]
async fn a_gateway_that_is_killed_again_and_again_keeps_what_it_acknowledged() {
    let crashes: u32 = std::env::var("FIELDPOST_CRASHES").map_or(40, |n| n.parse().unwrap());
    let cloud = Mosquitto::start(KEEPS).await;
    let mut run = Run::start(&cloud, Setup { count: crashes * 20, rate: 0, ..Setup::default() }).await;
    let mut whole = true;
    for n in 0..crashes {
        // Sometimes while it still starts, sometimes after a while; with the cloud, and without.
        if n % 5 > 0 {
            run.more(fastrand::u64(1..150)).await;
        }
        if n % 4 == 3 {
            whole = !whole;
            if whole { run.line.mend().await } else { run.line.cut().await }
        }
        run.kill().await;
    }
    run.line.mend().await;
    let outcome = run.arrives().await;
    eprintln!("{crashes} crashes: {} came again (bound {})", outcome.again, outcome.bound);
}
