//! Between tensors and host arrays.

use ndarray::{Array2, ArrayView2};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// A two-dimensional tensor of any float kind on any device, as `f32` on the host.
pub(super) fn to_array2(tensor: &Tensor) -> Result<Array2<f32>> {
    let (rows, width) = tensor.size2()?;
    let tensor = tensor
        .f_to_device(Device::Cpu)?
        .f_to_kind(Kind::Float)?
        .f_contiguous()?;
    let mut values = vec![0.0_f32; tensor.numel()];
    let count = values.len();
    tensor.f_copy_data(&mut values, count)?;
    Array2::from_shape_vec((rows as usize, width as usize), values).map_err(|error| Error::Engine {
        engine: "ndarray".to_owned(),
        source: Box::new(error),
    })
}

/// A host array as a tensor.
pub(super) fn from_array2(
    array: &ArrayView2<'_, f32>,
    kind: Kind,
    device: Device,
) -> Result<Tensor> {
    let (rows, width) = array.dim();
    let array = array.as_standard_layout();
    let values = array.as_slice().unwrap_or_default();
    let tensor = Tensor::f_from_slice(values)?.f_view([rows as i64, width as i64])?;
    Ok(tensor.f_to_device(device)?.f_to_kind(kind)?)
}
