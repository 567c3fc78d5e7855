"""The shift-wise convolution: a 51x51 receptive field out of 3x3 kernels."""

from importlib.metadata import version

from sw_ops.acceleration import accelerate
from sw_ops.assembly import SlotValues, Stripes, assemble_ninefold, assemble_stripes, position_embedding
from sw_ops.backend import use_backend
from sw_ops.depthwise import depthwise_conv2d
from sw_ops.layer import FusedShiftwiseConv2d, ShiftwiseConv2d, reparameterize, shiftwise_conv2d
from sw_ops.mlp import mlp_is_compiled, pointwise_mlp
from sw_ops.nearest import nearest_distances
from sw_ops.onnx_nodes import onnxruntime_library, to_onnx
from sw_ops.operators import decompositions
from sw_ops.response_norm import global_response_norm
from sw_ops.shift_add import shift_add, shift_add_ninefold
from sw_ops.stripe import stripe_conv2d, stripe_conv2d_fused
from sw_ops.table import ChannelSplit, ShiftTable, slot_count, slot_offsets

__version__ = version("sw-ops")

__all__ = [
    "ChannelSplit",
    "FusedShiftwiseConv2d",
    "ShiftTable",
    "ShiftwiseConv2d",
    "SlotValues",
    "Stripes",
    "accelerate",
    "assemble_ninefold",
    "assemble_stripes",
    "decompositions",
    "depthwise_conv2d",
    "global_response_norm",
    "mlp_is_compiled",
    "nearest_distances",
    "onnxruntime_library",
    "pointwise_mlp",
    "position_embedding",
    "reparameterize",
    "shift_add",
    "shift_add_ninefold",
    "shiftwise_conv2d",
    "slot_count",
    "slot_offsets",
    "stripe_conv2d",
    "stripe_conv2d_fused",
    "to_onnx",
    "use_backend",
]
