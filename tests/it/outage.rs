//! The central promise, with the program itself between paho clients, a libmodbus server and a Mosquitto: what was
//! acknowledged arrives, in the order of its topic, whatever happens to the cloud, the way there and the gateway.
//!
//! The oracle are numbers, from 0 up on each topic. The publishers go on until all are acknowledged, so all have to
//! arrive; a number that comes for the first time must be the next one; and no more may come again than was in flight
//! whenever something broke. A [`run`] is all of this together; docs/outages.md says what each test proves.

mod run;

mod cloud;
mod line;
mod gateway;
mod credentials;
mod disk;
mod clock;
mod clients;
mod power;
mod table;
