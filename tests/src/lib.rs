//! What tests, the demonstration and the benchmark share: a private PostgreSQL with a synthetic bank, a
//! private daemon, and agents behind it.
//!
//! Everything an instance owns (ports, directories, cgroup slice, pins, processes) is its own and goes
//! with it, so that instances run side by side. Nothing here stands in for the product: the daemon, the
//! command line, the server and the clients are the real ones.

pub mod agent;
pub mod bank;
pub mod browser;
pub mod certificates;
pub mod corpus;
pub mod daemon;
pub mod escape;
pub mod evidence;
pub mod http_server;
pub mod hub;
pub mod idp;
pub mod masking;
pub mod moto;
pub mod names;
pub mod office;
pub mod otlp;
pub mod paths;
pub mod pgbouncer;
pub mod port;
pub mod postgres;
pub mod process;
pub mod receiver;
pub mod rsyslog;
mod script;
mod slice;
pub mod small_disk;
pub mod tokens;
pub mod tsa;
pub mod vault;
pub mod web;
pub mod world;

pub use agent::Agent;
pub use browser::Browser;
pub use daemon::{Daemon, Supervisor};
pub use evidence::Evidence;
pub use http_server::HttpServer;
pub use hub::Hub;
pub use idp::Idp;
pub use moto::Moto;
pub use office::Office;
pub use otlp::Otlp;
pub use pgbouncer::Pgbouncer;
pub use postgres::Postgres;
pub use process::Output;
pub use receiver::Receiver;
pub use rsyslog::Rsyslog;
pub use small_disk::SmallDisk;
pub use tokens::Token;
pub use vault::Vault;
pub use web::Web;
pub use world::World;
