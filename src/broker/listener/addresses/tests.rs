//! Who is delayed by wrong passwords, and who is not.

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn look(addresses: &Addresses, from: &str, user: &str, right: bool) -> Result<Duration, Unseen> {
    let start = Instant::now();
    let found = async { if right { Ok(()) } else { Err(()) } };
    addresses.look(ip(from), user, found).await.map(|_| start.elapsed())
}

async fn wrong(addresses: &Addresses, from: &str, user: &str) -> Result<Duration, Unseen> {
    look(addresses, from, user, false).await
}

#[tokio::test(start_paused = true)]
async fn wrong_passwords_delay_their_user_at_their_address_more_and_more_and_no_other() {
    let addresses = Addresses::new(0);
    for _ in 0..=FREE {
        assert_eq!(wrong(&addresses, "2001:db8::1", "ada").await, Ok(Duration::ZERO));
    }
    for millis in [500, 1000, 2000, 4000, 8000, 8000] {
        let took = wrong(&addresses, "2001:db8::2:1", "ada").await.unwrap();
        assert_eq!(took.as_millis(), millis, "the whole /64 is one");
    }
    for (from, user) in [("2001:db8:0:1::1", "ada"), ("127.0.0.1", "ada"), ("2001:db8::1", "bob")] {
        assert_eq!(look(&addresses, from, user, true).await, Ok(Duration::ZERO), "{from} {user}");
    }
    // Another's right password does not let this one guess on.
    assert_eq!(wrong(&addresses, "2001:db8::1", "ada").await, Ok(Duration::from_secs(8)));
    // The right one is let in, in its turn, and all is well again.
    assert_eq!(look(&addresses, "2001:db8::1", "ada", true).await, Ok(Duration::from_secs(8)));
    assert_eq!(wrong(&addresses, "2001:db8::1", "ada").await, Ok(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn who_tries_many_names_is_delayed_and_who_was_in_before_is_not() {
    let addresses = Addresses::new(0);
    assert_eq!(look(&addresses, "192.0.2.1", "ada", true).await, Ok(Duration::ZERO));
    for n in 0..64 {
        assert_eq!(wrong(&addresses, "192.0.2.1", &n.to_string()).await, Ok(Duration::ZERO));
    }
    assert!(wrong(&addresses, "192.0.2.1", "eve").await.unwrap() >= ONE_MORE);
    assert_eq!(look(&addresses, "192.0.2.1", "ada", true).await, Ok(Duration::ZERO));
    assert!(look(&addresses, "192.0.2.1", "bob", true).await.unwrap() >= ONE_MORE);
    assert_eq!(look(&addresses, "192.0.2.2", "bob", true).await, Ok(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn many_at_once_do_not_get_around_it_nor_hold_up_others_there() {
    let addresses = Arc::new(Addresses::new(0));
    let tries: Vec<_> = (0..60)
        .map(|_| {
            let addresses = addresses.clone();
            tokio::spawn(async move { wrong(&addresses, "192.0.2.1", "ada").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(look(&addresses, "192.0.2.1", "bob", true).await, Ok(Duration::ZERO));
    let mut looked = 0;
    for one in tries {
        let found = one.await.unwrap();
        looked += u32::from(found.is_ok());
        assert!(found.is_ok() || found == Err(Unseen::TooManyWrong));
    }
    assert_eq!(looked, FREE + 1 + 4, "those that came in time: after 0.5, 1.5, 3.5 and 7.5 s");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_of_an_address_wait() {
    let addresses = Arc::new(Addresses::new(0));
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok::<_, ()>(())
    };
    let tries: Vec<_> = (0..100)
        .map(|n| {
            let (addresses, slow) = (addresses.clone(), slow());
            tokio::spawn(async move { addresses.look(ip("192.0.2.1"), &n.to_string(), slow).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(tries.iter().filter(|one| one.is_finished()).count(), 100 - MOST_WAITING as usize);
    assert_eq!(look(&addresses, "192.0.2.2", "ada", true).await, Ok(Duration::ZERO), "another address has room");
    let mut busy = 0;
    for one in tries {
        busy += u32::from(one.await.unwrap() == Err(Unseen::Busy));
    }
    assert_eq!(busy, 99, "one had its turn");
    assert_eq!(look(&addresses, "192.0.2.1", "ada", true).await, Ok(Duration::ZERO), "all have left");
}

#[tokio::test(start_paused = true)]
async fn an_address_may_connect_so_often_whatever_else_it_does() {
    let addresses = Addresses::new(5);
    let tries = |from: &str| (0..100).filter(|_| addresses.may_connect(ip(from))).count();
    assert_eq!(tries("192.0.2.1"), 50);
    assert_eq!(tries("::ffff:192.0.2.1"), 0, "the same");
    assert_eq!(tries("192.0.2.2"), 50);
    assert_eq!(tries("127.0.0.1"), 100);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(look(&addresses, "192.0.2.1", "ada", true).await, Ok(Duration::ZERO));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(tries("192.0.2.1"), 10);
}
