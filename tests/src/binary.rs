//! Where the `brigade` binary is.
//!
//! Cargo tells a test the paths of its own package's binaries only. So the harness asks cargo to build the binary of the
//! workspace, which does nothing when it is fresh, and takes the path from cargo's answer: tests never run a stale build.
//! `BRIGADE_TEST_BIN` names another binary to test.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

static BINARY: OnceLock<PathBuf> = OnceLock::new();

/// Path of the binary; built when it is missing or stale. Panics when it cannot be built.
pub fn brigade() -> &'static PathBuf {
    BINARY.get_or_init(|| match env::var_os("BRIGADE_TEST_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    let test = env::current_exe().expect("a process knows its own path");
    // target/PROFILE/deps/TEST
    let profile_dir = test.parent().and_then(|deps| deps.parent()).expect("a test lies in target/PROFILE/deps");
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let target = profile_dir.parent().expect("a profile lies in the target directory");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The whole workspace, so that features are those of `cargo test --workspace` and nothing is built twice.
    let output = Command::new(cargo)
        .args(["build", "--workspace", "--bin", "brigade", "--quiet", "--message-format", "json-render-diagnostics"])
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "the brigade binary does not build");
    let artifacts = String::from_utf8_lossy(&output.stdout);
    let executable = artifacts.lines().rev().find_map(|line| {
        let artifact: serde_json::Value = serde_json::from_str(line).ok()?;
        let named = artifact["target"]["name"] == "brigade";
        artifact["executable"].as_str().filter(|_| named).map(PathBuf::from)
    });
    executable.expect("cargo names the executable that it built")
}
