"""Functions of MMCV's compiled module on whole maps, by PyTorch and torchvision, on CPUs and GPUs.

They have MMCV's signatures: results are written to tensors that the caller made.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from sw_models.openmmlab.region_operators import differentiate


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **sizes: int
) -> None:
    """Write a deformable convolution (Dai et al. 2017, arXiv 1703.06211) to ``output``."""
    output.copy_(_deformed(input, weight, offset, **sizes))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **sizes: int,
) -> None:
    """Write the gradients to the input and to the offsets."""
    differentiate(
        lambda x, o: _deformed(x, weight, o, **sizes), (input, offset), grad_output, (grad_input, grad_offset)
    )


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float,
    **sizes: int,
) -> None:
    """Write the gradient to the weight."""
    kernel = (sizes["kH"], sizes["kW"])
    weight = input.new_zeros(grad_weight.shape[:2] + kernel)
    differentiate(lambda w: scale * _deformed(input, w, offset, **sizes), (weight,), grad_output, (grad_weight,))


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    **sizes: int,
) -> None:
    """Write a modulated deformable convolution (Zhu et al. 2019, arXiv 1811.11168) to ``output``."""
    output.copy_(_modulated(input, weight, bias, offset, mask, **sizes))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    **sizes: int,
) -> None:
    """Write the gradients to all that it depends on."""
    given, gradients = [input, weight, offset, mask], [grad_input, grad_weight, grad_offset, grad_mask]
    if sizes["with_bias"]:
        given.append(bias)
        gradients.append(grad_bias)
    differentiate(lambda x, w, o, m, b=bias: _modulated(x, w, b, o, m, **sizes), given, grad_output, gradients)


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    """Write the focal loss (Lin et al. 2017, arXiv 1708.02002) of logits ``[N, C]``; class C is the background."""
    output.copy_(_sigmoid_focal(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    """Write its derivative."""
    differentiate(
        lambda x: _sigmoid_focal(x, target, weight, gamma, alpha), (input,), torch.ones_like(input), (grad_input,)
    )


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    """Write the focal loss ``[N]`` of probabilities ``[N, C]``; of a negative class it is 0."""
    output.copy_(_softmax_focal(input, target, weight, gamma, alpha).view_as(output))


def softmax_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    """Write its derivative to the logits that ``input`` is the softmax of."""
    logits = input.clamp(min=torch.finfo(input.dtype).tiny).log()
    ones = input.new_ones(len(input))
    differentiate(lambda x: _softmax_focal(x.softmax(1), target, weight, gamma, alpha), (logits,), ones, (grad_input,))


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    **sizes: int,
) -> None:
    """Write a content-aware reassembly of features (Wang et al. 2019, arXiv 1905.02188) to ``output``."""
    rfeatures.copy_(features)
    output.copy_(_reassembled(features, masks, **sizes))


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    **sizes: int,
) -> None:
    """Write the gradients to the features and to the masks."""
    differentiate(lambda x, m: _reassembled(x, m, **sizes), (rfeatures, masks), grad_output, (grad_input, grad_masks))


def carafe_naive_forward(features: Tensor, masks: Tensor, output: Tensor, **sizes: int) -> None:
    """Write the same as :func:`carafe_forward`."""
    output.copy_(_reassembled(features, masks, **sizes))


def carafe_naive_backward(
    grad_output: Tensor, features: Tensor, masks: Tensor, grad_input: Tensor, grad_masks: Tensor, **sizes: int
) -> None:
    """Write the same as :func:`carafe_backward`."""
    differentiate(lambda x, m: _reassembled(x, m, **sizes), (features, masks), grad_output, (grad_input, grad_masks))


def ms_deform_attn_forward(
    value: Tensor, shapes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor, *, im2col_step: int
) -> Tensor:
    """Return multi-scale deformable attention (Zhu et al. 2021, arXiv 2010.04159), ``[B, Q, heads * D]``.

    Args:
        value: ``[B, sum of H * W, heads, D]``, the maps of all levels.
        shapes: H and W of each level.
        starts: where each level begins.
        locations: ``[B, Q, heads, levels, points, 2]``, x and y as shares of a map.
        weights: ``[B, Q, heads, levels, points]``.
        im2col_step: of the compiled function, which goes through images in steps.
    """
    images, _, heads, depth = value.shape
    sizes = shapes.tolist()
    seen = []
    for level, part in enumerate(value.split([height * width for height, width in sizes], dim=1)):
        maps = part.permute(0, 2, 3, 1).reshape(images * heads, depth, *sizes[level])
        places = (2 * locations[:, :, :, level] - 1).transpose(1, 2).flatten(0, 1)
        seen.append(F.grid_sample(maps, places, mode="bilinear", padding_mode="zeros", align_corners=False))
    factors = weights.transpose(1, 2).flatten(0, 1)[:, None]
    summed = (torch.stack(seen, dim=-2) * factors).sum(dim=(-2, -1))
    return summed.view(images, heads * depth, -1).transpose(1, 2).contiguous()


def ms_deform_attn_backward(
    value: Tensor,
    shapes: Tensor,
    starts: Tensor,
    locations: Tensor,
    weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_locations: Tensor,
    grad_weights: Tensor,
    *,
    im2col_step: int,
) -> None:
    """Write the gradients to the values, the places and the weights."""
    differentiate(
        lambda v, p, w: ms_deform_attn_forward(v, shapes, starts, p, w, im2col_step=im2col_step),
        (value, locations, weights),
        grad_output,
        (grad_value, grad_locations, grad_weights),
    )


def masked_im2col_forward(
    input: Tensor,
    rows: Tensor,
    columns: Tensor,
    patches: Tensor,
    *,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Write the patches ``[C * kernel_h * kernel_w, K]`` around places of a map ``[1, C, H, W]``."""
    everywhere = F.unfold(input, (kernel_h, kernel_w), padding=(pad_h, pad_w))[0]
    patches.copy_(everywhere[:, rows * (input.shape[3] + 2 * pad_w - kernel_w + 1) + columns])


