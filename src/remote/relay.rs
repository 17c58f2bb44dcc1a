//! A command's standard input and output as one stream of bytes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How long a command that has ended is listened to, and how much of it.
const LAST_WORDS: Duration = Duration::from_secs(2);
const LAST_WORDS_BYTES: u64 = 4 << 10;

/// What a command that runs on a server reads and writes. It ends with the command; dropping it ends the command.
pub struct Relay {
    reads: Pin<Box<dyn AsyncRead + Send>>,
    writes: Pin<Box<dyn AsyncWrite + Send>>,
    errors: Pin<Box<dyn AsyncRead + Send>>,
    /// What has to live as long.
    _command: Box<dyn Send>,
}

impl Relay {
    /// Joins what a command writes and reads; `command` is what must not be dropped before.
    pub fn new(
        reads: impl AsyncRead + Send + 'static,
        writes: impl AsyncWrite + Send + 'static,
        errors: impl AsyncRead + Send + 'static,
        command: impl Send + 'static,
    ) -> Self {
        let (reads, writes, errors) = (Box::pin(reads), Box::pin(writes), Box::pin(errors));
        Self { reads, writes, errors, _command: Box::new(command) }
    }

    /// Returns what a command that has ended said on standard error.
    pub async fn last_words(self) -> String {
        let mut said = Vec::new();
        let mut errors = self.errors.take(LAST_WORDS_BYTES);
        // What has come until then is what there is.
        let _ = tokio::time::timeout(LAST_WORDS, errors.read_to_end(&mut said)).await;
        String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

impl AsyncRead for Relay {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.reads.as_mut().poll_read(cx, into)
    }
}

impl AsyncWrite for Relay {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<std::io::Result<usize>> {
        self.writes.as_mut().poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.writes.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.writes.as_mut().poll_shutdown(cx)
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Relay")
    }
}
