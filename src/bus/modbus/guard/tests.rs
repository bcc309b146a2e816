//! The guard against devices that answer late, short, long, damaged or twice.

use super::*;
use crate::bus::Table;
use crate::bus::modbus::crc16;
use tokio::io::{DuplexStream, duplex};

const PATIENCE: Duration = Duration::from_millis(200);

#[test]
fn crc_of_the_standard_check_value() {
    assert_eq!(crc16(b"123456789"), 0x4B37);
}

/// What the scripted device does with its right answer.
type Trick = fn(Vec<u8>) -> Vec<(u64, Vec<u8>)>;

/// An answer in two parts, or twice, or damaged: what to send, each after so many milliseconds.
const TRICKS: &[(&str, Trick)] = &[
    ("right", |a| vec![(0, a)]),
    ("late by a little", |a| vec![(230, a)]),
    ("late by almost two timeouts", |a| vec![(390, a)]),
    ("short", |a| vec![(0, a[..a.len() - 1].to_vec())]),
    ("short, the rest late", |a| vec![(0, a[..4].to_vec()), (300, a[4..].to_vec())]),
    ("long", |a| {
        let mut long = a[..a.len() - 2].to_vec();
        long[2] += 2;
        long.extend([0, 0]);
        let crc = crc16(&long);
        long.extend(crc.to_le_bytes());
        vec![(0, long)]
    }),
    ("another unit's", |mut a| {
        a[0] += 1;
        let end = a.len() - 2;
        let crc = crc16(&a[..end]);
        a[end..].copy_from_slice(&crc.to_le_bytes());
        vec![(0, a)]
    }),
    ("a wrong CRC", |mut a| {
        a[4] ^= 0x10;
        vec![(0, a)]
    }),
    ("a wrong CRC, the right one late", |a| {
        let mut bad = a.clone();
        bad[4] ^= 0x10;
        vec![(0, bad), (150, a)]
    }),
    ("noise before", |a| vec![(0, [&[0xFF, 1, 3][..], &a].concat())]),
    ("noise, then the answer", |a| vec![(0, vec![1, 3, 4, 0, 0]), (10, a)]),
    ("twice", |a| vec![(0, a.clone()), (0, a)]),
    ("nothing", |_| vec![]),
    ("an exception", |a| {
        let mut frame = vec![a[0], a[1] | 0x80, 2];
        frame.extend(crc16(&frame).to_le_bytes());
        vec![(0, frame)]
    }),
];

/// A device that answers the nth request with n in its registers, by the nth trick.
async fn tricky_device(mut wire: DuplexStream, tricks: Vec<Trick>) {
    let mut request = [0; 8];
    for (n, trick) in tricks.into_iter().enumerate() {
        wire.read_exact(&mut request).await.unwrap();
        assert_eq!(crc16(&request), 0, "request {n} is a whole frame");
        let mut answer = vec![request[0], request[1], 4];
        answer.extend((n as u32).to_be_bytes());
        answer.extend(crc16(&answer).to_le_bytes());
        let start = Instant::now();
        for (after, bytes) in trick(answer) {
            sleep_until(start + Duration::from_millis(after)).await;
            wire.write_all(&bytes).await.unwrap();
        }
    }
}

fn guard(framing: Framing) -> (Guard<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(4096);
    let pace = Pace { character: Duration::from_micros(1042), silence: Duration::from_millis(4) };
    let pace = if framing == Framing::Rtu { pace } else { Pace::default() };
    (Guard::new(ours, framing, pace, Stillness::coarse()), theirs)
}

fn two_registers() -> Request {
    Request::Read { table: Table::Holding, address: 0, count: 2 }
}

