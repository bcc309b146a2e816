//! The way between the gateway and the cloud goes wrong.

use std::time::Duration;

use super::run::{KEEPS, Run, Setup};
use crate::support::cable::Flow::{Free, Held, Late, Slow, Swallowed};
use crate::support::{Mosquitto, status};

async fn run(setup: Setup) -> (Mosquitto, Run) {
    let cloud = Mosquitto::start(KEEPS).await;
    let run = Run::start(&cloud, setup).await;
    (cloud, run)
}

#[tokio::test]
async fn a_cut_line_loses_nothing() {
    for protocol in ["5", "3.1.1"] {
        let (_cloud, mut run) = run(Setup { protocol, ..Setup::default() }).await;
        for percent in [15, 50] {
            run.percent(percent).await;
            // With whatever is on its way, messages and acknowledgements.
            run.line.cut().await;
            status::offline(&run.gateway).await;
            run.percent(percent + 25).await;
            run.line.mend().await;
            status::online(&run.gateway).await;
        }
        run.arrives().await;
    }
}

#[tokio::test]
async fn a_half_open_line_is_noticed_and_loses_nothing() {
    for protocol in ["5", "3.1.1"] {
        let (_cloud, mut run) = run(Setup { protocol, ..Setup::default() }).await;
        for (percent, way) in [(15, Swallowed), (50, Held)] {
            run.percent(percent).await;
            run.line.set(way, way);
            let why = status::offline(&run.gateway).await;
            assert!(why.contains("no sign of the cloud") || why.contains("timed out"), "{why}");
            run.percent(percent + 20).await;
            run.line.set(Free, Free);
            status::online(&run.gateway).await;
        }
        run.arrives().await;
    }
}

#[tokio::test]
async fn swallowed_acknowledgements_lose_nothing() {
    let (_cloud, mut run) = run(Setup::default()).await;
    for percent in [10, 40, 70] {
        run.percent(percent).await;
        run.line.set(Free, Swallowed);
        status::offline(&run.gateway).await;
        run.line.set(Free, Free);
        status::online(&run.gateway).await;
    }
    let outcome = run.arrives().await;
    assert!(outcome.again > 0, "the cloud had what it did not acknowledge: {outcome:?}");
}

#[tokio::test]
async fn a_slow_line_is_used_as_it_is() {
    let setup = Setup { count: 50, rate: 100, size: 250, ..Setup::default() };
    let (_cloud, mut run) = run(setup).await;
    run.line.set(Slow(10_000), Slow(10_000));
    run.percent(100).await;
    let before = run.line.connections();
    let line = run.arrives().await;
    assert_eq!((before, line.again), (1, 0), "a slow line is no reason to connect again");
}

#[tokio::test]
async fn a_late_line_loses_nothing() {
    for protocol in ["5", "3.1.1"] {
        let (_cloud, mut run) = run(Setup { protocol, count: 100, rate: 100, ..Setup::default() }).await;
        // Round trips of 50 to 600 ms.
        let late = Late(Duration::from_millis(25), Duration::from_millis(300));
        run.line.set(late, late);
        run.percent(30).await;
        run.line.reset();
        run.percent(60).await;
        run.line.cut().await;
        status::offline(&run.gateway).await;
        run.percent(80).await;
        run.line.mend().await;
        run.arrives().await;
    }
}

#[tokio::test]
async fn a_storm_of_resets_loses_nothing() {
    let (_cloud, mut run) = run(Setup { count: 500, ..Setup::default() }).await;
    run.percent(10).await;
    for _ in 0..40 {
        run.line.reset();
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    run.arrives().await;
}
