//! The clients that people use, and their habits: MQTT.js in Node.js and in a page, rumqttc, paho-mqtt and Mosquitto's in
//! depth, and Mosquitto as a bridge.

mod bridge;
mod browser;
mod habits;
mod mosquitto;
mod mqtt_js;
mod paho;
mod rumqttc;
