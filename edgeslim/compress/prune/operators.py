"""What operators do to channels: those that are not here may mix them."""

import operator

from edgeslim.model.graph import ATEN

UNARY = {
    ATEN.relu.default,
    ATEN.relu6.default,
    ATEN.hardtanh.default,
    ATEN.sigmoid.default,
    ATEN.silu.default,
    ATEN.hardswish.default,
    ATEN.hardsigmoid.default,
    ATEN.gelu.default,
    ATEN.tanh.default,
    ATEN.elu.default,
    ATEN.leaky_relu.default,
    ATEN.mish.default,
    ATEN.softplus.default,
    ATEN.celu.default,
    ATEN.selu.default,
    ATEN.log_sigmoid.default,
    ATEN.abs.default,
    ATEN.exp.default,
    ATEN.sqrt.default,
    ATEN.rsqrt.default,
    ATEN.reciprocal.default,
    ATEN.pow.Tensor_Scalar,
    ATEN.dropout.default,
    ATEN.feature_dropout.default,
    ATEN.contiguous.default,
    ATEN.clone.default,
    ATEN.alias.default,
    ATEN.relu_.default,
    ATEN.hardtanh_.default,
    ATEN.sigmoid_.default,
    ATEN.silu_.default,
    ATEN.hardswish_.default,
    ATEN.hardsigmoid_.default,
    ATEN.dropout_.default,
    ATEN.elu_.default,
    ATEN.leaky_relu_.default,
}
BINARY = {
    ATEN.add.Tensor,
    ATEN.add_.Tensor,
    ATEN.mul.Tensor,
    ATEN.mul_.Tensor,
    ATEN.sub.Tensor,
    ATEN.sub_.Tensor,
    ATEN.div.Tensor,
    ATEN.div_.Tensor,
    ATEN.maximum.default,
    ATEN.minimum.default,
}
SPATIAL = {
    ATEN.max_pool2d.default,
    ATEN.avg_pool2d.default,
    ATEN.adaptive_avg_pool2d.default,
    ATEN.upsample_nearest2d.vec,
    ATEN.upsample_bilinear2d.vec,
    ATEN.pad.default,
}
NORMS = {ATEN.batch_norm.default}
MEANS = {ATEN.mean.dim}
MOVING = {
    ATEN.view.default,
    ATEN.reshape.default,
    ATEN.flatten.using_ints,
    ATEN.permute.default,
    ATEN.transpose.int,
    ATEN.cat.default,
    ATEN.chunk.default,
    ATEN.split.Tensor,
    ATEN.split_with_sizes.default,
    ATEN.slice.Tensor,
    ATEN.select.int,
    ATEN.unsqueeze.default,
    ATEN.squeeze.dim,
    ATEN.expand.default,
    operator.getitem,
}
