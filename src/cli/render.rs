//! How a followed run looks: a bar in a terminal, lines in a pipe, JSON for scripts.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use prost_types::Timestamp;
use tonic::Status;

use super::display;
use super::watch::Summary;
use crate::grpc::pb::RunEvent;

/// Between two lines of counts at least this much time passes.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// How often the bar moves by itself.
const STEADY_TICK: Duration = Duration::from_millis(200);
const RUN_TEMPLATE: &str = "{prefix:>10} [{bar:40}] {pos}/{len} jobs  {elapsed}\n{wide_msg}";
const COUNT_TEMPLATE: &str = "{prefix:>10} [{bar:40}] {pos}/{len}  {per_sec}  eta {eta}";

/// Shows a run while it is followed.
pub trait Renderer: Send {
    /// The run moved: this is where it stands.
    fn progress(&mut self, seen: &Summary) -> io::Result<()>;
    /// One thing happened; comes before the progress it led to.
    fn event(
        &mut self,
        _revision: i64,
        _at: Option<&Timestamp>,
        _event: &RunEvent,
    ) -> io::Result<()> {
        Ok(())
    }
    /// Some time passed.
    fn tick(&mut self) -> io::Result<()> {
        Ok(())
    }
    /// The stream was cut and will be taken up after `wait`.
    fn interrupted(&mut self, why: &Status, wait: Duration) -> io::Result<()>;
    /// The run is over.
    fn finish(&mut self, summary: &Summary) -> io::Result<()>;
}

/// The renderer that suits where the output goes. `events` shows each event as well.
pub fn choose(json: bool, events: bool) -> Box<dyn Renderer> {
    if json {
        Box::new(Lines::new(io::stdout(), true, events))
    } else if io::stdout().is_terminal() && io::stderr().is_terminal() {
        Box::new(Bar::new(events))
    } else {
        Box::new(Lines::new(io::stdout(), false, events))
    }
}

/// A bar that counts what is done; hidden where stderr is no terminal.
pub fn counting(prefix: &'static str, total: u64) -> ProgressBar {
    ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr())
        .with_style(style(COUNT_TEMPLATE))
        .with_prefix(prefix)
}

fn style(template: &str) -> ProgressStyle {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

/// A live bar on stderr.
pub struct Bar {
    bar: ProgressBar,
    events: bool,
}

impl Bar {
    /// A bar; with `events`, they scroll by above it.
    pub fn new(events: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr())
            .with_style(style(RUN_TEMPLATE))
            .with_prefix("connecting");
        bar.enable_steady_tick(STEADY_TICK);
        Self { bar, events }
    }

    fn show(&self, seen: &Summary) {
        // Counts are never negative.
        self.bar.set_length(u64::try_from(seen.counts.total).unwrap_or(0));
        self.bar.set_position(u64::try_from(seen.ended_jobs()).unwrap_or(0));
        self.bar.set_prefix(display::run_state(seen.state));
        let live = format!(
            "{} queued, {} dialing, {} in call",
            seen.counts.queued, seen.counts.dialing, seen.counts.in_call
        );
        let outcomes = display::outcomes(seen);
        let gap = if outcomes.is_empty() { "" } else { "  |  " };
        self.bar.set_message(format!("{live}{gap}{outcomes}"));
    }
}

impl Renderer for Bar {
    fn progress(&mut self, seen: &Summary) -> io::Result<()> {
        self.show(seen);
        Ok(())
    }

    fn event(&mut self, revision: i64, at: Option<&Timestamp>, event: &RunEvent) -> io::Result<()> {
        if self.events {
            self.bar.println(format!(
                "{revision:>6} {} {}",
                display::time(at),
                display::event_line(event)
            ));
        }
        Ok(())
    }

    fn interrupted(&mut self, why: &Status, wait: Duration) -> io::Result<()> {
        let wait = wait.as_secs_f64();
        self.bar.set_message(format!("connection lost ({}); again in {wait:.1} s", why.message()));
        Ok(())
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        self.show(summary);
        self.bar.finish();
        Ok(())
    }
}

/// Lines of text or JSON: one for each change of counts, but no more than one a second, and always
/// the last.
pub struct Lines<W> {
    out: W,
    json: bool,
    events: bool,
    pending: Option<Summary>,
    shown: Option<Summary>,
    shown_at: Option<Instant>,
}

