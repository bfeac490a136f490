//! Runs a program: its exit status is the check's.
//!
//! The program leads a process group of its own, which is killed as a whole when the time is up: a script's children
//! would else outlive it. A signal to a group has no safe function in Rust's library, so the shell's `kill` sends it.
//! The group's number cannot have passed to others by then, since its leader has not been waited for.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::Outcome;
use super::output::Tail;
use crate::catalog::Health;

/// How long the pipes may stay open after the program ended, when a child of it holds them.
const PIPES_LINGER: Duration = Duration::from_millis(500);

pub(super) async fn run(args: &[String], timeout: Duration, output_max: usize) -> Outcome {
    let Some((program, rest)) = args.split_first() else {
        return Outcome::critical("expected a program and its arguments, got an empty list");
    };
    let mut command = Command::new(program);
    command.args(rest).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Outcome::critical(format!("cannot start {program}: {error}")),
    };
    let group = child.id();
    let mut output = Tail::new(output_max);
    let ended = tokio::time::timeout(timeout, watch(&mut child, &mut output)).await;
    let status = match ended {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            kill_group(group).await;
            return Outcome::critical(format!("cannot wait for {program}: {error}"));
        }
        Err(_) => {
            kill_group(group).await;
            // The leader is dead now; what is left is to take its status, so that no zombie stays.
            let _ = child.wait().await;
            return Outcome::critical(format!("Timed out ({timeout:?}) running check"));
        }
    };
    let health = match status.code() {
        Some(0) => Health::Passing,
        Some(1) => Health::Warning,
        _ => Health::Critical,
    };
    Outcome { health, output: output.captured() }
}

/// Reads what the program writes until it has ended.
async fn watch(child: &mut Child, output: &mut Tail) -> std::io::Result<std::process::ExitStatus> {
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut from_stdout, mut from_stderr) = (vec![0; 4096], vec![0; 4096]);
    let mut status = None;
    let linger = tokio::time::sleep(Duration::MAX);
    tokio::pin!(linger);
    loop {
        if let Some(status) = status
            && stdout.is_none()
            && stderr.is_none()
        {
            return Ok(status);
        }
        tokio::select! {
            read = read_some(&mut stdout, &mut from_stdout), if stdout.is_some() => output.push(from_stdout.get(..read).unwrap_or_default()),
            read = read_some(&mut stderr, &mut from_stderr), if stderr.is_some() => output.push(from_stderr.get(..read).unwrap_or_default()),
            ended = child.wait(), if status.is_none() => {
                status = Some(ended?);
                linger.as_mut().reset(tokio::time::Instant::now() + PIPES_LINGER);
            }
            () = &mut linger, if status.is_some() => (stdout, stderr) = (None, None),
        }
    }
}

/// Octets read; at its end, or when it cannot be read, the pipe is let go.
async fn read_some<R: AsyncRead + Unpin>(pipe: &mut Option<R>, into: &mut [u8]) -> usize {
    let Some(reader) = pipe else { return 0 };
    let read = reader.read(into).await.unwrap_or(0);
    if read == 0 {
        *pipe = None;
    }
    read
}

async fn kill_group(group: Option<u32>) {
    let Some(group) = group else { return };
    let mut kill = Command::new("/bin/sh");
    kill.args(["-c", "kill -s KILL -- \"-$0\""]).arg(group.to_string());
    kill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // It fails when the whole group has ended by itself, which is as good.
    let _ = kill.status().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, timeout: Duration) -> Outcome {
        run(&["/bin/sh".into(), "-c".into(), script.into()], timeout, 64).await
    }

    #[tokio::test]
    async fn the_exit_status_is_the_health() {
        let long = Duration::from_secs(20);
        assert_eq!(shell("echo fine", long).await, Outcome { health: Health::Passing, output: "fine\n".into() });
        assert_eq!(shell("echo so so >&2; exit 1", long).await, Outcome { health: Health::Warning, output: "so so\n".into() });
        assert_eq!(shell("exit 2", long).await.health, Health::Critical);
        assert_eq!(shell("kill -TERM $$", long).await.health, Health::Critical);
        let missing = run(&["/nonexistent/program".into()], long, 64).await;
        assert_eq!(missing.health, Health::Critical);
        assert!(missing.output.starts_with("cannot start /nonexistent/program: "), "{}", missing.output);
    }

    #[tokio::test]
    async fn output_is_bounded() {
        let outcome = shell("head -c 100000 /dev/zero | tr '\\0' x", Duration::from_secs(20)).await;
        assert_eq!(outcome.output, format!("Captured 64 of 100000 bytes\n...\n{}", "x".repeat(64)));
    }

    #[tokio::test]
    async fn children_die_with_the_script_when_time_is_up() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let script = format!("(sleep 1; echo alive > {0}) & sleep 5", mark.display());
        let begun = std::time::Instant::now();
        let outcome = shell(&script, Duration::from_millis(200)).await;
        assert_eq!(outcome, Outcome::critical("Timed out (200ms) running check"));
        assert!(begun.elapsed() < Duration::from_secs(3));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!mark.exists(), "the script's child went on");
    }

    #[tokio::test]
    async fn a_child_that_keeps_the_pipes_does_not_keep_the_check() {
        let begun = std::time::Instant::now();
        assert_eq!(shell("sleep 3 & echo done", Duration::from_secs(20)).await.output, "done\n");
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}
