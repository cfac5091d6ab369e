//! The machine, and how fast it can be: every speed in the table is held against these.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// What the figures were measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Model name of the first processor.
    pub(crate) cpu: String,
    /// Instruction sets that matrix kernels choose by.
    pub(crate) features: Vec<String>,
    /// Processors this process may use.
    pub(crate) cores: usize,
    /// Main memory in bytes.
    pub(crate) memory: u64,
}

const FEATURES: [&str; 6] = [
    "avx2",
    "avx512f",
    "avx512_bf16",
    "avx512_vnni",
    "amx_bf16",
    "amx_int8",
];

impl Machine {
    /// This one.
    pub(crate) fn describe() -> Result<Self> {
        let cpuinfo = read("/proc/cpuinfo")?;
        let flags: Vec<&str> = field(&cpuinfo, "flags")
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        Ok(Self {
            cpu: field(&cpuinfo, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            features: FEATURES
                .into_iter()
                .filter(|name| flags.contains(name))
                .map(str::to_owned)
                .collect(),
            cores: std::thread::available_parallelism()?.get(),
            memory: kilobytes(&read("/proc/meminfo")?, "MemTotal").context("/proc/meminfo")?,
        })
    }
}

/// A size of this process in bytes, by its name in `/proc/self/status`.
pub(crate) fn status(name: &str) -> Result<u64> {
    kilobytes(&read("/proc/self/status")?, name).context("/proc/self/status")
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}: it takes Linux"))
}

/// The value of the first line `name : value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim_end() == name).then(|| value.trim())
    })
}

fn kilobytes(text: &str, name: &str) -> Result<u64> {
    let value = field(text, name).with_context(|| format!("no line `{name}`"))?;
    let number = value.split_whitespace().next().unwrap_or_default();
    let kilobytes: u64 = number
        .parse()
        .with_context(|| format!("`{name}` is {value}, not a size"))?;
    Ok(kilobytes.saturating_mul(1024))
}

/// Processor time of the whole machine since it started, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    all: u64,
}

impl Ticks {
    fn now() -> Result<Self> {
        Self::parse(&read("/proc/stat")?).context("/proc/stat: no line `cpu` of numbers")
    }

    /// Of the line `cpu user nice system idle iowait irq softirq steal …`: what another guest of the host took, `steal`, is
    /// not idle for us.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            .take(8)
            .map(|number| number.parse().ok())
            .collect::<Option<_>>()?;
        Some(Self {
            idle: ticks.get(3)?.saturating_add(*ticks.get(4)?),
            all: ticks.iter().copied().fold(0, u64::saturating_add),
        })
    }

    /// Share of the time between `earlier` and now in which processors were busy.
    fn busy_since(self, earlier: Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all).max(1);
        let idle = self.idle.saturating_sub(earlier.idle).min(all);
        1.0 - idle as f64 / all as f64
    }
}

/// Waits until nobody else uses the processors, at most `patience`. Returns the share that was in use at the end: threads
/// that spin for each other lose far more than the share that a neighbour takes, so a figure must say whether it had one.
pub(crate) fn wait_until_idle(patience: Duration) -> Result<f64> {
    const IDLE: f64 = 0.05;
    const WINDOW: Duration = Duration::from_millis(500);
    let begin = Instant::now();
    loop {
        let before = Ticks::now()?;
        std::thread::sleep(WINDOW);
        let busy = Ticks::now()?.busy_since(before);
        if busy <= IDLE || begin.elapsed() >= patience {
            return Ok(busy);
        }
    }
}

/// The best that plain operators reach here.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Peaks {
    /// Bytes a second read by a sum over an array far larger than the caches.
    pub(crate) read: f64,
    /// Operations a second of an f32 matrix product.
    pub(crate) gemm_f32: f64,
    /// Operations a second of a bf16 matrix product.
    pub(crate) gemm_bf16: f64,
}

impl Peaks {
    /// Measures them, in a second or two.
    pub(crate) fn measure() -> Result<Self> {
        let _no_grad = tch::no_grad_guard();
        Ok(Self {
            read: read_speed()?,
            gemm_f32: gemm_speed(Kind::Float)?,
            gemm_bf16: gemm_speed(Kind::BFloat16)?,
        })
    }

    /// The better of two measurements: a peak is what was ever reached.
    pub(crate) fn best(self, other: Self) -> Self {
        Self {
            read: self.read.max(other.read),
            gemm_f32: self.gemm_f32.max(other.gemm_f32),
            gemm_bf16: self.gemm_bf16.max(other.gemm_bf16),
        }
    }
}

const REPEATS: usize = 8;

fn read_speed() -> Result<f64> {
    /// 1 GiB of f32: no cache holds it.
    const ELEMENTS: i64 = 1 << 28;
    let array = Tensor::f_ones([ELEMENTS], (Kind::Float, Device::Cpu))?;
    let seconds = fastest(|| {
        let sum = array.f_sum(Kind::Float)?.f_double_value(&[])?;
        anyhow::ensure!(sum > 0.0, "a sum of ones is {sum}");
        Ok(())
    })?;
    Ok(4.0 * ELEMENTS as f64 / seconds)
}

fn gemm_speed(kind: Kind) -> Result<f64> {
    /// Large enough that packing and threads cost nothing, small enough to take tens of milliseconds.
    const SIDE: i64 = 2048;
    let a = Tensor::f_rand([SIDE, SIDE], (Kind::Float, Device::Cpu))?.f_to_kind(kind)?;
    let b = Tensor::f_rand([SIDE, SIDE], (Kind::Float, Device::Cpu))?.f_to_kind(kind)?;
    let seconds = fastest(|| {
        drop(a.f_matmul(&b)?);
        Ok(())
    })?;
    Ok(2.0 * (SIDE as f64).powi(3) / seconds)
}

fn fastest(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..REPEATS {
        let begin = Instant::now();
        work()?;
        best = best.min(begin.elapsed().as_secs_f64());
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tversus\nVmHWM:\t  538112 kB\nRssAnon:\t    1024 kB\n";

    #[test]
    fn sizes_of_the_kernel_are_kilobytes() {
        assert_eq!(kilobytes(STATUS, "VmHWM").unwrap(), 538_112 * 1024);
        assert_eq!(kilobytes(STATUS, "RssAnon").unwrap(), 1024 * 1024);
        let error = kilobytes(STATUS, "VmSwap").unwrap_err().to_string();
        assert_eq!(error, "no line `VmSwap`");
        let error = kilobytes(STATUS, "Name").unwrap_err().to_string();
        assert_eq!(error, "`Name` is versus, not a size");
    }

    #[test]
    fn busy_is_what_is_neither_idle_nor_waiting_for_a_disk() {
        let before = Ticks::parse("cpu  10 0 10 70 10 0 0 0 5 5\ncpu0 1 2 3 4\n").unwrap();
        assert_eq!(before, Ticks { idle: 80, all: 100 });
        let after = Ticks::parse("cpu  30 0 20 130 10 0 0 10 9 9\n").unwrap();
        // 100 ticks, 60 of them idle, 10 stolen.
        assert!((after.busy_since(before) - 0.4).abs() < 1e-12);
        assert_eq!(Ticks::parse("cpu  1 2 3\n"), None);
        assert_eq!(Ticks::parse("intr 1\n"), None);
    }

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let cpuinfo = "model\t\t: 2\nmodel name\t: Some CPU\nflags\t\t: fpu avx2\n";
        assert_eq!(field(cpuinfo, "model name"), Some("Some CPU"));
        assert_eq!(field(cpuinfo, "model"), Some("2"));
        assert_eq!(field(cpuinfo, "name"), None);
    }
}
