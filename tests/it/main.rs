//! The whole way, with the real server, the real clients and the real kernel.
//!
//! One binary; a module per theme. Each test has a bank and a daemon of its own, so that all may run
//! side by side. A test that can't run (no root, no server, no client) fails: it is never skipped.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is the test's failure")]

mod acting_as;
mod backtest;
mod bearer;
mod browser;
mod bulk;
mod by_hand;
mod cancel;
mod catalog;
mod console;
mod controls;
mod corpus;
mod crash;
mod credentials;
mod definitions;
mod desk;
mod disks;
mod door;
mod drivers;

mod enroll;
mod ephemeral;
mod evidence;
mod exchange;
mod fleet;
mod fleet_held;
mod flood;
mod forged;
mod functions;
mod fuzzed;
mod held;
mod hostile;
mod http;
mod http_bearer;
mod http_tls;
mod inside;
mod introspection;
mod kit;
mod launch;
mod limits;
mod limits_behind;
mod lineage;
mod loads;
mod logins;
mod lying;
mod masking;
mod names;
mod netns;
mod node;
mod nowhere;
mod oidc;
mod oidc_flows;
mod oidc_hostile;
mod pins;
mod podman;
mod prepared;
mod psycopg;
mod reads;
mod reconcile;
mod recording;
mod refusals;
mod replication;
mod restart;
mod sealed;
mod secrets;
mod shared;
mod shipped;
mod sources;
mod stamped;
mod standing;
mod talk;
mod tap;
mod tls;
mod tls_login;
mod token;
mod tools;
mod trail;
mod units;
mod unix;
mod webhooks;
mod windows;
mod witnessed;
