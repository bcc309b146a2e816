//! The loop over both connections: what arrives on one side goes out on the other.

use std::num::NonZeroU16;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Uplink;
use super::mqtt::{Cloud, status};
use super::pipe::{Out, Pipe};
use crate::broker::Link;
use crate::mqtt::wire::Error;
use crate::mqtt::{Packet, Reason};

/// How often the status is reported and the connection looked at.
const TICK: Duration = Duration::from_millis(500);

/// How long the cloud may owe an acknowledgement before the connection counts as dead, besides what the way takes.
pub(super) const STUCK: Duration = Duration::from_secs(20);

/// The slowest way that is one, in bytes a second: a poor radio link. What is under way may take that long.
const SLOWEST: u64 = 1024;

/// How long an end may take: to finish what is under way, and again to leave.
const GRACE: Duration = Duration::from_secs(2);

/// When the connection was last used, in both directions.
struct Life {
    /// None when the cloud wants no keep alive.
    keep_alive: Option<Duration>,
    sent: Instant,
    received: Instant,
    pinged: Instant,
}

impl Uplink {
    /// Carries over one connection to the cloud, until `stop`.
    ///
    /// # Errors
    /// Why the connection ended.
    pub(super) async fn carry(&self, cloud: Cloud, pipe: &mut Pipe, stop: &CancellationToken) -> Result<(), String> {
        let Cloud { mut reader, mut writer, ack, early } = cloud;
        let window = ack.receive_maximum.min(NonZeroU16::new(self.config.window).unwrap_or(NonZeroU16::MAX));
        let gone = || "the local broker closed its connection".to_owned();
        let (mut link, waiting) = self.open(window).await.ok_or_else(gone)?;
        self.up();

        let mut life =
            Life::new(ack.server_keep_alive.map_or(self.config.keep_alive.0, |s| Duration::from_secs(s.into())));
        let mut out = Out::default();
        pipe.connected(&ack, &mut out);
        early.into_iter().try_for_each(|packet| pipe.cloud_sent(packet, &mut out))?;
        if let Err(why) = waiting.into_iter().try_for_each(|packet| pipe.local_sent(packet, &mut out)) {
            return self.lost(pipe, &link, why).await;
        }

        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Something may be unsent: in the buffer, or in that of TLS behind it.
        let mut unsent = false;
        let mut end = None;
        loop {
            while !out.local.is_empty() || !out.cloud.is_empty() {
                for packet in std::mem::take(&mut out.cloud) {
                    match (writer.queue(&packet), &packet) {
                        (Ok(()), _) => unsent = true,
                        (Err(Error::TooLarge), Packet::Publish(publish)) => pipe.too_large(publish, &mut out),
                        (Err(e), _) => return self.lost(pipe, &link, e.to_string()).await,
                    }
                }
                let packets = std::mem::take(&mut out.local);
                if !packets.is_empty() && !link.send(packets).await {
                    return Err(gone());
                }
            }
            if end.is_some_and(|end| Instant::now() >= end || !pipe.in_flight()) {
                break;
            }
            tokio::select! {
                () = stop.cancelled(), if end.is_none() => {
                    end = Some(Instant::now() + GRACE);
                    pipe.drain();
                }
                packets = reader.recv() => match packets {
                    Ok(packets) => {
                        life.received = Instant::now();
                        for packet in packets {
                            if let Err(why) = pipe.cloud_sent(packet, &mut out) {
                                // What was acknowledged before the end counts.
                                link.send(std::mem::take(&mut out.local)).await;
                                return self.lost(pipe, &link, why).await;
                            }
                        }
                    }
                    Err(e) => return self.lost(pipe, &link, e.to_string()).await,
                },
                // A cloud that does not keep up is not sent more.
                () = sleep_until(pipe.next_at().unwrap_or(life.sent)), if !unsent && pipe.next_at().is_some() => {
                    pipe.go_on(&mut out);
                }
                packets = link.recv(), if !unsent && pipe.has_room() => match packets {
                    Some(packets) => {
                        if let Err(why) = packets.into_iter().try_for_each(|packet| pipe.local_sent(packet, &mut out)) {
                            return self.lost(pipe, &link, why).await;
                        }
                    }
                    None => return Err(gone()),
                },
                flushed = writer.flush(), if unsent => match flushed {
                    Ok(()) => {
                        unsent = false;
                        life.sent = Instant::now();
                    }
                    Err(e) => return self.lost(pipe, &link, e.to_string()).await,
                },
                _ = tick.tick() => {
                    self.pulse.beat();
                    self.report(pipe);
                    if let Some(why) = life.over(pipe) {
                        return self.lost(pipe, &link, why).await;
                    }
                    pipe.offer_again(&mut out);
                    if life.ping_is_due() {
                        out.cloud.push(Packet::PingReq);
                    }
                }
            }
        }
        self.report(pipe);
        self.leave(&link).await;

        // A will is for those who vanish: an orderly end is said in so many words.
        let end = Instant::now() + GRACE;
        let offline = self.identity.status(false).map(|message| status(message, &ack, pipe.free_id()));
        let goodbye = Packet::Disconnect { reason: Reason::SUCCESS, expiry: None };
        for packet in offline.iter().chain([&goodbye]) {
            // It is as small as what was sent when the connection began.
            let _ = writer.queue(packet);
        }
        // The cloud closes when it has read all; an end before that could take the last packets with it.
        let _ = timeout_at(end, async {
            let _ = writer.flush().await;
            let _ = writer.shutdown().await;
            while reader.recv().await.is_ok() {}
        })
        .await;
        self.down("stopped");
        Ok(())
    }

