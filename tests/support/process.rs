//! Child processes and scratch directories that never outlive the test binary.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, mpsc};

use tempfile::TempDir;

/// A shell that removes the binary's scratch root at the end of its standard input, which comes when the binary ends.
/// It tries for 10 s, because a server that is just being killed may still write.
const JANITOR: &str = r#"cat >/dev/null; for i in $(seq 100); do rm -rf -- "$1" 2>/dev/null && exit; sleep 0.1; done"#;

/// The directory of all scratch directories of this test binary.
static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let root = tempfile::Builder::new().prefix("ctlstore-test-").tempdir().expect("make the scratch root").keep();
    let janitor = Command::new("sh")
        .args(["-c", JANITOR, "janitor"])
        .arg(&root)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // It has its own group, so that the terminal's ctrl-C does not reach it.
        .process_group(0)
        .spawn()
        .expect("start the janitor of the scratch root");
    // The pipe stays open until this process ends.
    std::mem::forget(janitor);
    root
});

/// The built `ctlstore`. Cargo passes its path to each test and bench that it runs. For a test that is started by hand
/// it is in the directory above.
pub fn binary() -> &'static str {
    static BINARY: LazyLock<String> = LazyLock::new(|| {
        if let Ok(named) = std::env::var("CARGO_BIN_EXE_ctlstore") {
            return named;
        }
        let own = std::env::current_exe().expect("this binary's path");
        let built = own.parent().and_then(Path::parent).expect("a test binary is in target/*/deps").join("ctlstore");
        assert!(built.exists(), "{} is not built", built.display());
        built.into_os_string().into_string().expect("a path in UTF-8")
    });
    &BINARY
}

/// This test binary again, for one of its tests, by the path `concat!(module_path!(), "::its_function")`.
pub fn one_test(path: &str) -> Command {
    // The path begins with the binary's name, which is not part of the test's name.
    let (_binary, name) = path.split_once("::").expect("a path below the binary's own");
    let mut command = Command::new(std::env::current_exe().expect("this binary's path"));
    command.args(["--exact", name]);
    command
}

/// A new empty directory. It is removed on drop, or at the end of the test binary.
pub fn scratch_dir() -> TempDir {
    tempfile::tempdir_in(&*ROOT).expect("make a scratch directory")
}

/// One end of a full pipe; the other end is open until this process ends.
pub fn full_pipe() -> Stdio {
    let (reader, mut writer) = std::io::pipe().expect("make a pipe");
    // The default size of a pipe on Linux.
    writer.write_all(&[b'x'; 65_536]).expect("fill the pipe");
    std::mem::forget(reader);
    writer.into()
}

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

/// The thread that spawns every child. The kernel's parent-death signal comes when the thread that spawned a child
/// ends. A test's thread ends with its test; this one lives as long as the process.
static SPAWNER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
    let (orders, inbox) = mpsc::channel::<Order>();
    std::thread::Builder::new()
        .name("spawner".into())
        .spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        })
        .expect("start the spawner thread");
    Mutex::new(orders)
});

/// Starts `command`. The kernel kills it when the test binary ends.
pub fn spawn(mut command: Command) -> Child {
    let name = command.get_program().to_string_lossy().into_owned();
    // SAFETY: signal and prctl are async-signal-safe and touch nothing of the parent's memory.
    unsafe {
        command.pre_exec(|| {
            // A shell's background processes ignore ctrl-C, and so would their children.
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            libc::signal(libc::SIGHUP, libc::SIG_DFL);
            match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let (answer, outcome) = mpsc::channel();
    SPAWNER.lock().expect("the spawner's lock").send((command, answer)).expect("the spawner lives");
    outcome.recv().expect("the spawner answers").unwrap_or_else(|error| panic!("start {name}: {error}"))
}

/// Sends `signal` (libc::SIGTERM, …) to a child that was not waited for yet. After a SIGSTOP it waits until all threads
/// of the child are stopped, because `kill` returns while some of them still run and may answer.
pub fn signal(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).expect("a pid fits");
    // SAFETY: plain system call; the pid is that of our own child, which is not reaped yet.
    let result = unsafe { libc::kill(pid, signal) };
    assert_eq!(result, 0, "send signal {signal} to {pid}: {}", std::io::Error::last_os_error());
    if signal == libc::SIGSTOP {
        await_stop(pid);
    }
}

/// Waits until the child has stopped or ended. The child can still be waited for afterwards.
fn await_stop(pid: i32) {
    let id = libc::id_t::try_from(pid).expect("a pid is positive");
    // SAFETY: all zeros is a valid siginfo_t, which the call fills in.
    let mut info = unsafe { std::mem::zeroed() };
    // SAFETY: plain system call on our own child; WNOWAIT reaps nothing.
    let result = unsafe { libc::waitid(libc::P_PID, id, &mut info, libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT) };
    assert_eq!(result, 0, "wait for {pid} to stop: {}", std::io::Error::last_os_error());
}
