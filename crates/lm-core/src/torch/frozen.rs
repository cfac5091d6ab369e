//! Tensors that nothing changes any more.

use std::ops::Deref;

use tch::Tensor;

/// A weight after loading: read by every thread, written by none.
///
/// `tch` makes `Tensor` `Send` but not `Sync`, because a tensor can be written through a shared reference to a clone of it.
/// Here that cannot happen, so this is the one place that says `Sync`:
/// * the inner tensor is private to this type, and the crate never hands out a `tch` tensor;
/// * only `&Tensor` comes out, and in-place operations of `tch` need `&mut`;
/// * no code of the crate makes a `shallow_clone` or a view of a weight and then writes to it, and no weight requires
///   gradients, so autograd keeps no state in it;
/// * libtorch's reference counts are atomic, and its operators only read their inputs.
///
/// A clone shares the storage, and is as frozen.
#[derive(Debug)]
pub(super) struct Frozen(Tensor);

// SAFETY: see the type's documentation.
unsafe impl Sync for Frozen {}

impl Frozen {
    pub(super) fn new(tensor: Tensor) -> Self {
        Self(tensor)
    }
}

impl Clone for Frozen {
    fn clone(&self) -> Self {
        Self(self.0.shallow_clone())
    }
}

impl Deref for Frozen {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}
