//! The wall clock is set while messages wait.

use super::run::{KEEPS, Run, Setup};
use crate::support::{Faults, Mosquitto, status};

const HOUR: i64 = 3_600_000;

#[tokio::test]
async fn a_clock_that_is_set_by_hours_both_ways_loses_nothing() {
    let (cloud, faults) = (Mosquitto::start(KEEPS).await, Faults::new());
    // Short enough for messages to look too old.
    let more = "[store]\npath = \"@store@\"\nmax-age = \"1h\"".to_owned();
    let mut run = Run::start(&cloud, Setup { wrapper: faults.wrapper(), more, ..Setup::default() }).await;
    for (percent, hours) in [(10, 7), (30, -7), (50, 0)] {
        run.percent(percent).await;
        run.line.cut().await;
        status::offline(&run.gateway).await;
        run.percent(percent + 5).await;
        faults.shift_clock(hours * HOUR);
        run.percent(percent + 10).await;
        run.line.mend().await;
        status::online(&run.gateway).await;
    }
    run.arrives().await;
}

#[tokio::test]
async fn a_gateway_that_starts_in_1970_and_is_killed_loses_nothing_once_its_clock_is_set() {
    let (cloud, faults) = (Mosquitto::start(KEEPS).await, Faults::new());
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    faults.shift_clock(HOUR - since_1970.as_millis() as i64);
    faults.clock_is_set(false);
    let mut run = Run::start(&cloud, Setup { wrapper: faults.wrapper(), ..Setup::default() }).await;
    run.percent(10).await;
    run.line.cut().await;
    status::offline(&run.gateway).await;
    run.percent(30).await;
    run.kill().await;
    run.percent(50).await;
    faults.shift_clock(0);
    faults.clock_is_set(true);
    run.percent(60).await;
    run.kill().await;
    run.line.mend().await;
    run.arrives().await;
}
