//! The input side of a publish: one thread reads blocks, another cuts them into lines and requests. Threads rather than
//! tasks, because reading a terminal or a pipe blocks and escaping a gigabyte of text keeps a core busy.

use std::{
    fs::File,
    io::{self, Read},
    sync::mpsc as blocking,
    thread,
    time::Duration,
};

use tokio::sync::mpsc;

use super::{
    PublishArgs,
    encode::{Batcher, Encoder, Limits, Request},
};
use crate::cli::CliError;

/// Bytes read at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// A request that is not full leaves when no input came for this long, so that `tail -f` arrives promptly.
const LINGER: Duration = Duration::from_millis(10);

/// Longest line: the largest value that a topic may accept, as JSON with every byte escaped.
const MAX_LINE_BYTES: usize = 6 * brigade_index::limits::MAX_MESSAGE_BYTES;

/// Where lines come from.
pub(super) enum Source {
    /// Values of the command line.
    Values(Vec<String>),
    /// A file, its name and length.
    File(File, String, Option<u64>),
    /// Standard input.
    Stdin,
}

impl Source {
    /// # Errors
    /// When the file cannot be opened.
    pub(super) fn open(args: &PublishArgs) -> Result<Self, CliError> {
        match &args.file {
            None if args.values.is_empty() => Ok(Self::Stdin),
            None => Ok(Self::Values(args.values.clone())),
            Some(path) if path.as_os_str() == "-" => Ok(Self::Stdin),
            Some(path) => {
                let name = path.display().to_string();
                let file = File::open(path).map_err(|source| CliError::Io { what: name.clone(), source })?;
                let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|data| data.len());
                Ok(Self::File(file, name, length))
            }
        }
    }

    /// Bytes of input, where that is known.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::File(_, _, length) => *length,
            Self::Values(values) => Some(values.iter().map(|value| value.len() as u64).sum()),
            Self::Stdin => None,
        }
    }
}

type Output = mpsc::Sender<Result<Request, CliError>>;

/// Starts reading; at most `in_flight` requests wait to be taken. The last item may be an error.
pub(super) fn start(
    source: Source,
    encoder: Encoder,
    limits: Limits,
    in_flight: usize,
) -> mpsc::Receiver<Result<Request, CliError>> {
    let (sender, receiver) = mpsc::channel(in_flight);
    thread::spawn(move || {
        let mut batcher = Batcher::new(encoder, limits);
        let result = match source {
            Source::Values(values) => encode_values(&values, &mut batcher, &sender),
            Source::File(file, name, _) => encode_lines(read_blocks(file, name), &mut batcher, &sender),
            Source::Stdin => encode_lines(read_blocks(io::stdin(), "standard input".to_owned()), &mut batcher, &sender),
        };
        if let Err(Stop::Because(error)) = result {
            // Nobody is left to tell when the sending side has given up.
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

/// Why the input ends early.
enum Stop {
    /// The sending side has given up, and says why itself.
    Unwanted,
    Because(CliError),
}

impl From<CliError> for Stop {
    fn from(error: CliError) -> Self {
        Self::Because(error)
    }
}

fn send(request: Option<Request>, sender: &Output) -> Result<(), Stop> {
    match request {
        Some(request) => sender.blocking_send(Ok(request)).map_err(|_| Stop::Unwanted),
        None => Ok(()),
    }
}

fn add(line: &[u8], input_bytes: usize, batcher: &mut Batcher, sender: &Output) -> Result<(), Stop> {
    send(batcher.add(line, input_bytes as u64)?, sender)?;
    send(batcher.take_full(), sender)
}

fn encode_values(values: &[String], batcher: &mut Batcher, sender: &Output) -> Result<(), Stop> {
    for value in values {
        add(value.as_bytes(), value.len(), batcher, sender)?;
    }
    send(batcher.seal(), sender)
}

/// Reads blocks in a thread of their own, so that the encoder can tell "nothing yet" from "nothing more".
fn read_blocks(mut input: impl Read + Send + 'static, name: String) -> blocking::Receiver<Result<Vec<u8>, CliError>> {
    let (sender, receiver) = blocking::sync_channel(4);
    thread::spawn(move || {
        loop {
            let mut block = vec![0; BLOCK_BYTES];
            let item = match input.read(&mut block) {
                Ok(0) => return,
                Ok(length) => {
                    block.truncate(length);
                    Ok(block)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => Err(CliError::Io { what: name.clone(), source }),
            };
            let failed = item.is_err();
            if sender.send(item).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

fn encode_lines(
    blocks: blocking::Receiver<Result<Vec<u8>, CliError>>,
    batcher: &mut Batcher,
    sender: &Output,
) -> Result<(), Stop> {
    let mut partial = Vec::new();
    loop {
        let received = if batcher.is_empty() {
            blocks.recv().map_err(|_| blocking::RecvTimeoutError::Disconnected)
        } else {
            blocks.recv_timeout(LINGER)
        };
        match received {
            Ok(block) => encode_block(&block?, &mut partial, batcher, sender)?,
            Err(blocking::RecvTimeoutError::Timeout) => send(batcher.seal(), sender)?,
            Err(blocking::RecvTimeoutError::Disconnected) => break,
        }
    }
    if !partial.is_empty() {
        add(&partial, partial.len(), batcher, sender)?;
    }
    send(batcher.seal(), sender)
}

fn encode_block(block: &[u8], partial: &mut Vec<u8>, batcher: &mut Batcher, sender: &Output) -> Result<(), Stop> {
    let mut rest = block;
    while let Some(end) = memchr(rest) {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if partial.is_empty() {
            add(line, line.len() + 1, batcher, sender)?;
        } else {
            partial.extend_from_slice(line);
            add(partial, partial.len() + 1, batcher, sender)?;
            partial.clear();
        }
    }
    partial.extend_from_slice(rest);
    if partial.len() > MAX_LINE_BYTES {
        return Err(Stop::Because(CliError::Input {
            message: format!("a line is longer than {MAX_LINE_BYTES} bytes"),
            hint: "each line is one message; is this a text file?".to_owned(),
        }));
    }
    Ok(())
}

/// Place of the first line end, found sixteen bytes at a time.
fn memchr(bytes: &[u8]) -> Option<usize> {
    const STEP: usize = 16;
    let mut start = 0;
    for chunk in bytes.chunks(STEP) {
        if chunk.iter().fold(false, |found, byte| found | (*byte == b'\n')) {
            return chunk.iter().position(|byte| *byte == b'\n').map(|at| start + at);
        }
        start += chunk.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::memchr;

    #[test]
    fn line_ends_are_found_everywhere() {
        for length in 0..40 {
            let mut bytes = vec![b'x'; length];
            assert_eq!(memchr(&bytes), None);
            for at in (0..length).rev() {
                bytes[at] = b'\n';
                assert_eq!(memchr(&bytes), Some(at));
            }
        }
    }
}
