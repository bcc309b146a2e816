//! Many gateways on one cloud: how a broker, or a cluster of them, bears their uplinks, and whether all arrives.
//!
//! ```sh
//! cargo bench --bench fleet -- --url mqtt://10.0.0.1:1883 --url mqtt://10.0.0.2:1883
//! cargo bench --bench fleet -- --url mqtts://broker.example.com:8883 --gateways 500 --rate 5 --seconds 120 \
//!     --set 'username = "load"' --set 'password = { file = "/run/load.password" }'
//! ```
//!
//! Each gateway is the real thing without wires and listeners: a broker with its store on the disk and an uplink, which
//! connects as any other, takes the URLs in turn and keeps what the cloud has not acknowledged. One more gateway, with an
//! uplink that subscribes, counts what has arrived. Messages bear numbers: what is missing at the end is lost, what comes
//! again is doubled, what comes behind a later one of its gateway is late. Kill nodes of the cluster meanwhile.

mod count;
mod gateway;

use std::error::Error;
use std::time::Duration;

use clap::Parser;
use tokio::time::{Instant, interval, sleep};

use count::Count;
use gateway::Gateway;

#[derive(Debug, Parser)]
#[command(name = "fleet")]
struct Args {
    /// Where the cloud listens: as often as it has nodes. Gateway n begins with node n
    #[arg(long)]
    url: Vec<String>,
    /// How many gateways
    #[arg(long, default_value_t = 200)]
    gateways: usize,
    /// Messages a second of each
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// How long they publish
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Bytes of a payload, at least
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// How long the last messages may take to arrive
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// The version of MQTT: 5 or 3.1.1
    #[arg(long, default_value = "5")]
    protocol: String,
    /// A line more in each [uplink], such as `ca = "ca.pem"`
    #[arg(long = "set", value_name = "LINE")]
    lines: Vec<String>,
    /// What `cargo bench` says to each of them
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    if args.url.is_empty() {
        println!("fleet: give --url for each node of the cloud; --help says more");
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let good = runtime.block_on(run(&args))?;
    // Threads of stores that nobody waits for any more.
    runtime.shutdown_background();
    if good { Ok(()) } else { Err("not everything has arrived".into()) }
}

/// Returns whether everything has arrived.
async fn run(args: &Args) -> Result<bool, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    // Another run at the same cloud, or what is retained there, is not counted.
    let run = format!("fleet/{:08x}", fastrand::u32(..));
    let lines = |n: usize, more: &str| {
        let turned: Vec<_> = (0..args.url.len()).map(|i| &args.url[(n + i) % args.url.len()]).collect();
        let own = args.lines.join("\n");
        format!("url = {turned:?}\nprotocol = \"{}\"\nstatus = \"\"\n{more}\n{own}", args.protocol)
    };
    // The cloud keeps what comes while its node is gone.
    let collector = lines(0, &format!("session = \"1h\"\nsubscribe = [{{ filter = \"{run}/#\", qos = 1 }}]"));
    let collector = Gateway::start(folder.path(), "collector", &collector).await?;
    collector.connected(Duration::from_secs(30)).await?;
    let start = Instant::now();
    let count = Count::start(&collector, &run, args.gateways, start).await;
    // What the cloud has subscribed a moment ago need not be so at all its nodes yet.
    sleep(Duration::from_secs(1)).await;

    let mut gateways = Vec::new();
    for n in 0..args.gateways {
        let config = lines(n, &format!("publish = [\"{run}/#\"]"));
        gateways.push(Gateway::start(folder.path(), &format!("{n}"), &config).await?);
    }
    eprintln!("{} gateways are started in {:.1} s", gateways.len(), start.elapsed().as_secs_f64());
    let connecting = Instant::now();
    for gateway in &gateways {
        gateway.connected(Duration::from_secs(60)).await?;
    }
    eprintln!("and connected {:.1} s later", connecting.elapsed().as_secs_f64());

    let each = (args.rate * args.seconds as f64).round().max(1.0) as u32;
    let begun = Instant::now();
    let publishing: Vec<_> = (0..gateways.len())
        .map(|n| {
            let (broker, topic) = (gateways[n].broker().clone(), format!("{run}/{n}"));
            let every = Duration::from_secs_f64(1.0 / args.rate);
            let offset = every.mul_f64(n as f64 / gateways.len() as f64);
            tokio::spawn(gateway::publish(broker, topic, each, (offset, every), args.size, start))
        })
        .collect();
    let total = u64::from(each) * gateways.len() as u64;
    let end = begun + Duration::from_secs(args.seconds + args.patience);
    let mut tell = interval(Duration::from_secs(5));
    tell.tick().await;
    while count.arrived() < total && Instant::now() < end {
        tokio::select! {
            _ = tell.tick() => {
                let up = gateways.iter().filter(|gateway| gateway.is_up()).count();
                eprintln!("{:>4.0} s: {} of {total} arrived, {up} connected", begun.elapsed().as_secs_f64(), count.arrived());
            }
            () = sleep(Duration::from_millis(50)) => {}
        }
    }
    let took = begun.elapsed().as_secs_f64();
    for publisher in publishing {
        publisher.await?;
    }
    let (reconnects, counted) = (gateways.iter().map(Gateway::reconnects).sum::<u64>(), count.read());
    let lost = total - counted.arrived;
    println!("gateways         {}", gateways.len());
    println!("messages         {total}, {} bytes each", args.size);
    println!("arrived          {}, {:.0} a second", counted.arrived, counted.arrived as f64 / took);
    println!("latency          p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms", counted.p50, counted.p99, counted.most);
    println!("reconnects       {reconnects}, and {} of who counts", collector.reconnects());
    println!("doubled          {}", counted.doubled);
    println!("late             {}", counted.late);
    println!("lost             {lost}");
    Ok(lost == 0)
}
