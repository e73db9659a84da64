//! Ctrl-C and its like while servers run: the tests end first, then the servers are stopped.

use std::ffi::OsString;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::shell;

const POLL: Duration = Duration::from_millis(20);

/// Notes the first signal instead of dying of it; the second one kills as usual.
#[derive(Debug)]
pub(super) struct Interrupt {
    asked: Arc<AtomicBool>,
}

impl Interrupt {
    /// From now on.
    ///
    /// # Errors
    ///
    /// When the system refuses the handlers.
    pub(super) fn catch() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        #[cfg(unix)]
        for signal in [signal_hook::consts::SIGHUP, signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The order matters: the first signal finds the flag down.
            signal_hook::flag::register_conditional_default(signal, asked.clone())
                .and_then(|_| signal_hook::flag::register(signal, asked.clone()))
                .context("cannot wait for Ctrl-C")?;
        }
        Ok(Self { asked })
    }

    /// As [`shell::run`], with more environment, which is not shown; passes a signal on to the command, and reports it
    /// when that has ended.
    ///
    /// # Errors
    ///
    /// When the command can't be started, doesn't succeed, or a signal came.
    pub(super) fn run(&self, command: &mut Command, environment: Vec<(String, OsString)>) -> Result<()> {
        self.check()?;
        let line = shell::line(command);
        eprintln!("$ {line}");
        let mut child = command.envs(environment).spawn().with_context(|| format!("cannot start `{line}`"))?;
        let status = self.wait(&mut child).with_context(|| format!("cannot wait for `{line}`"))?;
        self.check()?;
        if !status.success() {
            bail!("`{line}` failed ({status})");
        }
        Ok(())
    }

    /// An error when a signal has come.
    ///
    /// # Errors
    ///
    /// See above.
    pub(super) fn check(&self) -> Result<()> {
        if self.asked.load(Ordering::SeqCst) {
            bail!("interrupted");
        }
        Ok(())
    }

    fn wait(&self, child: &mut Child) -> std::io::Result<ExitStatus> {
        let mut told = false;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if !told && self.asked.load(Ordering::SeqCst) {
                told = true;
                end(child)?;
            }
            thread::sleep(POLL);
        }
    }
}

/// Asks the child to end. It heard a Ctrl-C at the terminal by itself, and doesn't mind to be told twice.
#[cfg(unix)]
fn end(child: &mut Child) -> std::io::Result<()> {
    let child = rustix::process::Pid::from_child(child);
    Ok(rustix::process::kill_process(child, rustix::process::Signal::TERM)?)
}

#[cfg(not(unix))]
fn end(child: &mut Child) -> std::io::Result<()> {
    child.kill()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_signal_ends_the_command_and_is_reported() {
        let interrupt = Interrupt { asked: Arc::default() };
        let run = |command: &mut Command| interrupt.run(command, vec![("NAME".to_owned(), "hidden".into())]);
        run(Command::new("sh").args(["-c", "test \"$NAME\" = hidden"])).unwrap();
        let error = run(&mut Command::new("false")).unwrap_err().to_string();
        assert!(error.contains("`false` failed"), "{error}");

        let (asked, start) = (interrupt.asked.clone(), Instant::now());
        let signal = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            asked.store(true, Ordering::SeqCst);
        });
        let error = run(Command::new("sleep").arg("600")).unwrap_err().to_string();
        assert!(error.contains("interrupted") && start.elapsed() < Duration::from_secs(60), "{error}");
        signal.join().unwrap();
        assert!(run(&mut Command::new("true")).is_err(), "nothing is started afterwards");
    }
}
