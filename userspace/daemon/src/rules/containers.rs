//! Which container a cgroup is: its id from the cgroup's name, all else from the engine.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// How engines are asked about a container.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Engines {
    /// podman's command and options.
    pub(crate) podman: Vec<String>,
    /// docker's command and options.
    pub(crate) docker: Vec<String>,
}

impl Default for Engines {
    fn default() -> Self {
        Self { podman: vec!["podman".into()], docker: vec!["docker".into()] }
    }
}

/// A container as its engine describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    /// `KEY=VALUE`, each.
    pub(crate) labels: Vec<String>,
}

/// An engine that takes longer to answer is killed.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// A container's id: 32 bytes in hexadecimal.
const ID_DIGITS: usize = 64;

/// The engine's mark and the container's id in a cgroup's name: `libpod-ID`, `docker-ID`, each
/// perhaps with `.scope`, or `ID` below `docker`.
fn id_of(path: &Path) -> Option<(&'static str, &str)> {
    let name = path.file_name()?.to_str()?;
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let above = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let (engine, id) = match name.rsplit_once('-') {
        Some(("libpod", id)) => ("podman", id),
        Some(("docker", id)) => ("docker", id),
        None if above == Some("docker") => ("docker", name),
        _ => return None,
    };
    let is_id = id.len() == ID_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then_some((engine, id))
}

impl Engines {
    /// Whether a cgroup is a container's.
    pub(crate) fn knows(path: &Path) -> bool {
        id_of(path).is_some()
    }

    /// What the engine says of the container in a cgroup; none if it is no container's, or the
    /// engine does not know it (yet).
    pub(crate) fn describe(&self, path: &Path) -> Option<Container> {
        let (engine, id) = id_of(path)?;
        let command = if engine == "podman" { &self.podman } else { &self.docker };
        parse(&ask(command, id)?)
    }
}

fn ask(command: &[String], id: &str) -> Option<Vec<u8>> {
    let (program, arguments) = command.split_first()?;
    let mut engine = Command::new(program);
    engine.args(arguments).args(["container", "inspect", id]);
    let mut child =
        engine.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let mut out = child.stdout.take()?;
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(
            &mut std::io::Read::take(&mut out, DESCRIPTION_BYTES_MAX),
            &mut bytes,
        )
        .ok()
        .map(|_| bytes)
    });
    for _ in 0..PATIENCE.as_millis() / POLL.as_millis() {
        match child.try_wait() {
            Ok(Some(status)) => {
                let bytes = reader.join().ok().flatten();
                return bytes.filter(|_| status.success());
            }
            Ok(None) => std::thread::sleep(POLL),
            Err(_) => break,
        }
    }
    child.kill().and_then(|()| child.wait()).ok();
    None
}

/// A description: some 10 KiB; 4 MiB hold any.
const DESCRIPTION_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Docker's and podman's `inspect` agree on these: docker names with a slash before, and puts the
/// image's name into `Config`, podman into `ImageName`.
fn parse(description: &[u8]) -> Option<Container> {
    let all: serde_json::Value = serde_json::from_slice(description).ok()?;
    let one = all.get(0)?;
    let config = one.get("Config");
    let text = |value: Option<&serde_json::Value>| {
        value.and_then(serde_json::Value::as_str).map(str::to_owned)
    };
    let image = text(one.get("ImageName")).or_else(|| text(config?.get("Image")));
    let labels = config.and_then(|config| config.get("Labels")?.as_object());
    let pairs = labels.into_iter().flatten();
    Some(Container {
        name: text(one.get("Name"))?.trim_start_matches('/').to_owned(),
        image: image.unwrap_or_default(),
        labels: pairs.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_the_names_of_cgroups() {
        let id = "0123456789abcdef".repeat(4);
        for (path, engine) in [
            (format!("/libpod_parent/libpod-{id}"), "podman"),
            (format!("/machine.slice/libpod-{id}.scope"), "podman"),
            (format!("/system.slice/docker-{id}.scope"), "docker"),
            (format!("/docker/{id}"), "docker"),
        ] {
            assert_eq!(id_of(Path::new(&path)), Some((engine, id.as_str())), "{path}");
        }
        for path in [format!("/machine.slice/libpod-conmon-{id}.scope"), format!("/{id}")] {
            assert_eq!(id_of(Path::new(&path)), None, "{path}");
        }
    }

    #[test]
    fn both_engines_descriptions_are_read() {
        let podman =
            br#"[{"Name":"a","ImageName":"localhost/bb:1","Config":{"Labels":{"t":"x"}}}]"#;
        let docker = br#"[{"Name":"/a","Image":"sha256:1","Config":{"Image":"localhost/bb:1","Labels":{"t":"x"}}}]"#;
        let expected = Container {
            name: "a".into(),
            image: "localhost/bb:1".into(),
            labels: vec!["t=x".into()],
        };
        assert_eq!(parse(podman), Some(expected.clone()));
        assert_eq!(parse(docker), Some(expected));
        assert_eq!(parse(b"[]"), None);
    }
}
