//! The page of a running gateway in a real browser: it lives without reload, and tells what is wrong.

use fieldpost::bus::Table;
use fieldpost::simulator::{Device, Registers, Units, tcp};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::{Browser, Gateway, port};

/// Two devices behind one TCP port: a tank, and a barn whose name is text that no page should run.
struct Plant {
    tank: Device,
    barn: Device,
    port: u16,
    _server: JoinSet<std::io::Result<()>>,
}

impl Plant {
    async fn start() -> Self {
        let mut registers = Registers::default();
        registers.set_words(Table::Input, 0, &[150]);
        let name: Vec<u16> =
            b"<img src=x onerror=alert(1)>".chunks(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
        registers.set_words(Table::Holding, 0, &name);
        let (tank, barn) = (Device::new(registers.clone()), Device::new(registers));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut server = JoinSet::new();
        server.spawn(tcp::serve(listener, Units::from([(1, tank.clone()), (2, barn.clone())])));
        Self { tank, barn, port, _server: server }
    }

    /// A gateway with these devices, and a cloud that is not there.
    fn config(&self) -> String {
        let (plc, cloud) = (self.port, port::free());
        format!(
            r#"
            [gateway]
            id = "plant7"
            topic = "plant/{{device}}/{{point}}"
            # Longer than a timeout, so that there is time to spare to ask a silent device again.
            every = "400ms"
            [bus.plc]
            modbus-tcp = {{ host = "127.0.0.1", port = {plc} }}
            [device.tank]
            bus = "plc"
            unit = 1
            timeout = "150ms"
            points.level = {{ input = 0, as = "u16", scale = 0.01, unit = "m" }}
            [device.barn]
            bus = "plc"
            unit = 2
            timeout = "150ms"
            points.level = {{ input = 0, as = "u16", scale = 0.01, unit = "m", stale-after = "1s" }}
            points.name = {{ holding = 0, as = "string:28" }}
            [uplink.cloud]
            url = "mqtt://127.0.0.1:{cloud}"
            publish = ["plant/#"]
            "#
        )
    }

    fn set_level(&self, centimetres: u16) {
        self.tank.with(|registers| registers.set_words(Table::Input, 0, &[centimetres]));
    }
}

/// The text of a cell, as an expression in the page.
fn cell(row: &str, column: usize) -> String {
    format!("document.getElementById('{row}').cells[{column}].innerText")
}

#[tokio::test]
async fn the_page_lives_and_tells_what_is_wrong() {
    let plant = Plant::start().await;
    let mut gateway = Gateway::start(&plant.config()).await;
    let browser = Browser::start().await;
    browser.open(&format!("http://127.0.0.1:{}/", gateway.admin_port())).await;
    browser.run("window.loaded = 'once'").await;
    let contact = "document.getElementById('contact').innerText";
    browser.until(&format!("{contact} === 'Live'")).await;

    // A value changes live, whatever it is.
    browser.until(&format!("{}.startsWith('1.5')", cell("point/tank/level", 1))).await;
    plant.set_level(273);
    browser.until(&format!("{}.startsWith('2.73')", cell("point/tank/level", 1))).await;
    browser.until(&format!("{}.includes('<img src=x onerror=alert(1)>')", cell("point/barn/name", 1))).await;

    // A device falls silent: its points are stale, its neighbour's are not.
    plant.barn.set_silent(true);
    browser.until(&format!("{}.includes('stale')", cell("point/barn/level", 3))).await;
    browser.until(&format!("{}.includes('silent')", cell("device/barn", 1))).await;
    browser.until("document.getElementById('verdict').innerText.includes('Device barn does not answer')").await;
    browser.until(&format!("{}.includes('good')", cell("point/tank/level", 3))).await;
    plant.set_level(300);
    browser.until(&format!("{}.startsWith('3')", cell("point/tank/level", 1))).await;
    // It comes back.
    plant.barn.set_silent(false);
    browser.until(&format!("{}.includes('good')", cell("point/barn/level", 3))).await;

    // The cloud is not there: why, and what waits for it.
    browser.until(&format!("{}.includes('not connected')", cell("uplink/cloud", 1))).await;
    browser.until(&format!("{}.includes('refused')", cell("uplink/cloud", 1))).await;
    browser.until(&format!("parseInt({}) > 3", cell("uplink/cloud", 3))).await;
    browser.until("document.getElementById('verdict').innerText.includes('Uplink cloud is not connected')").await;
    browser.until("document.title.startsWith('plant7: ')").await;

    assert_eq!(browser.run("return window.loaded").await, "once", "the page was loaded again");
    assert_eq!(browser.console().await, Vec::<String>::new());

    // The gateway goes, and comes back.
    gateway.kill().await;
    browser.until(&format!("{contact}.startsWith('No contact with the gateway')")).await;
    gateway.start_again().await;
    browser.until(&format!("{contact} === 'Live'")).await;
    browser.until(&format!("{}.startsWith('3')", cell("point/tank/level", 1))).await;
    assert_eq!(browser.run("return window.loaded").await, "once", "the page was loaded again");
}

#[tokio::test]
async fn the_page_fits_a_telephone() {
    let plant = Plant::start().await;
    let gateway = Gateway::start(&plant.config()).await;
    let browser = Browser::telephone().await;
    browser.open(&format!("http://127.0.0.1:{}/", gateway.admin_port())).await;
    browser.until(&format!("{}.startsWith('1.5')", cell("point/tank/level", 1))).await;
    assert_eq!(browser.run("return window.innerWidth").await, 390);
    // No sideways scrolling, of the page or of anything in it.
    let wide = "return [...document.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)\
                .map(e => e.outerHTML.slice(0, 200))";
    assert_eq!(browser.run(wide).await, serde_json::json!([]));
    assert_eq!(browser.console().await, Vec::<String>::new());
}
