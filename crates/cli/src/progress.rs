//! Word on standard error, on a terminal only, of what takes longer than two seconds.
//!
//! Nothing is shown before that, and nothing where the output is piped or JSON.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;

/// What is over sooner needs no word.
const PATIENCE: Duration = Duration::from_secs(2);
const TURN: Duration = Duration::from_millis(100);

/// Shown while something is under way; gone when dropped.
pub struct Progress {
    bar: ProgressBar,
    shown: bool,
    allowed: bool,
}

impl Progress {
    /// Of something with this many steps; 0 where that is not known.
    pub fn new(json: bool, what: &str, steps: u64) -> Progress {
        let bar = ProgressBar::with_draw_target((steps > 0).then_some(steps), ProgressDrawTarget::hidden());
        bar.set_message(what.to_owned());
        let template = match steps {
            0 => "{spinner} {msg} ({elapsed})",
            _ => "{spinner} {bar:20} {pos}/{len} {msg} ({elapsed})",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let allowed = !json && std::io::stderr().is_terminal() && std::io::stdout().is_terminal();
        Progress { bar, shown: false, allowed }
    }

    /// Says what is done now.
    pub fn step(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.inc(1);
    }

    fn show(&mut self) {
        if self.allowed && !self.shown {
            self.shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(TURN);
        }
    }

    /// Waits for `work`, and shows itself once that takes long.
    pub async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = Box::pin(work);
        let left = PATIENCE.saturating_sub(self.bar.elapsed());
        match tokio::time::timeout(left, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                self.show();
                work.await
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Waits for `work`, and says so once that takes long.
pub async fn during<T>(json: bool, what: &str, work: impl Future<Output = T>) -> T {
    Progress::new(json, what, 0).during(work).await
}
