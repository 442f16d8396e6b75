//! Writes log lines to standard error on a thread of its own, so that no other thread waits for the
//! program that reads them. Entry points: [`LogWriter::start`] and [`LogWriter::push`]. The queue is
//! bounded. A line that finds no place is dropped and counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The most bytes of lines that wait; more than a thousand lines fit.
const MAX_QUEUED_BYTES: usize = 256 << 10;
/// The pause before the next try if standard error would block.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// The queue of lines, and the number of lost ones.
#[derive(Debug, Default)]
pub struct LogWriter {
    queue: Mutex<Queue>,
    /// Notified after a line came, and after one was written.
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether the thread is writing a line that is no longer in the queue.
    is_writing: bool,
}

impl LogWriter {
    /// Starts the thread, which lives as long as the process.
    pub fn start(&'static self) -> io::Result<()> {
        // A descriptor of its own, because users of `std::io::stderr` wait for its lock.
        let to = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        thread::Builder::new().name("log-writer".to_owned()).spawn(move || self.write_to(to)).map(drop)
    }

    /// Takes a whole line, or drops it. It never waits for a write.
    pub fn push(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.bytes + line.len() > MAX_QUEUED_BYTES {
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_vec());
        drop(queue);
        self.changed.notify_all();
    }

    /// The number of lines that were lost so far.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Waits until all lines are written, for `most` at most.
    pub fn flush(&self, most: Duration) {
        let deadline = Instant::now() + most;
        let mut queue = self.queue();
        while !queue.lines.is_empty() || queue.is_writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn write_to(&self, mut to: impl Write) {
        let mut told = 0;
        loop {
            let line = self.next_line();
            let is_written = write(&mut to, &line).is_ok();
            if !is_written {
                self.dropped.fetch_add(1, Relaxed);
            }
            let dropped = self.dropped();
            if is_written && dropped > told {
                let lines = dropped - told;
                told = dropped;
                tracing::warn!(lines, "log lines were lost: standard error was not read in time");
            }
            self.queue().is_writing = false;
            self.changed.notify_all();
        }
    }

    fn next_line(&self) -> Vec<u8> {
        let mut queue = self.queue();
        loop {
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.is_writing = true;
                return line;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes all of the line, in several steps if the other end does not take it at once.
fn write(to: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match to.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(BUSY_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Takes a write each time the test allows one.
    struct Gated {
        passes: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.passes.recv().map_err(|_| ErrorKind::BrokenPipe)?;
            self.written.send(bytes.to_vec()).map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_nobody_takes_are_bounded_and_counted_and_hold_nobody_up() {
        let writer: &'static LogWriter = Box::leak(Box::default());
        let (pass, passes) = channel();
        let (written, lines) = channel();
        thread::spawn(move || writer.write_to(Gated { passes, written }));
        let line = vec![b'x'; MAX_QUEUED_BYTES / 4];
        for _ in 0..10 {
            writer.push(&line);
        }
        // Four have a place, and one more if the thread holds one.
        assert!((5..=6).contains(&writer.dropped()), "{}", writer.dropped());
        writer.flush(Duration::from_millis(1));
        for _ in 0..10 - writer.dropped() {
            pass.send(()).unwrap();
            assert_eq!(lines.recv().unwrap(), line);
        }
        writer.flush(Duration::from_secs(60));
        assert!(writer.queue().lines.is_empty());
    }
}
