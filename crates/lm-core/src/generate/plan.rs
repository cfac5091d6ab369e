//! Which replies run together.

use std::ops::Range;

use super::Request;

/// Replies that run together: each of `samples` of each of `requests`. The samples share one reading of their prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wave {
    pub(super) requests: Range<usize>,
    pub(super) samples: Range<usize>,
}

impl Wave {
    /// Tokens of its prompts.
    pub(super) fn read(&self, requests: &[Request]) -> usize {
        let prompts = requests.get(self.requests.clone()).unwrap_or_default();
        prompts.iter().map(|request| request.tokens.len()).sum()
    }

    /// Fewest tokens it takes: its prompts, and one token for each reply.
    pub(super) fn least(&self, requests: &[Request]) -> usize {
        self.read(requests) + self.requests.len() * self.samples.len()
    }

    /// Without its last request, or its last sample; `None` if it is a single reply.
    fn less(mut self) -> Option<Self> {
        if self.requests.len() > 1 {
            self.requests.end -= 1;
        } else if self.samples.len() > 1 {
            self.samples.end -= 1;
        } else {
            return None;
        }
        Some(self)
    }
}

/// Cuts all replies, in order, into waves of at most `batch` rows.
#[derive(Debug)]
pub(super) struct Plan {
    /// For each request the rows that one reply to it takes, at least one.
    widths: Vec<usize>,
    samples: usize,
    batch: usize,
    /// Request and sample of the first reply that is in no wave yet.
    next: (usize, usize),
}

impl Plan {
    pub(super) fn new(widths: Vec<usize>, samples: usize, batch: usize) -> Self {
        Self {
            widths,
            samples,
            batch,
            next: (0, 0),
        }
    }

    /// The next wave, cut down until it `fits`. `None` if none is left, or not even a single reply fits.
    pub(super) fn next(&mut self, fits: impl Fn(&Wave) -> bool) -> Option<Wave> {
        let (request, sample) = self.next;
        let width = *self.widths.get(request)?;
        // A prompt of many samples goes alone if they fill the batch; more samples than that read their prompt once a
        // batch.
        let rows = |width: usize| self.samples.saturating_mul(width);
        let mut wave = if sample > 0 || rows(width) > self.batch {
            let together = (self.batch / width).max(1);
            Wave {
                requests: request..request + 1,
                samples: sample..self.samples.min(sample + together),
            }
        } else {
            let mut left = self.batch;
            let together = self.widths[request..].iter().take_while(|&&width| {
                let fits = rows(width) <= left;
                left = left.saturating_sub(rows(width));
                fits
            });
            Wave {
                requests: request..request + together.count(),
                samples: 0..self.samples,
            }
        };
        while !fits(&wave) {
            wave = wave.less()?;
        }
        self.next = if wave.samples.end < self.samples {
            (request, wave.samples.end)
        } else {
            (wave.requests.end, 0)
        };
        Some(wave)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(requests: usize, samples: usize, batch: usize) -> Vec<Wave> {
        let mut plan = Plan::new(vec![1; requests], samples, batch);
        std::iter::from_fn(|| plan.next(|_| true)).collect()
    }

    fn wave(requests: Range<usize>, samples: Range<usize>) -> Wave {
        Wave { requests, samples }
    }

    #[test]
    fn whole_prompts_share_a_batch_and_many_samples_fill_several() {
        assert_eq!(
            waves(5, 1, 2),
            [wave(0..2, 0..1), wave(2..4, 0..1), wave(4..5, 0..1)]
        );
        assert_eq!(waves(3, 2, 5), [wave(0..2, 0..2), wave(2..3, 0..2)]);
        assert_eq!(
            waves(2, 3, 2),
            [
                wave(0..1, 0..2),
                wave(0..1, 2..3),
                wave(1..2, 0..2),
                wave(1..2, 2..3)
            ]
        );
        assert_eq!(waves(2, usize::MAX, usize::MAX).len(), 2);
    }

    #[test]
    fn replies_that_take_several_rows() {
        let waves = |widths: &[usize], samples, batch| -> Vec<Wave> {
            let mut plan = Plan::new(widths.to_vec(), samples, batch);
            std::iter::from_fn(|| plan.next(|_| true)).collect()
        };
        assert_eq!(
            waves(&[2, 1, 2, 3, 1], 1, 4),
            [wave(0..2, 0..1), wave(2..3, 0..1), wave(3..5, 0..1)]
        );
        assert_eq!(
            waves(&[2, 1], 3, 5),
            [wave(0..1, 0..2), wave(0..1, 2..3), wave(1..2, 0..3)]
        );
        // More than the batch holds: one by one, if it comes to that.
        assert_eq!(waves(&[3, 3], 2, 2).len(), 4);
    }

    /// Whatever is refused on the way, no reply is left out or run twice.
    #[test]
    fn a_wave_that_does_not_fit_is_cut_down_and_the_rest_comes_later() {
        for most in 1..7 {
            let mut plan = Plan::new(vec![1; 4], 3, 6);
            let mut seen = Vec::new();
            while let Some(wave) =
                plan.next(|wave| wave.requests.len() * wave.samples.len() <= most)
            {
                for request in wave.requests {
                    seen.extend(wave.samples.clone().map(|sample| (request, sample)));
                }
            }
            let all: Vec<_> = (0..4)
                .flat_map(|request| (0..3).map(move |sample| (request, sample)))
                .collect();
            assert_eq!(seen, all, "at most {most}");
        }
        assert_eq!(Plan::new(vec![1; 4], 3, 6).next(|_| false), None);
    }
}
