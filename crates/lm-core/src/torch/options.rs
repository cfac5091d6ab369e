//! How a model is loaded.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tch::Kind;

use super::placement::Placement;
use crate::{Error, Result};

/// Element type the model runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Dtype {
    /// 32-bit floats: the reference, and the default.
    #[default]
    F32,
    /// bfloat16: half the memory, three decimal digits.
    Bf16,
    /// 16-bit floats.
    F16,
}

/// Where the model runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The CUDA device with this index.
    Cuda(usize),
}

/// How a model is loaded: dtype, devices, checks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[must_use]
pub struct LoadOptions {
    pub(super) dtype: Dtype,
    #[serde(rename = "device")]
    pub(super) placement: Placement,
    pub(super) check_finite: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            dtype: Dtype::default(),
            placement: Placement::default(),
            check_finite: true,
        }
    }
}

impl LoadOptions {
    /// Element type to run in; [`Dtype::F32`] unless set.
    pub fn dtype(mut self, dtype: Dtype) -> Self {
        self.dtype = dtype;
        self
    }

    /// Device to run on; [`Device::Cpu`] unless set. A device that is absent is an error, never replaced by another.
    pub fn device(self, device: Device) -> Self {
        self.placement(device.into())
    }

    /// Devices to run on, and which layers each holds. A device that is absent is an error, never replaced by another.
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Whether every weight is checked for NaN and infinities, which reads all of them once; true unless set.
    pub fn check_finite(mut self, check: bool) -> Self {
        self.check_finite = check;
        self
    }
}

impl Dtype {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::F32 => Kind::Float,
            Self::Bf16 => Kind::BFloat16,
            Self::F16 => Kind::Half,
        }
    }
}

impl Device {
    /// The libtorch device, if this build and this machine have it.
    pub(super) fn find(self) -> Result<tch::Device> {
        match self {
            Self::Cpu => Ok(tch::Device::Cpu),
            Self::Cuda(index) => {
                let refuse = |why: String| {
                    Err(Error::Device {
                        asked: self.to_string(),
                        why,
                    })
                };
                if !tch::utils::has_cuda() {
                    return refuse(
                        "this libtorch has no CUDA half; `cargo xtask setup --cuda` brings one, and the linker must be \
                         told `-Wl,--no-as-needed -ltorch`"
                            .to_owned(),
                    );
                }
                let count = tch::Cuda::device_count();
                match usize::try_from(count) {
                    Ok(count) if index < count => Ok(tch::Device::Cuda(index)),
                    _ => refuse(format!("this machine has {count} CUDA devices")),
                }
            }
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "f32" | "float32" => Ok(Self::F32),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            "f16" | "float16" => Ok(Self::F16),
            other => Err(Error::argument("dtype", "f32, bf16 or f16", other)),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let index = text
            .strip_prefix("cuda")
            .map(|rest| rest.strip_prefix(':').unwrap_or(rest));
        match (text, index) {
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(index)) if index.bytes().all(|byte| byte.is_ascii_digit()) => index
                .parse()
                .map(Self::Cuda)
                .map_err(|_| Error::argument("device", "cpu, cuda or cuda:N", text)),
            _ => Err(Error::argument("device", "cpu, cuda or cuda:N", text)),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl TryFrom<String> for Device {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_dtypes_read_back_what_they_print() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3)] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        for bad in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda::1", "mps"] {
            let error = bad.parse::<Device>().unwrap_err().to_string();
            assert_eq!(
                error,
                format!("device: expected cpu, cuda or cuda:N, found {bad}")
            );
        }
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::F16] {
            assert_eq!(dtype.to_string().parse::<Dtype>().unwrap(), dtype);
        }
        assert!(
            "int8"
                .parse::<Dtype>()
                .unwrap_err()
                .to_string()
                .contains("expected f32, bf16 or f16")
        );
    }
}
