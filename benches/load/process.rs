//! What the kernel says about the node's process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// CPU time of the process so far, user and system.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the node runs");
    // The name, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(')').expect("stat has a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks are a number")).sum();
    // The kernel's unit for user programs is 10 ms on every Linux.
    Duration::from_millis(ticks * 10)
}

/// Memory that is no file's, in bytes.
pub fn anonymous_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.split_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or(0u64) * 1024
}

/// Looks at the process's memory again and again.
pub struct Peak {
    most: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Peak {
    pub fn of(pid: u32) -> Self {
        let (most, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (most_seen, stop) = (Arc::clone(&most), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                most_seen.fetch_max(anonymous_memory(pid), Ordering::Relaxed);
                std::thread::sleep(SAMPLE_EVERY);
            }
        });
        Self { most, done, thread }
    }

    pub fn end(self) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().expect("the sampler ends");
        self.most.load(Ordering::Relaxed)
    }
}
