//! Which device holds which layers.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::options::Device;
use crate::{Error, Result};

/// Where the layers of a model are: all on one device, or runs of layers on one device each. The embedding is with the first
/// layer; the final norm and the unembedding are with the last. An unembedding that is tied to the embedding is copied to the
/// last device.
///
/// As text: `cuda:0`; `cuda:0,cuda:1` for as many layers on each, the first ones taking what is left over;
/// `cuda:0=0-11,cuda:1=12-23` for these layers, both ends included and counted from 0. A device may stand in the list more
/// than once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Placement {
    /// Never empty.
    parts: Vec<Part>,
}

/// A device, and its layers if they are given: of all parts or of none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    device: Device,
    layers: Option<Range<usize>>,
}

const FORMS: &str = "a device (cpu, cuda or cuda:N), devices such as cuda:0,cuda:1, or devices with their layers such \
     as cuda:0=0-11,cuda:1=12-23";

impl Placement {
    /// As many layers on each of `devices`, in their order; the first ones take what is left over.
    ///
    /// # Errors
    /// No device.
    pub fn even(devices: impl IntoIterator<Item = Device>) -> Result<Self> {
        let parts = devices.into_iter().map(|device| Part {
            device,
            layers: None,
        });
        Self::of(parts.collect())
    }

    /// These layers on these devices.
    ///
    /// # Errors
    /// No device; layers that do not begin at 0, or not where those before them end. That they are as many as the model has
    /// is seen when it is loaded.
    pub fn layers(parts: impl IntoIterator<Item = (Device, Range<usize>)>) -> Result<Self> {
        let parts = parts.into_iter().map(|(device, layers)| Part {
            device,
            layers: Some(layers),
        });
        Self::of(parts.collect())
    }

    fn of(parts: Vec<Part>) -> Result<Self> {
        if parts.is_empty() {
            return Err(Error::Empty {
                what: "placement".to_owned(),
                unit: "device",
            });
        }
        let mut next = 0;
        for part in &parts {
            let Some(layers) = &part.layers else { continue };
            if layers.start != next || layers.is_empty() {
                return Err(Error::argument(
                    format!("placement on {}", part.device),
                    format!("layers from {next} on"),
                    Layers(layers),
                ));
            }
            next = layers.end;
        }
        Ok(Self { parts })
    }

    /// Its devices, in the order of the layers.
    pub fn devices(&self) -> impl Iterator<Item = Device> + '_ {
        self.parts.iter().map(|part| part.device)
    }

    /// The same with the layers of a model that has so many.
    ///
    /// # Errors
    /// Other layers than the model's; more devices than layers.
    pub fn for_layers(&self, count: usize) -> Result<Self> {
        let devices = self.parts.len();
        if let Some(layers) = self.parts.last().and_then(|last| last.layers.as_ref()) {
            if layers.end != count {
                let expected = format!("layers {}, which the model has", Layers(&(0..count)));
                return Err(Error::argument(
                    "placement",
                    expected,
                    Layers(&(0..layers.end)),
                ));
            }
            return Ok(self.clone());
        }
        if devices > count {
            let expected = format!("at most {count} devices, one for each layer");
            return Err(Error::argument("placement", expected, devices));
        }
        let mut start = 0;
        let parts = self.parts.iter().enumerate().map(|(number, part)| {
            let own = count / devices + usize::from(number < count % devices);
            let layers = start..start + own;
            start += own;
            Part {
                device: part.device,
                layers: Some(layers),
            }
        });
        Ok(Self {
            parts: parts.collect(),
        })
    }

    /// Each device with the first of its layers, in a model that has so many.
    pub(super) fn starts(&self, count: usize) -> Result<Vec<(Device, usize)>> {
        let parts = self.for_layers(count)?.parts.into_iter();
        let start = |part: Part| (part.device, part.layers.map_or(0, |layers| layers.start));
        Ok(parts.map(start).collect())
    }

    /// What a result should say of it, in a model that has so many layers: the device, or each device with its layers.
    pub(super) fn record(&self, count: usize) -> Result<String> {
        match self.parts.as_slice() {
            [part] => Ok(part.device.to_string()),
            _ => Ok(self.for_layers(count)?.to_string()),
        }
    }
}

impl Default for Placement {
    fn default() -> Self {
        Device::default().into()
    }
}

impl From<Device> for Placement {
    fn from(device: Device) -> Self {
        let layers = None;
        Self {
            parts: vec![Part { device, layers }],
        }
    }
}

/// Layers as text, both ends included.
struct Layers<'a>(&'a Range<usize>);

impl fmt::Display for Layers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.end.checked_sub(1) {
            Some(last) if !self.0.is_empty() => write!(f, "{}-{last}", self.0.start),
            _ => f.write_str("none"),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, part) in self.parts.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{}", part.device)?;
            if let Some(layers) = &part.layers {
                write!(f, "={}", Layers(layers))?;
            }
        }
        Ok(())
    }
}

