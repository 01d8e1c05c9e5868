//! Signals that end longer work: the first lets it say how far it came, the second ends it at once.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::CliError;

/// Exit codes of a process that SIGINT or SIGTERM ended, as shells have them.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// Tells of SIGINT and SIGTERM.
pub(super) struct Interrupt(watch::Receiver<Option<u8>>);

impl Interrupt {
    /// From now on these signals do not end the process by themselves.
    pub(super) fn new() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(|source| CliError::Io { what: "signals".to_owned(), source });
        let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let code = tokio::select! {
                    biased;
                    _ = interrupt.recv() => INTERRUPTED,
                    _ = terminate.recv() => TERMINATED,
                };
                if sender.borrow().is_some() {
                    // What is waited for may never come.
                    std::process::exit(code.into());
                }
                sender.send_replace(Some(code));
            }
        });
        Ok(Self(receiver))
    }

    /// Waits for the first signal; gives the exit code that it asks for.
    pub(super) async fn asked(&mut self) -> u8 {
        // The sending side lives as long as the process.
        let code = self.0.wait_for(Option::is_some).await.ok().and_then(|code| *code);
        match code {
            Some(code) => code,
            None => std::future::pending().await,
        }
    }
}