impl<W: Write + Send> Lines<W> {
    /// Lines to `out`; with `events`, one for each event as well.
    pub const fn new(out: W, json: bool, events: bool) -> Self {
        Self { out, json, events, pending: None, shown: None, shown_at: None }
    }

    fn print(&mut self, seen: Summary) -> io::Result<()> {
        if self.json {
            writeln!(self.out, "{}", display::summary_json(&seen))?;
        } else {
            let outcomes = display::outcomes(&seen);
            let gap = if outcomes.is_empty() { "" } else { "; " };
            let state = display::run_state(seen.state);
            writeln!(
                self.out,
                "{state}: {}/{} jobs ended; {}{gap}{outcomes}",
                seen.ended_jobs(),
                seen.counts.total,
                display::counts(&seen.counts)
            )?;
        }
        self.out.flush()?;
        self.shown = Some(seen);
        self.shown_at = Some(Instant::now());
        Ok(())
    }

    /// Prints what is pending if it differs from what was printed last, and it is time.
    fn settle(&mut self, at_once: bool) -> io::Result<()> {
        let due = at_once || self.shown_at.is_none_or(|at| at.elapsed() >= LINE_INTERVAL);
        if !due {
            return Ok(());
        }
        let Some(seen) = self.pending.take() else { return Ok(()) };
        let same = |shown: &Summary| {
            (shown.state, &shown.counts, &shown.outcomes)
                == (seen.state, &seen.counts, &seen.outcomes)
        };
        if self.shown.as_ref().is_some_and(same) { Ok(()) } else { self.print(seen) }
    }
}

impl<W: Write + Send> Renderer for Lines<W> {
    fn progress(&mut self, seen: &Summary) -> io::Result<()> {
        self.pending = Some(seen.clone());
        self.settle(false)
    }

    fn event(&mut self, revision: i64, at: Option<&Timestamp>, event: &RunEvent) -> io::Result<()> {
        if !self.events {
            return Ok(());
        }
        if !self.json {
            return writeln!(
                self.out,
                "{revision:>6} {} {}",
                display::time(at),
                display::event_line(event)
            );
        }
        let mut value = display::event_json(event);
        value["revision"] = revision.into();
        value["time"] = display::time(at).into();
        writeln!(self.out, "{value}")
    }

    fn tick(&mut self) -> io::Result<()> {
        self.settle(false)
    }

    fn interrupted(&mut self, why: &Status, wait: Duration) -> io::Result<()> {
        self.settle(true)?;
        // Not to the output: it is nothing that happened to the run.
        eprintln!("connection lost ({}); again in {:.1} s", why.message(), wait.as_secs_f64());
        Ok(())
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        self.pending = Some(summary.clone());
        self.settle(true)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::pb::{JobCounts, RunState};

    fn seen(completed: i64, state: RunState) -> Summary {
        let counts =
            JobCounts { total: 9, queued: 9 - completed, completed, ..JobCounts::default() };
        Summary { state, counts, revision: completed, ..Summary::default() }
    }

    #[test]
    fn lines_are_few_and_the_last_is_there() {
        let mut lines = Lines::new(Vec::new(), false, false);
        for completed in 0..9 {
            lines.progress(&seen(completed, RunState::Running)).unwrap();
            lines.tick().unwrap();
        }
        lines.finish(&seen(9, RunState::Completed)).unwrap();
        lines.finish(&seen(9, RunState::Completed)).unwrap();
        let text = String::from_utf8(lines.out).unwrap();
        assert_eq!(
            text,
            "running: 0/9 jobs ended; queued 9\ncompleted: 9/9 jobs ended; completed 9\n"
        );
    }

    #[test]
    fn json_lines_are_json() {
        let mut lines = Lines::new(Vec::new(), true, true);
        lines.event(3, None, &RunEvent::default()).unwrap();
        lines.finish(&seen(9, RunState::Completed)).unwrap();
        let text = String::from_utf8(lines.out).unwrap();
        let values: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(values[0]["revision"], 3);
        assert_eq!(values[1]["jobs"]["completed"], 9);
        assert_eq!(values[1]["state"], "completed");
    }

    #[test]
    fn templates_are_sound() {
        assert!(ProgressStyle::with_template(RUN_TEMPLATE).is_ok());
        assert!(ProgressStyle::with_template(COUNT_TEMPLATE).is_ok());
    }
}
