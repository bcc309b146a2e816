//! `fieldpost demo`: the whole gateway on simulated devices and a simulated cloud. Loopback only, nothing saved.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args as ClapArgs;
use tokio::net::TcpListener;

use super::run::{log, on_runtime, refuse, stop_signal};
use super::{exit, output};
use crate::config::Config;
use crate::gateway::Gateway;
use crate::simulator::{Cloud, Plant};
use crate::units::Period;

/// The config of the demo, with gaps for the ports.
const CONFIG: &str = include_str!("../../config/demo.toml");

/// The ports that are tried before any free one.
const MQTT: &str = "127.0.0.1:1883";
const PAGE: &str = "127.0.0.1:8080";

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Where MQTT clients connect [default: 127.0.0.1:1883, or any free port]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = loopback)]
    mqtt: Option<SocketAddr>,
    /// Where the page is [default: 127.0.0.1:8080, or any free port]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = loopback)]
    page: Option<SocketAddr>,
    /// How long the simulated cloud is there
    #[arg(long, value_name = "TIME", default_value = "150s")]
    cloud_up: Period,
    /// How long it is away then
    #[arg(long, value_name = "TIME", default_value = "30s")]
    cloud_down: Period,
    /// Print the config that the demo runs, with @words@ for the ports that it fills in, and end
    #[arg(long)]
    config: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    if args.config {
        return output::print(CONFIG);
    }
    log("info");
    on_runtime(async {
        match start(args).await {
            Ok((gateway, plant, cloud)) => {
                let stop = stop_signal(true);
                let code = output::print(&greeting(args, &gateway, cloud.address()));
                let ended = gateway.run(stop).await;
                plant.stop().await;
                match ended {
                    Ok(()) => code,
                    Err(why) => {
                        tracing::error!("{why}");
                        ExitCode::FAILURE
                    }
                }
            }
            Err(code) => code,
        }
    })
}

async fn start(args: &Args) -> Result<(Gateway, Plant, Cloud), ExitCode> {
    let unavailable = |what: &str, error: std::io::Error| {
        tracing::error!("the {what} cannot start: {error}");
        ExitCode::from(exit::UNAVAILABLE)
    };
    let plant = Plant::start().map_err(|e| unavailable("simulated plant", e))?;
    let cloud = Cloud::start(args.cloud_up.0, args.cloud_down.0).await;
    let cloud = cloud.map_err(|e| unavailable("simulated cloud", e))?;
    let fill = [
        ("@rtu@", plant.rtu_port().display().to_string()),
        ("@tcp@", plant.tcp_port().to_string()),
        ("@gps@", plant.gps_port().display().to_string()),
        ("@cloud@", cloud.address().to_string()),
        ("@mqtt@", address(args.mqtt, MQTT).await),
        ("@admin@", address(args.page, PAGE).await),
        ("@store@", ":memory:".to_owned()),
    ];
    let text = fill.iter().fold(CONFIG.to_owned(), |text, (gap, with)| text.replace(gap, with));
    let config = Config::parse(Path::new("demo.toml"), text).map_err(|errors| {
        super::tell(&errors);
        ExitCode::from(exit::CONFIG)
    })?;
    let gateway = Gateway::start(config).await.map_err(|error| refuse(&error))?;
    Ok((gateway, plant, cloud))
}

/// What was asked for; else the usual port, when it is free; else any.
async fn address(asked: Option<SocketAddr>, usual: &str) -> String {
    match asked {
        Some(asked) => asked.to_string(),
        None if TcpListener::bind(usual).await.is_ok() => usual.to_owned(),
        None => "127.0.0.1:0".to_owned(),
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "not an address such as 127.0.0.1:1883".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("the demo is for this machine only: 127.0.0.1".to_owned())
    }
}

fn greeting(args: &Args, gateway: &Gateway, cloud: SocketAddr) -> String {
    let (mqtt, page) = (gateway.broker_addresses()[0], gateway.page_address());
    let port = mqtt.socket.port();
    let minutes = |period: Duration| humantime::format_duration(period).to_string();
    let (every, down) = (minutes(args.cloud_up.0 + args.cloud_down.0), minutes(args.cloud_down.0));
    format!(
        "Fieldpost demo: simulated devices, the real gateway, and a simulated cloud that is away for {down} every {every}.
Nothing is saved, and nothing leaves this machine.

  Page    http://{page}/
  Broker  {mqtt}    the gateway's own
  Cloud   mqtt://{cloud}   while it is there

Open the page, and watch the queue of the uplink fill while the cloud is away and drain when it is back.
Other things to try, with the clients of Mosquitto (apt install mosquitto-clients):

  mosquitto_sub -p {port} -t 'plant/#' -v                     what the devices say
  mosquitto_sub -p {cloud_port} -t 'plant/#' -v                     what arrives in the cloud
  mosquitto_pub -p {port} -t plant/tank/pump/set -m true      switch a pump on: the tank's level rises
  mosquitto_pub -p {cloud_port} -t plant/tank/setpoint/set -m 80    the same from the cloud
  {program} demo --config    the config of all this

Ctrl-C ends it.
",
        cloud_port = cloud.port(),
        program = std::env::args().next().as_deref().unwrap_or("fieldpost"),
    )
}
