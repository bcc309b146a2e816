//! Live updates: one stream a tab, with the cells that changed.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::response::sse::Event;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::page::{Cell, Page};
use super::snapshot::{Snapshot, changed};
use super::verdict::{Tone, Verdict};
use crate::status::Board;

/// How many tabs are served at once.
const MAX_TABS: usize = 64;

/// The least time between two events to a tab.
const PACE: Duration = Duration::from_secs(1);

/// After this long without a change a tab is told so: the page takes a longer silence for a lost gateway (a power cut
/// closes no connection), and comments would not reach its script.
pub(crate) const QUIET: Duration = Duration::from_secs(15);

/// How long a laid-out page serves everybody, before a change makes a new one.
const FRESH: Duration = Duration::from_millis(400);

/// The page as it is now, laid out once for all tabs.
#[derive(Debug)]
pub(crate) struct Live {
    latest: Mutex<Latest>,
    places: Arc<Semaphore>,
}

#[derive(Debug)]
struct Latest {
    board: Board,
    page: Arc<Page>,
    at: Instant,
}

/// The events of one tab. The first carries all cells; each later one what changed, at most one a second.
#[derive(Debug)]
pub(crate) struct Tab {
    live: Arc<Live>,
    seen: Option<Arc<Page>>,
    sent: Instant,
    ticks: Interval,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
}

impl Live {
    /// The page of `board`.
    pub(crate) fn new(board: Board) -> Self {
        let page = Arc::new(Page::of(&Snapshot::take(&board)));
        let latest = Latest { board, page, at: Instant::now() };
        Self { latest: Mutex::new(latest), places: Arc::new(Semaphore::new(MAX_TABS)) }
    }

    /// The page, no older than its last change but for a moment; the same `Arc` while nothing has changed.
    pub(crate) fn page(&self) -> Arc<Page> {
        // What a panic left behind is replaced as a whole or not at all.
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(latest.at) >= FRESH && changed(&mut latest.board) {
            latest.page = Arc::new(Page::of(&Snapshot::take(&latest.board)));
            latest.at = now;
        }
        latest.page.clone()
    }

    /// A stream for a new tab, until `stop`; none when too many are open.
    pub(crate) fn tab(self: &Arc<Self>, stop: CancellationToken) -> Option<Tab> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let mut ticks = tokio::time::interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = Box::pin(stop.cancelled_owned());
        Some(Tab { live: self.clone(), seen: None, sent: Instant::now(), ticks, stop, _place: place })
    }
}

impl Tab {
    /// What to send now, if anything.
    fn news(&mut self) -> Option<Event> {
        let page = self.live.page();
        let delta = Delta::between(self.seen.as_deref(), &page);
        if delta.is_empty() && self.sent.elapsed() < QUIET {
            return None;
        }
        let text = serde_json::to_string(&delta).expect("a delta has text keys only, so it is JSON");
        self.sent = Instant::now();
        self.seen = Some(page);
        Some(Event::default().data(text))
    }
}

impl Stream for Tab {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        loop {
            ready!(self.ticks.poll_tick(cx));
            if let Some(event) = self.news() {
                return Poll::Ready(Some(Ok(event)));
            }
        }
    }
}

/// What changed from one page to a later one. The page's script reads these names.
#[derive(Debug, Serialize)]
struct Delta<'a> {
    /// The gateway's clock, in milliseconds since 1970.
    now: i64,
    /// When it started, by that clock.
    started: i64,
    version: &'a str,
    /// When it is not that of the page, rows came or went, and the page is fetched anew.
    shape: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'a Verdict>,
    /// By row id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rows: BTreeMap<&'a str, Change<'a>>,
    #[serde(skip)]
    reshaped: bool,
}

/// What changed in a row.
#[derive(Debug, Serialize)]
struct Change<'a> {
    tone: Tone,
    /// By column.
    cells: BTreeMap<usize, &'a Cell>,
}

impl<'a> Delta<'a> {
    fn between(seen: Option<&Page>, page: &'a Page) -> Self {
        let same_shape = seen.filter(|seen| seen.shape == page.shape);
        let mut rows = BTreeMap::new();
        for (t, table) in page.tables.iter().enumerate() {
            for (r, row) in table.rows.iter().enumerate() {
                let before = same_shape.map(|seen| &seen.tables[t].rows[r]);
                let differs = |&(c, cell): &(usize, &Cell)| before.is_none_or(|before| before.cells[c] != *cell);
                let cells: BTreeMap<_, _> = row.cells.iter().enumerate().filter(differs).collect();
                if !cells.is_empty() || before.is_none_or(|before| before.tone != row.tone) {
                    rows.insert(row.id.as_str(), Change { tone: row.tone, cells });
                }
            }
        }
        Self {
            now: crate::clock::Timestamp::now().0,
            started: page.started.0,
            version: page.gateway.version,
            shape: &page.shape,
            verdict: Some(&page.verdict).filter(|verdict| seen.is_none_or(|seen| seen.verdict != **verdict)),
            rows,
            reshaped: same_shape.is_none(),
        }
    }

    fn is_empty(&self) -> bool {
        !self.reshaped && self.verdict.is_none() && self.rows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::board;
    use super::*;
    use crate::reading::Value;
    use tokio_stream::StreamExt as _;

    async fn next(tab: &mut Tab) {
        let _event = tab.next().await.expect("a tab does not end by itself").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn many_changes_make_one_event_a_second() {
        let (board, parts) = board();
        let mut tab = Arc::new(Live::new(board)).tab(CancellationToken::new()).unwrap();
        next(&mut tab).await;
        let began = Instant::now();
        tokio::spawn(async move {
            for i in 0..100_u8 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                parts.points.send_modify(|points| points[0].value = Value::Int(i.into()));
            }
            std::future::pending::<()>().await;
        });
        for _ in 0..5 {
            next(&mut tab).await;
        }
        assert_eq!(began.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_gateway_still_gives_a_sign_of_life() {
        let (board, _parts) = board();
        let mut tab = Arc::new(Live::new(board)).tab(CancellationToken::new()).unwrap();
        next(&mut tab).await;
        let began = Instant::now();
        next(&mut tab).await;
        assert_eq!(began.elapsed().as_secs(), QUIET.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn tabs_are_bounded_and_a_closed_one_makes_room() {
        let (board, _parts) = board();
        let live = Arc::new(Live::new(board));
        let mut tabs: Vec<_> = (0..MAX_TABS).map(|_| live.tab(CancellationToken::new()).unwrap()).collect();
        assert!(live.tab(CancellationToken::new()).is_none());
        tabs.pop();
        assert!(live.tab(CancellationToken::new()).is_some());
    }

    #[tokio::test]
    async fn a_row_that_comes_changes_the_shape() {
        let (board, parts) = board();
        let before = Page::of(&Snapshot::take(&board));
        let again = Page::of(&Snapshot::take(&board));
        assert!(Delta::between(Some(&before), &again).is_empty());
        parts.points.send_modify(|points| {
            let mut point = points[0].clone();
            point.point = "current".into();
            points.push(point);
        });
        let after = Page::of(&Snapshot::take(&board));
        assert_ne!(before.shape, after.shape);
        assert!(!Delta::between(Some(&before), &after).is_empty());
    }
}
