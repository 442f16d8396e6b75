//! A whole node: its start and stop, its servers, its status, metrics and log, and clients that behave badly.

mod crash;
mod cut_off;
mod dogstatsd;
mod http_clients;
mod http_server;
mod life;
mod misbehaving_clients;
mod mysql;
mod several_ldbs;
mod status_and_metrics;
mod telemetry;