def masked_col2im_forward(
    values: Tensor, rows: Tensor, columns: Tensor, output: Tensor, *, height: int, width: int, channels: int
) -> None:
    """Write values ``[C, K]`` to their places in a map ``[1, C, H, W]``."""
    output[0, :, rows, columns] = values


def psamask_forward(input: Tensor, output: Tensor, *, psa_type: int, **sizes: int) -> None:
    """Write the attention of each pair of places ``[B, H * W, H, W]`` (PSANet, Zhao et al. 2018).

    Args:
        input: ``[B, h_mask * w_mask, H, W]``: of each place, to those around it.
        output: is written.
        psa_type: 0 collects from the places around, 1 distributes to them.
        **sizes: of the mask and the map.
    """
    output.copy_(_pairs(input, psa_type, **sizes))


def psamask_backward(grad_output: Tensor, grad_input: Tensor, *, psa_type: int, **sizes: int) -> None:
    """Write the gradient to the attention."""
    differentiate(lambda masks: _pairs(masks, psa_type, **sizes), (grad_input,), grad_output, (grad_input,))


def active_rotated_filter_forward(input: Tensor, indices: Tensor, output: Tensor) -> None:
    """Write rotated copies of filters (Oriented Response Networks, Zhou et al. 2017, arXiv 1701.01833).

    Args:
        input: ``[out, in, orientations, H, W]``.
        indices: ``[orientations, H, W, rotations]``: where a rotation moves each entry, counted from 1.
        output: ``[out * rotations, in * orientations, H, W]``, is written.
    """
    output.copy_(_rotated(input, indices))


def active_rotated_filter_backward(grad_output: Tensor, indices: Tensor, grad_input: Tensor) -> None:
    """Write the gradient to the filters."""
    differentiate(lambda filters: _rotated(filters, indices), (grad_input,), grad_output, (grad_input,))


def _deformed(input: Tensor, weight: Tensor, offset: Tensor, **sizes: int) -> Tensor:
    steps = [(sizes[f"{name}H"], sizes[f"{name}W"]) for name in ("d", "pad", "dilation")]
    return torchvision.ops.deform_conv2d(input, offset, weight, None, *steps)


