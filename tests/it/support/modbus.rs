//! Modbus peers: servers and clients on libmodbus (C) and pymodbus (Python), over TCP and RTU.
//!
//! Both servers take the same arguments and print the same lines, and so do both clients; tests/it/peers has them.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::compiled::compiled;
use super::process::PATIENCE;
use super::{Process, port, python};

/// Where a peer is met.
#[derive(Clone, Debug)]
pub enum At {
    /// A TCP port on 127.0.0.1.
    Tcp(u16),
    /// A serial port, at 9600 8N1.
    Rtu(PathBuf),
}

impl At {
    fn args(&self) -> [String; 2] {
        match self {
            At::Tcp(port) => ["tcp".into(), port.to_string()],
            At::Rtu(path) => ["rtu".into(), path.to_str().unwrap().into()],
        }
    }
}

/// Which library a peer is made of.
#[derive(Clone, Copy, Debug)]
pub enum Make {
    Libmodbus,
    Pymodbus,
}

impl Make {
    fn command(self, role: &str) -> Command {
        match self {
            Make::Libmodbus => Command::new(compiled(&format!("{role}.c"), &["-I/usr/include/modbus", "-lmodbus"])),
            Make::Pymodbus => python::script(&format!("{role}.py")),
        }
    }
}

/// A server with one device, unit 1.
#[derive(Debug)]
pub struct ModbusServer {
    process: Process,
    make: Make,
    at: At,
    registers: Vec<String>,
}

impl ModbusServer {
    /// Starts one on a free TCP port. `registers` are of the form `holding:16=1,0xFFFF`.
    pub async fn tcp(make: Make, registers: &[String]) -> Self {
        Self::start(make, At::Tcp(port::free()), registers).await
    }

    /// Starts one on a serial port.
    pub async fn rtu(make: Make, path: &Path, registers: &[String]) -> Self {
        Self::start(make, At::Rtu(path.to_owned()), registers).await
    }

    async fn start(make: Make, at: At, registers: &[String]) -> Self {
        let process = Process::start(&format!("{make:?} server"), &mut command(make, &at, registers));
        let mut server = Self { process, make, at, registers: registers.to_vec() };
        assert_eq!(server.process.line().await, "ready");
        server
    }

    /// Starts it again at the same place, with the registers that it had at first.
    pub async fn start_again(&mut self) {
        self.process.start_again(&mut command(self.make, &self.at, &self.registers));
        assert_eq!(self.process.line().await, "ready");
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        match self.at {
            At::Tcp(port) => port,
            At::Rtu(_) => panic!("it is on a serial line"),
        }
    }

    /// The next write that it has carried out: `write holding 16 1 65535`.
    pub async fn write(&mut self) -> String {
        self.process.line().await
    }

    /// The process, to be frozen and killed.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn command(make: Make, at: &At, registers: &[String]) -> Command {
    let mut command = make.command("modbus_server");
    command.args(at.args()).args(registers);
    command
}

/// A client that asks and tells.
#[derive(Debug)]
pub struct ModbusClient;

impl ModbusClient {
    /// Runs these operations (see tests/it/peers/modbus_client.c) one after the other; the line that each printed.
    pub async fn run(make: Make, at: &At, operations: &[&str]) -> Vec<String> {
        let output = make.command("modbus_client").args(at.args()).args(operations).kill_on_drop(true).output();
        let output = tokio::time::timeout(PATIENCE, output).await;
        let output = output.unwrap_or_else(|_| panic!("the {make:?} client does not end")).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the {make:?} client failed:\n{said}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}
