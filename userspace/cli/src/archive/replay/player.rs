//! What a replay shows when. It neither waits nor reads keys.

use std::time::Duration;

use crate::archive::transcript::Beat;

/// How fast it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// So many times as fast as it went; 0: without waiting.
    pub(super) speed: f64,
    /// The longest pause, as it is shown.
    pub(super) longest: Duration,
}

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Pause,
    Forward,
    Back,
    Faster,
    Slower,
    Quit,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'b> {
    Show(&'b Beat),
    /// Until then, or for a key where there is no time.
    Wait(Option<Duration>),
    End,
}

/// A replay.
#[derive(Debug)]
pub(super) struct Player<'b> {
    beats: &'b [Beat],
    pace: Pace,
    /// The next beat.
    at: usize,
    /// The time before it was waited for.
    is_due: bool,
    is_paused: bool,
    is_over: bool,
}

impl<'b> Player<'b> {
    pub(super) fn new(beats: &'b [Beat], pace: Pace) -> Self {
        Self { beats, pace, at: 0, is_due: true, is_paused: false, is_over: false }
    }

    /// What is next.
    pub(super) fn next(&mut self) -> Next<'b> {
        let Some(beat) = self.beats.get(self.at).filter(|_| !self.is_over) else {
            return Next::End;
        };
        if self.is_paused && !self.is_due {
            return Next::Wait(None);
        }
        if !self.is_due {
            let wait = self.wait(beat);
            if !wait.is_zero() {
                return Next::Wait(Some(wait));
            }
        }
        (self.at, self.is_due) = (self.at + 1, false);
        Next::Show(beat)
    }

    /// The time before the next beat is over.
    pub(super) fn waited(&mut self) {
        self.is_due = true;
    }

    /// Does what a key means; answers what to say of it.
    pub(super) fn press(&mut self, key: Key) -> Option<String> {
        match key {
            Key::Quit => {
                self.is_over = true;
                None
            }
            Key::Pause => {
                self.is_paused = !self.is_paused;
                self.is_paused.then(|| "paused: space goes on".to_owned())
            }
            Key::Forward => {
                self.is_due = true;
                None
            }
            Key::Back => {
                let beat = self.beats.get(self.at.saturating_sub(1))?;
                let is_before = |one: &Beat| one.is_first && one.command < beat.command;
                let shown = self.beats.get(..self.at).unwrap_or_default();
                self.at = shown.iter().rposition(is_before).unwrap_or(0);
                let to = self.beats.get(self.at)?;
                self.is_due = true;
                Some(format!("back to #{}", to.command))
            }
            Key::Faster | Key::Slower => {
                let times = if key == Key::Faster { 2.0 } else { 0.5 };
                // Without waiting there is nothing to press a key in.
                self.pace.speed = (self.pace.speed * times).clamp(1.0 / 64.0, 1e6);
                Some(format!("{} times as fast as it went", self.pace.speed))
            }
        }
    }

    fn wait(&self, beat: &Beat) -> Duration {
        let Pace { speed, longest } = self.pace;
        let before = self.at.checked_sub(1).and_then(|at| self.beats.get(at));
        let went = before.map_or(Duration::ZERO, |before| beat.at.saturating_sub(before.at));
        if speed > 0.0 { went.div_f64(speed).min(longest) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats() -> Vec<Beat> {
        let beat = |(seconds, command, is_first): (u64, i32, bool)| Beat {
            at: Duration::from_secs(seconds),
            command,
            is_first,
            text: format!("{command}{is_first}"),
        };
        [(0, 1, true), (1, 1, false), (2, 2, true), (100, 2, false), (101, 3, true)]
            .map(beat)
            .to_vec()
    }

    /// Shows all until it waits or ends: the commands shown, and what then.
    fn run<'b>(player: &mut Player<'b>) -> (Vec<i32>, Next<'b>) {
        let mut shown = Vec::new();
        loop {
            match player.next() {
                Next::Show(beat) => shown.push(beat.command),
                other => return (shown, other),
            }
        }
    }

    fn seconds(seconds: u64) -> Next<'static> {
        Next::Wait(Some(Duration::from_secs(seconds)))
    }

    #[test]
    fn it_waits_as_it_went_by_the_speed_and_no_longer_than_said() {
        let beats = beats();
        let pace = Pace { speed: 0.5, longest: Duration::from_secs(10) };
        let mut player = Player::new(&beats, pace);
        for (shown, then) in [(1, seconds(2)), (1, seconds(2)), (2, seconds(10)), (2, seconds(2))] {
            assert_eq!(run(&mut player), (vec![shown], then));
            player.waited();
        }
        assert_eq!(run(&mut player), (vec![3], Next::End));
        let mut player = Player::new(&beats, Pace { speed: 0.0, ..pace });
        assert_eq!(run(&mut player), (vec![1, 1, 2, 2, 3], Next::End));
    }

    #[test]
    fn keys_pause_seek_and_end_it() {
        let beats = beats();
        let pace = Pace { speed: 1.0, longest: Duration::from_secs(10) };
        let mut player = Player::new(&beats, pace);
        assert_eq!(run(&mut player), (vec![1], seconds(1)));
        assert!(player.press(Key::Pause).unwrap().starts_with("paused"));
        assert_eq!(run(&mut player), (vec![], Next::Wait(None)));
        // On by one, while it is paused.
        assert_eq!(player.press(Key::Forward), None);
        assert_eq!(run(&mut player), (vec![1], Next::Wait(None)));
        assert_eq!(player.press(Key::Pause), None);
        player.waited();
        assert_eq!(run(&mut player), (vec![2], seconds(10)));
        assert_eq!(player.press(Key::Back).as_deref(), Some("back to #1"));
        assert_eq!(run(&mut player), (vec![1], seconds(1)));
        assert_eq!(player.press(Key::Faster).as_deref(), Some("2 times as fast as it went"));
        assert_eq!(run(&mut player).1, Next::Wait(Some(Duration::from_millis(500))));
        assert_eq!(player.press(Key::Quit), None);
        assert_eq!(run(&mut player), (vec![], Next::End));
    }
}
