//! A whole node: how it starts and stops, its servers, its status, metrics and log, and what clients do to it.

mod crash;
mod cut_off;
mod http_clients;
mod http_server;
mod life;
mod misbehaving_clients;
mod mysql;
mod status_and_metrics;
mod telemetry;
