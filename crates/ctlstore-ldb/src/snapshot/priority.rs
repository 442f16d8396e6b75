//! Work that may take its time: a thread that gives way to those that applier and
//! reader run on, where there are more of them than cores.

/// Nice enough for a tenth of a busy core, and all of an idle one.
const NICENESS: libc::c_int = 10;

/// Lowers the calling thread's priority for the rest of its life, and that of threads it starts.
pub(super) fn lower() {
    // SAFETY: no memory is handed over. On Linux 0 is the calling thread and not its process.
    // Where it is refused, the thread goes on as it was.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) };
}
