"""What an NPU runs, as data: the section `npu` of a device profile."""

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt

from edgeslim.strict_yaml import Section

MOST_CODE = 127  # of an int8 weight
AtLeastOne = Annotated[StrictInt, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]


class NpuLimits(Section):
    """What the compiler of an NPU places on it, of the operators of a folded network (names of aten).

    `source` vouches for every entry. Weights are per-channel or per-tensor as the runtime's entry says, and the
    batch is `limits.max_batch`.
    """

    source: Text
    layout: Literal["NHWC"]
    static_shapes: StrictBool
    dtypes: Annotated[tuple[Literal["int8"], ...], Field(min_length=1)]
    operators: Annotated[tuple[Text, ...], Field(min_length=1)]
    fused_operators: tuple[Text, ...]  # of them those that run only inside the layer, sum or product before them
    max_channels: AtLeastOne  # that a layer reads
    max_weight_sum: AtLeastOne  # of the absolute int8 codes of one output of a layer
    max_stride: (
        AtLeastOne | None
    )  # of a convolution that pads, dilates or has groups; None: it takes any, as plain ones
    max_pool_height: AtLeastOne  # of a window, in values
    max_pool_area: AtLeastOne  # height times width of a window
    max_padded_pool: AtLeastOne  # side of an average's window that leaves padding out of the count
    max_mean_side: AtLeastOne  # of an axis that a mean reduces
    # By what both sides of a resized image grow alike; None: to any size.
    nearest_factors: tuple[AtLeastOne, ...] | None
    bilinear_factors: tuple[AtLeastOne, ...] | None
    aligned_factors: tuple[AtLeastOne, ...] | None  # bilinear with aligned corners, of which the sides are one less