    /// The cloud is gone: from here on the queue grows.
    async fn lost(&self, pipe: &Pipe, link: &Link, why: String) -> Result<(), String> {
        self.report(pipe);
        self.leave(link).await;
        Err(why)
    }

    async fn leave(&self, link: &Link) {
        link.send(vec![Packet::Disconnect { reason: Reason::SUCCESS, expiry: None }]).await;
    }

    fn report(&self, pipe: &Pipe) {
        let tally = pipe.tally;
        self.status.send_if_modified(|status| {
            let before = (status.sent, status.received, status.refused, status.acknowledged);
            let now = (tally.sent, tally.received, tally.refused, tally.acknowledged);
            (status.sent, status.received, status.refused, status.acknowledged) = now;
            status.newest = tally.newest;
            before != now
        });
    }
}

impl Life {
    fn new(keep_alive: Duration) -> Self {
        let now = Instant::now();
        let keep_alive = (!keep_alive.is_zero()).then_some(keep_alive);
        Self { keep_alive, sent: now, received: now, pinged: now }
    }

    /// Whether the cloud waits for a sign of us, or we for one of it.
    fn ping_is_due(&mut self) -> bool {
        let Some(keep_alive) = self.keep_alive else { return false };
        let due = self.sent.min(self.received).max(self.pinged) + keep_alive.saturating_sub(TICK);
        let due = Instant::now() >= due;
        if due {
            self.pinged = Instant::now();
        }
        due
    }

    /// Why the connection counts as dead, if it does.
    fn over(&self, pipe: &Pipe) -> Option<String> {
        // A ping and its answer wait behind what is under way as well.
        let way = Duration::from_secs(pipe.under_way() as u64 / SLOWEST);
        if let Some(keep_alive) = self.keep_alive
            && self.received.elapsed() >= keep_alive.mul_f64(1.5) + way
        {
            return Some(format!("no sign of the cloud for {} s", self.received.elapsed().as_secs()));
        }
        let owed = pipe.waiting_since().filter(|since| since.elapsed() >= STUCK + way)?;
        Some(format!("the cloud acknowledges nothing for {} s", owed.elapsed().as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::advance;

    use super::*;
    use crate::message::{Message, QoS};
    use crate::mqtt::{Ack, PacketId, Publish};
    use crate::uplink::rules::Rule;

    const SECOND: Duration = Duration::from_secs(1);

    fn sent(bytes: usize) -> Pipe {
        let rule = Rule { filter: "#".into(), strip: String::new(), prefix: String::new(), qos: QoS::AtLeastOnce };
        let mut pipe = Pipe::new([rule].into(), [].into(), false);
        let publish = Publish {
            id: Some(PacketId::MIN),
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            message: Arc::new(Message::new("a", vec![0; bytes])),
            topic_alias: None,
            subscription_ids: Vec::new(),
            place: None,
        };
        pipe.local_sent(Packet::Publish(publish), &mut Out::default()).expect("it goes up");
        pipe
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_way_is_given_the_time_that_it_takes() {
        // 200 KiB over 64 kbit/s take 26 s.
        let (small, large, life) = (sent(10), sent(200 << 10), Life::new(Duration::ZERO));
        advance(20 * SECOND).await;
        assert!(life.over(&small).is_some_and(|why| why.contains("acknowledges nothing for 20 s")));
        assert_eq!(life.over(&large), None);
        advance(199 * SECOND).await;
        assert_eq!(life.over(&large), None);
        advance(SECOND).await;
        assert!(life.over(&large).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_to_a_ping_may_wait_behind_what_is_under_way() {
        let (mut large, life) = (sent(200 << 10), Life::new(4 * SECOND));
        advance(10 * SECOND).await;
        assert_eq!(life.over(&large), None);
        let acknowledged = Packet::PubAck(Ack::ok(PacketId::MIN));
        large.cloud_sent(acknowledged, &mut Out::default()).expect("it goes on");
        assert!(life.over(&large).is_some_and(|why| why.contains("no sign of the cloud")));
    }
}
