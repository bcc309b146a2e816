//! The cloud goes away, and comes back.

use super::run::{KEEPS, Run, Setup};
use crate::support::{Mosquitto, status};

fn setup(protocol: &'static str) -> Setup {
    Setup { protocol, ..Setup::default() }
}

#[tokio::test]
async fn a_cloud_that_is_killed_and_has_forgotten_its_sessions_gets_everything() {
    let mut cloud = Mosquitto::start(KEEPS).await;
    let mut run = Run::start(&cloud, setup("5")).await;
    for percent in [15, 50] {
        run.percent(percent).await;
        cloud.kill().await;
        status::offline(&run.gateway).await;
        // Nobody would be there to get what comes before the collector.
        run.line.cut().await;
        run.percent(percent + 25).await;
        cloud.start_again().await;
        run.collector.back().await;
        run.line.mend().await;
        status::online(&run.gateway).await;
    }
    run.arrives().await;
}

#[tokio::test]
async fn a_cloud_that_is_restarted_in_peace_gets_everything() {
    for protocol in ["5", "3.1.1"] {
        let mut cloud = Mosquitto::persistent(KEEPS).await;
        let mut run = Run::start(&cloud, setup(protocol)).await;
        for percent in [15, 50] {
            run.percent(percent).await;
            cloud.stop().await;
            status::offline(&run.gateway).await;
            run.percent(percent + 25).await;
            cloud.start_again().await;
            status::online(&run.gateway).await;
            run.cloud_sends_again(100);
        }
        run.arrives().await;
    }
}

#[tokio::test]
async fn a_cloud_that_is_killed_and_has_old_sessions_gets_everything() {
    let mut cloud = Mosquitto::persistent(KEEPS).await;
    let mut run = Run::start(&cloud, setup("3.1.1")).await;
    for percent in [20, 60] {
        run.percent(percent).await;
        // It goes on where it last saved its sessions: about a second before.
        cloud.saved().await;
        cloud.kill().await;
        status::offline(&run.gateway).await;
        cloud.start_again().await;
        run.collector.back().await;
        run.cloud_sends_again(1000);
    }
    run.arrives().await;
}

#[tokio::test]
async fn a_cloud_that_hangs_is_noticed_and_gets_everything_later() {
    let cloud = Mosquitto::persistent(KEEPS).await;
    let mut run = Run::start(&cloud, setup("5")).await;
    for percent in [20, 60] {
        run.percent(percent).await;
        cloud.freeze();
        let why = status::offline(&run.gateway).await;
        assert!(why.contains("no sign of the cloud") || why.contains("timed out"), "{why}");
        run.percent(percent + 20).await;
        cloud.thaw();
        status::online(&run.gateway).await;
    }
    run.arrives().await;
}