/// Asks as often as there are tricks; says how many were answered, and fails on any value that is not its own.
async fn ask_all(tricks: Vec<Trick>) -> Vec<Result<(), Fault>> {
    let (mut guard, theirs) = guard(Framing::Rtu);
    let count = tricks.len();
    let device = tokio::spawn(tricky_device(theirs, tricks));
    let mut results = Vec::new();
    for n in 0..count {
        let result = guard.ask(1, &two_registers(), PATIENCE).await;
        if let Ok(answer) = &result {
            let own = vec![(n >> 16) as u16, n as u16];
            assert_eq!(*answer, Answer::Registers(own), "request {n} got the answer of another");
        }
        results.push(result.map(drop));
    }
    device.abort();
    results
}

#[tokio::test(start_paused = true)]
async fn each_fault_is_told_and_no_stale_answer_passes() {
    for (name, trick) in TRICKS {
        // Every second answer is right: what the fault left behind meets a request that works.
        let right = TRICKS[0].1;
        let tricks = (0..300).map(|n| if n % 2 == 0 { *trick } else { right }).collect();
        let results = ask_all(tricks).await;
        let (faulty, fine): (Vec<_>, Vec<_>) = results.iter().enumerate().partition(|(n, _)| n % 2 == 0);
        assert!(fine.iter().all(|(_, result)| result.is_ok()), "{name}: {fine:?}");
        let as_told = |result: &Result<(), Fault>| match *name {
            "right" | "noise before" | "noise, then the answer" | "twice" => result.is_ok(),
            "late by a little" | "late by almost two timeouts" | "nothing" => *result == Err(Fault::Timeout),
            "an exception" => *result == Err(Fault::Exception(2)),
            _ => matches!(result, Err(Fault::Frame(_))),
        };
        assert!(faulty.iter().all(|(_, result)| as_told(result)), "{name}: {faulty:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn faults_in_any_order_let_no_stale_answer_pass() {
    fastrand::seed(7);
    let tricks: Vec<Trick> = (0..2000).map(|_| TRICKS[fastrand::usize(..TRICKS.len())].1).collect();
    let answered = ask_all(tricks).await.iter().filter(|result| result.is_ok()).count();
    assert!(answered > 400, "{answered} of 2000");
}

#[tokio::test(start_paused = true)]
async fn a_late_unit_does_not_keep_another_waiting() {
    let (mut guard, mut theirs) = guard(Framing::Rtu);
    assert_eq!(guard.ask(1, &two_registers(), PATIENCE).await, Err(Fault::Timeout));
    let late = guard.late_until(1).unwrap();
    let asked = Instant::now();
    theirs.write_all(&[1, 3, 4, 0, 0]).await.unwrap();
    let device = tokio::spawn(async move {
        theirs.read_exact(&mut [0; 16]).await.unwrap();
        let mut answer = vec![2, 3, 4, 0, 7, 0, 8];
        answer.extend(crc16(&answer).to_le_bytes());
        theirs.write_all(&answer).await.unwrap();
        theirs
    });
    assert_eq!(guard.ask(2, &two_registers(), PATIENCE).await, Ok(Answer::Registers(vec![7, 8])));
    assert!(asked.elapsed() < Duration::from_millis(20) && Instant::now() < late);
    device.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn frames_are_kept_apart_by_silence() {
    let (mut guard, theirs) = guard(Framing::Rtu);
    let device = tokio::spawn(tricky_device(theirs, vec![TRICKS[0].1; 2]));
    guard.ask(1, &two_registers(), PATIENCE).await.unwrap();
    let answered = guard.last;
    guard.ask(1, &two_registers(), PATIENCE).await.unwrap();
    assert!(guard.last - answered >= guard.pace.silence);
    device.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_babbling_line_is_given_up() {
    let (mut guard, mut theirs) = guard(Framing::Rtu);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            theirs.write_all(&[0x55; 16]).await.unwrap();
        }
    });
    let asked = Instant::now();
    let fault = guard.ask(1, &two_registers(), PATIENCE).await;
    assert!(matches!(fault, Err(Fault::Frame(_))), "{fault:?}");
    assert!(asked.elapsed() < 2 * PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn a_closed_wire_is_spent() {
    for framing in [Framing::Rtu, Framing::RtuOverTcp, Framing::Mbap] {
        let (mut guard, theirs) = guard(framing);
        drop(theirs);
        assert!(matches!(guard.ask(1, &two_registers(), PATIENCE).await, Err(Fault::LinkDown(_))));
        assert!(guard.is_spent());
    }
}

#[tokio::test(start_paused = true)]
async fn a_unit_may_still_speak_late_after_the_wire_broke() {
    for framing in [Framing::Rtu, Framing::RtuOverTcp] {
        let (mut guard, mut theirs) = guard(framing);
        let asked = Instant::now();
        let device = tokio::spawn(async move { theirs.read_exact(&mut [0; 8]).await });
        assert!(matches!(guard.ask(1, &two_registers(), PATIENCE).await, Err(Fault::LinkDown(_))));
        assert!(guard.late_until(1).unwrap() >= asked + PATIENCE + LATE, "{framing:?}");
        device.await.unwrap().unwrap();
    }
}

/// A line whose adapter hears itself; its device holds one register, and takes this long to answer.
async fn echoing(mut wire: DuplexStream, plugged: bool, thinks: Duration) {
    let mut request = [0; 8];
    let mut register = 7u16.to_be_bytes();
    while wire.read_exact(&mut request).await.is_ok() {
        wire.write_all(&request).await.unwrap();
        if !plugged {
            continue;
        }
        sleep_until(Instant::now() + thinks).await;
        let mut answer = vec![request[0], request[1], 2];
        if request[1] == 6 {
            register.copy_from_slice(&request[4..6]);
            answer = request[..6].to_vec();
        } else {
            answer.extend(register);
        }
        answer.extend(crc16(&answer).to_le_bytes());
        wire.write_all(&answer).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_echo_is_no_answer() {
    let read = Request::Read { table: Table::Holding, address: 0, count: 1 };
    let write = Request::WriteRegister { address: 0, value: 9 };
    let (mut unplugged, theirs) = guard(Framing::Rtu);
    tokio::spawn(echoing(theirs, false, Duration::ZERO));
    assert_eq!(unplugged.ask(1, &write, PATIENCE).await, Err(Fault::Timeout));
    assert_eq!(unplugged.ask(1, &read, PATIENCE).await, Err(Fault::Timeout));

    let (mut plugged, theirs) = guard(Framing::Rtu);
    tokio::spawn(echoing(theirs, true, 2 * STILL));
    assert_eq!(plugged.ask(1, &write, PATIENCE).await, Ok(Answer::Written), "the first of all");
    assert_eq!(plugged.ask(1, &read, PATIENCE).await, Ok(Answer::Registers(vec![9])));
    assert_eq!(plugged.echo, Some(true));
    // The device goes, the echo stays.
    let (mut guard, theirs) = guard(Framing::Rtu);
    guard.echo = Some(true);
    tokio::spawn(echoing(theirs, false, Duration::ZERO));
    assert_eq!(guard.ask(1, &write, PATIENCE).await, Err(Fault::Timeout));
}

#[tokio::test(start_paused = true)]
async fn without_an_echo_a_write_is_confirmed() {
    let (mut guard, mut theirs) = guard(Framing::Rtu);
    tokio::spawn(async move {
        let mut request = [0; 8];
        theirs.read_exact(&mut request).await.unwrap();
        let mut refusal = vec![1, request[1] | 0x80, 2];
        refusal.extend(crc16(&refusal).to_le_bytes());
        theirs.write_all(&refusal).await.unwrap();
        theirs.read_exact(&mut request).await.unwrap();
        theirs.write_all(&request).await.unwrap();
        theirs
    });
    let write = Request::WriteRegister { address: 0, value: 9 };
    assert_eq!(guard.ask(1, &write, PATIENCE).await, Ok(Answer::Written));
    assert_eq!(guard.echo, Some(false));
}

/// Answers one request over TCP with `answer`; `{transaction}` stands in its first two bytes when those are 0.
async fn over_tcp(answer: &'static [u8]) -> (Result<Answer, Fault>, bool) {
    let (mut guard, mut theirs) = guard(Framing::Mbap);
    let device = tokio::spawn(async move {
        let mut request = [0; 12];
        theirs.read_exact(&mut request).await.unwrap();
        let mut answer = answer.to_vec();
        if answer.starts_with(&[0, 0]) {
            answer[..2].copy_from_slice(&request[..2]);
        }
        theirs.write_all(&answer).await.unwrap();
        theirs
    });
    let result = guard.ask(1, &two_registers(), PATIENCE).await;
    device.await.unwrap();
    (result, guard.is_spent())
}

#[tokio::test(start_paused = true)]
async fn over_tcp_only_the_right_transaction_unit_and_size_pass() {
    let right = over_tcp(&[0, 0, 0, 0, 0, 7, 1, 3, 4, 0, 7, 0, 8]).await;
    assert_eq!(right, (Ok(Answer::Registers(vec![7, 8])), false));
    let refused = over_tcp(&[0, 0, 0, 0, 0, 3, 1, 0x83, 2]).await;
    assert_eq!(refused, (Err(Fault::Exception(2)), false));
    let wrong: [&[u8]; 6] = [
        &[9, 9, 0, 0, 0, 7, 1, 3, 4, 0, 7, 0, 8],
        &[0, 0, 0, 1, 0, 7, 1, 3, 4, 0, 7, 0, 8],
        &[0, 0, 0, 0, 0, 7, 2, 3, 4, 0, 7, 0, 8],
        &[0, 0, 0, 0, 0, 5, 1, 3, 2, 0, 7],
        &[0, 0, 0, 0, 0, 1, 1],
        &[0, 0, 0, 0, 0xFF, 0xFF, 1, 3, 4, 0, 7, 0, 8],
    ];
    for answer in wrong {
        let (result, spent) = over_tcp(answer).await;
        assert!(matches!(result, Err(Fault::Frame(_))) && spent, "{answer:?}: {result:?}");
    }
    assert_eq!(over_tcp(&[0, 0, 0, 0, 0, 7, 1]).await, (Err(Fault::Timeout), true));
    assert_eq!(over_tcp(&[]).await, (Err(Fault::Timeout), false));
}

#[tokio::test(start_paused = true)]
async fn over_tcp_late_answers_are_passed_over_and_long_silence_spends_the_connection() {
    let (mut guard, mut theirs) = guard(Framing::Mbap);
    let device = tokio::spawn(async move {
        let mut request = [0; 12];
        let mut late = Vec::new();
        for n in 1..=3u8 {
            theirs.read_exact(&mut request).await.unwrap();
            late.push([request[0], request[1], 0, 0, 0, 7, 1, 3, 4, 0, n, 0, n]);
        }
        // Two that nobody waits for any more, the second in pieces, and then the right one.
        theirs.write_all(&late.concat()[..17]).await.unwrap();
        tokio::time::sleep(PATIENCE / 4).await;
        theirs.write_all(&late.concat()[17..]).await.unwrap();
        theirs
    });
    for _ in 0..2 {
        assert_eq!(guard.ask(1, &two_registers(), PATIENCE).await, Err(Fault::Timeout));
        assert!(!guard.is_spent());
    }
    assert_eq!(guard.ask(1, &two_registers(), PATIENCE).await, Ok(Answer::Registers(vec![3, 3])));
    let _silent = device.await.unwrap();
    for n in 1..=SILENT {
        assert_eq!(guard.ask(1, &two_registers(), PATIENCE).await, Err(Fault::Timeout));
        assert_eq!(guard.is_spent(), n == SILENT);
    }
}
