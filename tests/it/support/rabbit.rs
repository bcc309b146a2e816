//! A cluster of RabbitMQ nodes, each a process of its own, with its own port for MQTT and its own files.
//!
//! There are three: the MQTT plugin admits a client only while most of the nodes know of it (it keeps the list of client
//! ids by Raft), so of two nodes neither could go away. Queues are mirrored to all nodes: one that lived on a single node
//! would be gone with it, and what is published for it meanwhile lost, acknowledged or not.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::{Process, port};

/// Starting a node takes this long at most.
const START: Duration = Duration::from_secs(120);

/// The cluster. It ends with this.
#[derive(Debug)]
pub struct RabbitCluster {
    nodes: Vec<Node>,
    /// By which the nodes find each other; not the system's own.
    _names: Process,
    folder: TempDir,
    names_port: u16,
}

#[derive(Debug)]
struct Node {
    process: Process,
    mqtt: u16,
    distribution: u16,
}

const NODES: usize = 3;

impl RabbitCluster {
    /// Starts it, and waits until each node takes clients.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names_port = port::free();
        let mut command = Command::new("epmd");
        command.args(["-port", &names_port.to_string(), "-address", "127.0.0.1"]);
        let names = Process::start("epmd", &mut command);
        assert!(port::answers(names_port, Duration::from_secs(10)).await, "epmd does not start\n{}", names.log());

        // Of all nodes, as any may be the first to know it: whoever wants may connect, and all queues are mirrored.
        let policy = r#"{"vhost":"/","name":"all","pattern":".*","apply-to":"queues","priority":0,
            "definition":{"ha-mode":"all","ha-sync-mode":"automatic","ha-promote-on-shutdown":"always"}}"#;
        let rights = r#"{"user":"guest","vhost":"/","configure":".*","write":".*","read":".*"}"#;
        let definitions = format!(
            r#"{{"vhosts":[{{"name":"/"}}],"users":[{{"name":"guest","password":"guest","tags":[]}}],
            "permissions":[{rights}],"policies":[{policy}]}}"#
        );
        write(folder.path(), "definitions.json", &definitions);
        write(folder.path(), "plugins", "[rabbitmq_mqtt].");
        write(folder.path(), "environment", "");
        let mut cluster = Self { nodes: Vec::new(), _names: names, folder, names_port };
        // One after the other: nodes that begin at the same time may not agree on who has the clients' ids.
        for n in 0..NODES {
            let (mqtt, distribution) = (port::free(), port::free());
            cluster.configure(n, mqtt);
            let process = Process::start("rabbitmq", &mut cluster.command(n, distribution));
            cluster.nodes.push(Node { process, mqtt, distribution });
            cluster.takes_clients(n).await;
        }
        cluster
    }

    /// The port of node `n`.
    pub fn port(&self, n: usize) -> u16 {
        self.nodes[n].mqtt
    }

    /// Ends node `n` as a power cut does.
    pub async fn kill(&mut self, n: usize) {
        self.nodes[n].process.kill().await;
    }

    /// Ends node `n` in peace.
    pub async fn stop(&mut self, n: usize) {
        self.nodes[n].process.stop().await;
    }

    /// Starts it again, and waits until it takes clients.
    pub async fn start_again(&mut self, n: usize) {
        let mut command = self.command(n, self.nodes[n].distribution);
        self.nodes[n].process.start_again(&mut command);
        self.takes_clients(n).await;
    }

    fn configure(&self, n: usize, mqtt: u16) {
        let folder = self.folder.path();
        std::fs::create_dir(folder.join(n.to_string())).unwrap();
        let mut config = format!(
            "listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}\nmqtt.allow_anonymous = true\n\
             log.console = true\nlog.console.level = warning\nlog.file = false\nload_definitions = {}\n\
             cluster_formation.peer_discovery_backend = classic_config\n",
            folder.join("definitions.json").display()
        );
        for n in 0..NODES {
            config += &format!("cluster_formation.classic_config.nodes.{} = {}\n", n + 1, name(n));
        }
        write(folder, &format!("{n}/rabbitmq.conf"), &config);
    }

    fn command(&self, n: usize, distribution: u16) -> Command {
        let folder = self.folder.path();
        let own = folder.join(n.to_string());
        let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
        command
            .env("ERL_EPMD_PORT", self.names_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("HOME", folder)
            .env("RABBITMQ_ERLANG_COOKIE", "fieldpost")
            .env("RABBITMQ_NODENAME", name(n))
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", folder.join("environment"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_CONFIG_FILE", own.join("rabbitmq.conf"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", own.join("advanced.config"))
            .env("RABBITMQ_MNESIA_BASE", own.join("data"))
            .env("RABBITMQ_LOG_BASE", own.join("log"))
            .env("RABBITMQ_PID_FILE", own.join("pid"))
            // On loopback only, with one thread, which sleeps when there is nothing to do.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}")
            // As under systemd: the script becomes the server, so that a signal reaches it.
            .env("NOTIFY_SOCKET", folder.join("nobody"));
        command
    }

    /// Waits until node `n` takes a client and acknowledges what it publishes.
    async fn takes_clients(&mut self, n: usize) {
        let end = Instant::now() + START;
        let port = self.nodes[n].mqtt.to_string();
        loop {
            let mut publish = Command::new("mosquitto_pub");
            publish.args(["-p", &port, "-q", "1", "-t", "fieldpost-test", "-m", "", "-i", "starting"]);
            let done = publish.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).status();
            if done.await.is_ok_and(|status| status.success()) {
                return;
            }
            let process = &mut self.nodes[n].process;
            let ended = process.has_ended();
            assert!(!ended && Instant::now() < end, "rabbitmq does not start (ended: {ended})\n{}", process.log());
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn name(n: usize) -> String {
    format!("fieldpost{n}@localhost")
}

fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}