def _modulated(input: Tensor, weight: Tensor, bias: Tensor, offset: Tensor, mask: Tensor, **sizes: int) -> Tensor:
    steps = [(sizes[f"{name}_h"], sizes[f"{name}_w"]) for name in ("stride", "pad", "dilation")]
    height, width = (
        (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel, stride, pad, dilation in zip(input.shape[2:], weight.shape[2:], *steps, strict=True)
    )
    offset, mask = (_beginning(one, height, width) for one in (offset, mask))
    return torchvision.ops.deform_conv2d(input, offset, weight, bias if sizes["with_bias"] else None, *steps, mask)


def _beginning(maps: Tensor, height: int, width: int) -> Tensor:
    """Return what MMCV reads of maps that are larger than the output, as those of DyHead are: the first numbers."""
    wanted = maps.shape[1] * height * width
    flat = maps.flatten(1)
    return maps if flat.shape[1] <= wanted else flat[:, :wanted].reshape(len(maps), -1, height, width)


def _sigmoid_focal(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    classes = torch.arange(logits.shape[1], device=logits.device)
    is_class = target[:, None] == classes
    probability = logits.sigmoid()
    positive = -alpha * (1 - probability) ** gamma * F.logsigmoid(logits)
    negative = -(1 - alpha) * probability**gamma * F.logsigmoid(-logits)
    loss = torch.where(is_class, positive, negative)
    return loss * _of_targets(weight, target)[:, None] if weight.numel() else loss


def _softmax_focal(probabilities: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    chosen = probabilities.gather(1, target.clamp(min=0)[:, None])[:, 0]
    loss = -alpha * (1 - chosen) ** gamma * chosen.clamp(min=torch.finfo(chosen.dtype).tiny).log()
    loss = torch.where(target >= 0, loss, torch.zeros_like(loss))
    return loss * _of_targets(weight, target) if weight.numel() else loss


def _of_targets(weight: Tensor, target: Tensor) -> Tensor:
    """Return the weight of each target's class; the background has 1."""
    return F.pad(weight, (0, 1), value=1.0)[torch.where(target < 0, len(weight), target.clamp(max=len(weight)))]


def _reassembled(features: Tensor, masks: Tensor, *, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """Return weighted sums of neighbors ``[N, C, s * H, s * W]``: each group of channels has weights of its own."""
    images, channels, height, width = features.shape
    around = F.unfold(features, kernel_size, padding=kernel_size // 2)
    around = around.view(images, group_size, channels // group_size, kernel_size**2, height, width)
    weights = masks.view(images, group_size, kernel_size**2, height, scale_factor, width, scale_factor)
    summed = torch.einsum("ngckhw,ngkhawb->ngchawb", around, weights)
    return summed.reshape(images, channels, height * scale_factor, width * scale_factor)


def _pairs(
    masks: Tensor, psa_type: int, *, h_mask: int, w_mask: int, half_h_mask: int, half_w_mask: int, **others: int
) -> Tensor:
    images, height, width = len(masks), *masks.shape[2:]
    rows, columns = (torch.arange(size, device=masks.device) for size in (height, width))
    row = rows[:, None, None, None] - rows[:, None] + half_h_mask  # of the mask: [target row, 1, row, 1]
    column = columns[:, None, None] - columns + half_w_mask  # [target column, 1, column]
    inside = (row >= 0) & (row < h_mask) & (column >= 0) & (column < w_mask)
    places = torch.where(inside, row * w_mask + column, 0).view(1, height * width, height, width)
    collected = masks.gather(1, places.expand(images, -1, -1, -1)) * inside.view(places.shape)
    pairs = collected.view(images, height * width, -1)
    return (pairs if psa_type == 0 else pairs.transpose(1, 2)).reshape(collected.shape)


def _rotated(filters: Tensor, indices: Tensor) -> Tensor:
    outputs, inputs, orientations, height, width = filters.shape
    places = indices.reshape(-1, indices.shape[3]).T.long() - 1  # [rotations, entries]
    source = places.argsort(dim=1)  # a rotation only moves entries
    rotated = filters.reshape(outputs, 1, inputs, -1).expand(-1, len(source), -1, -1)
    rotated = rotated.gather(3, source[None, :, None].expand(outputs, -1, inputs, -1))
    return rotated.reshape(outputs * len(source), inputs * orientations, height, width)
