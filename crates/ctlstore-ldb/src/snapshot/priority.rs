//! Lowers the priority of work that no other thread waits for, so that applier and reader
//! get the cores first.

/// A thread this nice gets about a tenth of a busy core, and all of an idle one.
const NICENESS: libc::c_int = 10;

/// Lowers the calling thread's priority for the rest of its life, and that of threads that it starts.
pub(super) fn lower() {
    // SAFETY: no memory is handed over. On Linux 0 is the calling thread and not its process.
    // If the kernel refuses, the thread goes on with its old priority.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}
