//! A node as a child process, with a data directory and port of its own.

use std::{
    env, fs,
    fs::{File, OpenOptions},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{binary, http::Http, raw::Raw};

/// How long a node may take until it is ready: generous, since tests share a machine.
const START: Duration = Duration::from_secs(30);

/// How long a node may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(30);

/// Lines of the log that a failed test shows.
const SHOWN_LINES: usize = 60;

/// How a node is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Further arguments of `brigade serve`.
    pub args: Vec<String>,
    /// Contents of the file given with `--config`; none when empty.
    pub config: String,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// `NAME=URL` of the one region; the node's own directory when there is none.
    pub region: Option<String>,
    /// Another binary than the one of this workspace.
    pub binary: Option<PathBuf>,
}

/// A running or stopped node. Killed when dropped; a test that fails sees the end of its log.
#[derive(Debug)]
pub struct Process {
    dir: Option<TempDir>,
    data: PathBuf,
    log: PathBuf,
    options: Options,
    address: SocketAddr,
    child: Option<Child>,
}

impl Process {
    /// Starts a node with default settings and waits until it is ready. Panics when it does not become ready.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// Starts a node and waits until it is ready. Panics when it does not become ready.
    pub async fn start_with(options: Options) -> Self {
        let mut process = Self::prepare(options);
        process.restart().await;
        process
    }

    /// A node that is not started yet.
    pub fn prepare(options: Options) -> Self {
        let dir = TempDir::with_prefix("brigade-test-").expect("a temporary directory");
        let (data, log) = (dir.path().join("data"), dir.path().join("server.log"));
        Self { dir: Some(dir), data, log, options, address: free_address(), child: None }
    }

    /// A second node on the data of this one, not started yet. It must not outlive this one.
    pub fn rival(&self) -> Self {
        self.rival_with(self.options.clone())
    }

    /// Like [`Self::rival`], with options of its own.
    pub fn rival_with(&self, options: Options) -> Self {
        let mut rival = Self::prepare(options);
        rival.data.clone_from(&self.data);
        rival
    }

    /// From its next start on the node has these options.
    pub fn reconfigure(&mut self, options: Options) {
        self.options = options;
    }

    /// Makes a node that is not running listen at this address.
    pub fn listen_at(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// Starts the node, which must not be running, on the same data and waits until it is ready. Panics otherwise.
    pub async fn restart(&mut self) {
        if let Err(problem) = self.try_start().await {
            panic!("{problem}");
        }
    }

    /// Starts the node and waits until it is ready.
    ///
    /// # Errors
    /// When it ends instead, or is not ready in time.
    pub async fn try_start(&mut self) -> Result<(), String> {
        self.spawn();
        let (started, http) = (Instant::now(), self.http());
        while started.elapsed() < START {
            if let Some(status) = self.exited() {
                return Err(format!("the node ended with {status} instead of becoming ready"));
            }
            if http.try_get("/readyz").await.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            sleep(Duration::from_millis(5)).await;
        }
        Err(format!("the node is not ready after {START:?}"))
    }

    /// Starts the node without waiting for anything.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the node is running already");
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        let mut command = Command::new(self.binary());
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("BRIGADE_")) {
            command.env_remove(name);
        }
        command.arg("serve").arg("--listen").arg(self.address.to_string());
        match &self.options.region {
            Some(region) => command.arg("--region").arg(region),
            None => command.arg("--data").arg(&self.data),
        };
        if !self.options.config.is_empty() {
            let file = self.log.with_file_name("brigade.toml");
            fs::write(&file, &self.options.config).expect("a settings file");
            command.arg("--config").arg(file);
        }
        command.args(&self.options.args).envs(self.options.env.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.child = Some(command.spawn().expect("the binary starts"));
    }

    fn binary(&self) -> &Path {
        self.options.binary.as_deref().unwrap_or_else(|| binary::brigade())
    }

    /// Ends the node as a crash would: SIGKILL.
    pub fn kill_9(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Ending a process that has ended already is no failure.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the node to end, as a service manager would: SIGTERM.
    pub fn ask_to_end(&self) {
        let pid = self.pid().expect("the node is running").to_string();
        let status = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status().expect("a shell");
        assert!(status.success(), "process {pid} takes a signal");
    }

    /// Waits for the node to end by itself. Panics when it does not.
    pub async fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        while started.elapsed() < STOP {
            if let Some(status) = self.exited() {
                self.child = None;
                return status;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("the node has not ended after {STOP:?}");
    }

    /// SIGTERM, and the way in which the node then ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.ask_to_end();
        self.wait().await
    }

    /// How the node ended, unless it is running.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("the state of a child is known")
    }

    /// A client of this node. It stays valid over restarts.
    pub fn http(&self) -> Http {
        Http::new(self.address)
    }

    /// A bare connection to this node.
    pub async fn raw(&self) -> Raw {
        Raw::connect(self.address).await
    }

    /// Where the node listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The directory of the local region.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A directory for files of the test.
    pub fn scratch(&self) -> &Path {
        self.log.parent().expect("the log lies in a directory")
    }

    /// What the node has logged so far, over restarts.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Process number, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Memory in use now, and at most since the start, in bytes. Zero where the system does not say.
    pub fn memory(&self) -> (u64, u64) {
        let status = self.pid().and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let status = status.unwrap_or_default();
        let kib = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        (kib("VmRSS:").unwrap_or(0) * 1024, kib("VmHWM:").unwrap_or(0) * 1024)
    }

    /// Runs a command of the CLI against this node and returns its output.
    pub async fn cli<S: AsRef<str>>(&self, args: &[S]) -> std::process::Output {
        self.cli_with(args, None).await
    }

    /// Runs a command of the CLI against this node, with `input` on its standard input.
    pub async fn cli_with<S: AsRef<str>>(&self, args: &[S], input: Option<PathBuf>) -> std::process::Output {
        let mut command = Command::new(self.binary());
        command.args(args.iter().map(AsRef::as_ref)).env("BRIGADE_SERVER", format!("http://{}", self.address));
        command.stdin(match input {
            Some(path) => Stdio::from(File::open(path).expect("the input exists")),
            None => Stdio::null(),
        });
        let output = tokio::task::spawn_blocking(move || command.output());
        output.await.expect("waiting does not panic").expect("the binary starts")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_9();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            let kept = self.dir.take().map(TempDir::keep);
            eprintln!("--- end of the log of {} (kept in {kept:?})\n{}", self.address, shown.join("\n"));
        }
    }
}

/// A free port of the loopback address, below those that the system gives to clients: between here and the start of the
/// node nobody else takes it by chance.
fn free_address() -> SocketAddr {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another test program at the same time begins elsewhere.
    let start = (std::process::id().wrapping_mul(2_654_435_761) >> 16) as u16;
    for _ in 0..COUNT {
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port");
}