impl FromStr for Placement {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::argument("device", FORMS, text);
        let number = |digits: &str| -> Result<usize> {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits.parse().ok().filter(|_| plain);
            number.ok_or_else(refuse)
        };
        let parts = text.split(',').map(|part| {
            let (device, layers) = match part.split_once('=') {
                Some((device, layers)) => (device, Some(layers)),
                None => (part, None),
            };
            let layers = layers.map(|layers| -> Result<Range<usize>> {
                let (first, last) = layers.split_once('-').unwrap_or((layers, layers));
                let end = number(last)?.checked_add(1).ok_or_else(refuse)?;
                Ok(number(first)?..end)
            });
            Ok(Part {
                device: device.parse().map_err(|_| refuse())?,
                layers: layers.transpose()?,
            })
        });
        let parts: Vec<Part> = parts.collect::<Result<_>>()?;
        let given = parts.iter().filter(|part| part.layers.is_some()).count();
        if given != 0 && given != parts.len() {
            return Err(refuse());
        }
        Self::of(parts)
    }
}

impl From<Placement> for String {
    fn from(placement: Placement) -> Self {
        placement.to_string()
    }
}

impl TryFrom<String> for Placement {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<Placement>().unwrap_err().to_string()
    }

    #[test]
    fn text_says_which_layers_are_where() {
        let two = [Device::Cuda(0), Device::Cuda(1)];
        let even = Placement::even(two).unwrap();
        assert_eq!("cuda:0,cuda:1".parse::<Placement>().unwrap(), even);
        let given = Placement::layers([(two[0], 0..13), (two[1], 13..24)]).unwrap();
        assert_eq!(
            "cuda:0=0-12,cuda:1=13-23".parse::<Placement>().unwrap(),
            given
        );
        // The first ones take what is left over.
        assert_eq!(
            even.for_layers(25).unwrap().to_string(),
            "cuda:0=0-12,cuda:1=13-24"
        );
        assert_eq!(given.for_layers(24).unwrap(), given);
        assert_eq!(
            "cuda,cpu=".parse::<Placement>().unwrap_err().to_string(),
            refused("cuda,cpu=").as_str()
        );
        let one = "cuda=0,cpu=1".parse::<Placement>().unwrap();
        assert_eq!(one.to_string(), "cuda:0=0-0,cpu=1-1");
        assert_eq!(Placement::default().to_string(), "cpu");
        assert_eq!(
            Placement::from(Device::Cuda(1)).record(9).unwrap(),
            "cuda:1"
        );
        assert_eq!(even.record(3).unwrap(), "cuda:0=0-1,cuda:1=2-2");
    }

    #[test]
    fn gaps_overlaps_and_other_counts_are_named() {
        for (text, expected) in [
            (
                "cpu=0-1,cuda=3-4",
                "placement on cuda:0: expected layers from 2 on, found 3-4",
            ),
            (
                "cpu=0-3,cuda=3-4",
                "placement on cuda:0: expected layers from 4 on, found 3-4",
            ),
            (
                "cpu=1-3",
                "placement on cpu: expected layers from 0 on, found 1-3",
            ),
            (
                "cpu=0-3,cuda=4-2",
                "placement on cuda:0: expected layers from 4 on, found none",
            ),
        ] {
            assert_eq!(refused(text), expected);
        }
        let none = Placement::even([]).unwrap_err().to_string();
        assert_eq!(none, "placement is empty, expected at least one device");
        for bad in [
            "",
            ",",
            "cpu,",
            "gpu",
            "cpu=",
            "cpu=-",
            "cpu=0-",
            "cpu=-1",
            "cpu=+0",
            "cpu=0-1-2",
            "cpu=a",
            "cpu=0-1,cuda",
            "cpu=0-99999999999999999999",
            "cpu=0-18446744073709551615",
            "cpu 0-1",
        ] {
            assert_eq!(
                refused(bad),
                format!("device: expected {FORMS}, found {bad}")
            );
        }
        let counts = |text: &str, layers| {
            let placement = text.parse::<Placement>().unwrap();
            placement.for_layers(layers).unwrap_err().to_string()
        };
        assert_eq!(
            counts("cpu=0-11,cuda=12-23", 22),
            "placement: expected layers 0-21, which the model has, found 0-23"
        );
        assert_eq!(
            counts("cpu=0-1", 3),
            "placement: expected layers 0-2, which the model has, found 0-1"
        );
        assert_eq!(
            counts("cpu,cuda:0,cuda:1", 2),
            "placement: expected at most 2 devices, one for each layer, found 3"
        );
    }

    proptest! {
        #[test]
        fn reads_back_what_it_prints(
            devices in prop::collection::vec(0_usize..4, 1..5),
            counts in prop::collection::vec(1_usize..9, 5),
            given: bool,
        ) {
            let device = |number: &usize| match number {
                0 => Device::Cpu,
                number => Device::Cuda(number - 1),
            };
            let mut end = 0;
            let placement = if given {
                Placement::layers(devices.iter().zip(&counts).map(|(own, count)| {
                    end += count;
                    (device(own), end - count..end)
                }))
            } else {
                end = 30;
                Placement::even(devices.iter().map(device))
            };
            let placement = placement.unwrap();
            prop_assert_eq!(placement.to_string().parse::<Placement>().unwrap(), placement.clone());
            let json = serde_json::to_string(&placement).unwrap();
            prop_assert_eq!(serde_json::from_str::<Placement>(&json).unwrap(), placement.clone());
            // Every layer is somewhere, and an even split is even.
            let starts: Vec<usize> = placement.starts(end).unwrap().iter().map(|(_, start)| *start).collect();
            let ends = starts.iter().skip(1).copied().chain([end]);
            let sizes: Vec<usize> = starts.iter().zip(ends).map(|(start, end)| end - start).collect();
            prop_assert_eq!(starts[0], 0);
            prop_assert!(sizes.iter().all(|size| *size > 0));
            prop_assert!(given || sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
    }
}
