//! The loop over both connections: what arrives on one side goes out on the other.

use std::num::NonZeroU16;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Uplink;
use super::end::End;
use super::life::Life;
use super::login::{Cloud, status};
use super::pipe::{Out, Pipe, Tally};
use crate::broker::Link;
use crate::mqtt::wire::Error;
use crate::mqtt::{Packet, Reason, RetainHandling};

/// How often the status is reported and the connection looked at.
const TICK: Duration = Duration::from_millis(500);

/// How long an end may take: to finish what is under way, and again to leave.
const GRACE: Duration = Duration::from_secs(2);

impl Uplink {
    /// Carries over one connection to the cloud, until `stop`.
    ///
    /// # Errors
    /// Why the connection ended.
    pub(super) async fn carry(&self, cloud: Cloud, pipe: &mut Pipe, stop: &CancellationToken) -> Result<(), End> {
        let Cloud { mut reader, mut writer, traffic, ack, early, echoes, retained } = cloud;
        let window = ack.receive_maximum.min(NonZeroU16::new(self.config.window).unwrap_or(NonZeroU16::MAX));
        let gone = || End::from("the local broker closed its connection".to_owned());
        let (mut link, waiting) = self.open(window, retained).await.ok_or_else(gone)?;
        self.up();

        let keep_alive = ack.server_keep_alive.map_or(self.config.keep_alive.0, |s| Duration::from_secs(s.into()));
        let mut life = Life::new(keep_alive, self.config.stuck.0, TICK);
        let mut out = Out::default();
        pipe.connected(&ack, echoes, &mut out);
        let begun = early.into_iter().try_for_each(|packet| pipe.cloud_sent(packet, &mut out));
        let begun = begun.and_then(|()| {
            let mut waiting = waiting.into_iter();
            waiting.try_for_each(|packet| pipe.local_sent(packet, &mut out)).map_err(End::from)
        });
        if let Err(end) = begun {
            return self.lost(pipe, &link, end).await;
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
                        (Err(e), _) => return self.lost(pipe, &link, e.into()).await,
                    }
                }
                let packets = std::mem::take(&mut out.local);
                if !packets.is_empty() && !link.send(packets).await {
                    return Err(gone());
                }
            }
            if end.is_some_and(|end| Instant::now() >= end || pipe.flight().is_empty()) {
                break;
            }
            tokio::select! {
                () = stop.cancelled(), if end.is_none() => {
                    end = Some(Instant::now() + GRACE);
                    pipe.drain();
                }
                packets = reader.recv() => match packets {
                    Ok(packets) => {
                        for packet in packets {
                            if let Err(end) = pipe.cloud_sent(packet, &mut out) {
                                // What was acknowledged before the end counts.
                                link.send(std::mem::take(&mut out.local)).await;
                                return self.lost(pipe, &link, end).await;
                            }
                        }
                    }
                    Err(e) => return self.lost(pipe, &link, e.into()).await,
                },
                // A cloud that does not keep up is not sent more.
                () = sleep_until(pipe.next_at().unwrap_or(life.sent)), if !unsent && pipe.next_at().is_some() => {
                    pipe.go_on(&mut out);
                }
                packets = link.recv(), if !unsent => match packets {
                    Some(packets) => {
                        if let Err(why) = packets.into_iter().try_for_each(|packet| pipe.local_sent(packet, &mut out)) {
                            return self.lost(pipe, &link, why.into()).await;
                        }
                    }
                    None => return Err(gone()),
                },
                flushed = writer.flush(), if unsent => match flushed {
                    Ok(()) => {
                        unsent = false;
                        life.sent = Instant::now();
                    }
                    Err(e) => return self.lost(pipe, &link, e.into()).await,
                },
                () = self.republish.notified(), if end.is_none() => {
                    if let Some(subscribe) = self.subscribe(RetainHandling::Send) {
                        tracing::info!("uplink {}: what is retained here goes up", self.name);
                        out.local.push(Packet::Subscribe(Box::new(subscribe)));
                    }
                }
                _ = tick.tick() => {
                    self.pulse.beat();
                    self.report(pipe);
                    life.look(&traffic, unsent);
                    if let Some(why) = life.over(pipe.flight()) {
                        return self.lost(pipe, &link, why.into()).await;
                    }
                    pipe.flow(&mut out);
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
    async fn lost(&self, pipe: &mut Pipe, link: &Link, end: End) -> Result<(), End> {
        pipe.ended(&end);
        self.report(pipe);
        self.leave(link).await;
        Err(end)
    }

    async fn leave(&self, link: &Link) {
        link.send(vec![Packet::Disconnect { reason: Reason::SUCCESS, expiry: None }]).await;
    }

    fn report(&self, pipe: &Pipe) {
        let Tally { sent, received, aside, pauses, acknowledged, newest } = &pipe.tally;
        let refused = aside.values().sum();
        self.status.send_if_modified(|status| {
            let before = (status.sent, status.received, status.refused, status.pauses, status.acknowledged);
            let now = (*sent, *received, refused, *pauses, *acknowledged);
            (status.sent, status.received, status.refused, status.pauses, status.acknowledged) = now;
            status.newest = *newest;
            if before.2 != refused {
                status.aside.clone_from(aside);
            }
            before != now
        });
    }
}
