"""The second road to TFLite: the same spec built in Keras, the torch module's weights, TensorFlow's own converter.

It is a check on the first road, so it shares nothing with it but the spec and the weights: layers as Keras users write
them (batch norm behind the convolution, left to the converter to fold), and TFLiteConverter for every precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras import layers

from mobench.zoo import spec
from mobench.zoo.rows import Activation, BlockKind, Gate
from mobench.zoo.spec import Layer, ModelSpec, Part

if TYPE_CHECKING:
    from torch import nn

Tensor = Any  # a symbolic Keras tensor [1, H, W, C], or [1, C] behind the pooling; Keras ships no types
Float32 = npt.NDArray[np.float32]


def _hard_sigmoid(x: Tensor) -> Tensor:
    return layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)  # as keras.applications writes it


_ACTIVATIONS: Mapping[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": lambda x: layers.ReLU()(x),
    "relu6": lambda x: layers.ReLU(6.0)(x),
    "hardswish": lambda x: layers.Activation("hard_swish")(x),  # the converter makes it one HARD_SWISH
    "hardswish_spelled": lambda x: layers.ReLU(6.0)(x + 3.0) * x / 6.0,
    "silu": lambda x: layers.Activation("silu")(x),
}
_GATES: Mapping[Gate, Callable[[Tensor], Tensor]] = {
    "hardsigmoid": _hard_sigmoid,
    "sigmoid": lambda x: layers.Activation("sigmoid")(x),
    "relu": lambda x: layers.ReLU()(x),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """One layer of the spec, where its weights lie in the torch module's state (``prefix``), and what all share."""

    layer: Layer
    prefix: str
    same: bool
    bn_eps: float
    state: Mapping[str, Float32]

    def weights(self, part: str, *leaves: str) -> list[Float32]:
        """Return a part's tensors, as torch has them; those the module lacks are left out."""
        base = ".".join(name for name in (self.prefix, part) if name)
        return [self.state[f"{base}.{leaf}"] for leaf in leaves if f"{base}.{leaf}" in self.state]

    def part(self, name: str) -> Part:
        """Return the part of this name."""
        return next(part for part in self.layer.parts if part.name == name)

    def has(self, name: str) -> bool:
        """Return whether the layer has such a part."""
        return any(part.name == name for part in self.layer.parts)


def build(network: Mapping[str, Any], module: nn.Module) -> keras.Model:
    """Return the network as a Keras model with the module's weights: [1, S, S, 3] float32 to [1, classes] logits.

    Args:
        network: a request's description; name, width, depth, input_size, padding and bn_eps say which spec it is.
        module: what `mobench.zoo.build.build` made of that spec, its batch norm not folded.
    """
    keras.utils.clear_session()  # a worker builds many networks, and Keras keeps what it knows of each
    keys = ("width", "depth", "input_size", "padding", "bn_eps")
    made = spec.get(network["name"], **{key: network[key] for key in keys})
    return _model(made, {key: value.detach().numpy() for key, value in module.state_dict().items()})


def _model(made: ModelSpec, state: Mapping[str, Float32]) -> keras.Model:
    # The batch is fixed, as on the first road: an open one puts the arithmetic of shapes into the graph.
    inputs = x = keras.Input((made.input_size, made.input_size, 3), batch_size=1)
    for index, layer in enumerate(made.layers):
        same = made.padding == "same"
        x = _BY_KIND[layer.kind](x, _Block(layer=layer, prefix=str(index), same=same, bn_eps=made.bn_eps, state=state))
    return keras.Model(inputs, x)


def _padded(x: Tensor, kernel: int, stride: int, pad: int | None, same: bool) -> tuple[Tensor, str]:
    """Return the input with its border where one must be explicit, and the operator's own padding.

    At stride 1 the symmetric border of an odd kernel and SAME are one; above, SAME has the odd pixel at the end.
    """
    if pad is None and (same or stride == 1):
        return x, "same"
    pad = kernel // 2 if pad is None else pad
    return (layers.ZeroPadding2D(pad)(x) if pad else x), "valid"


def _conv(x: Tensor, block: _Block, name: str) -> Tensor:
    """Convolution, batch norm (or a bias instead), activation."""
    part = block.part(name)
    x, padding = _padded(x, part.kernel, part.stride, part.pad, block.same)
    (kernel,) = block.weights(name, "conv.weight")
    options = {"strides": part.stride, "padding": padding, "use_bias": part.bias}
    if part.role == "depthwise":
        conv = layers.DepthwiseConv2D(part.kernel, **options)
        kernel = kernel.transpose(2, 3, 0, 1)  # [C, 1, k, k] to [k, k, C, 1]
    else:
        conv = layers.Conv2D(part.out, part.kernel, groups=part.groups, **options)
        kernel = kernel.transpose(2, 3, 1, 0)  # [out, in, k, k] to [k, k, in, out]
    x = conv(x)
    conv.set_weights([kernel, *block.weights(name, "conv.bias")])
    if part.norm:
        norm = layers.BatchNormalization(epsilon=block.bn_eps)
        x = norm(x)
        norm.set_weights(block.weights(name, "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"))
    return _ACTIVATIONS[part.act](x)


def _excited(x: Tensor, block: _Block, *places: str) -> Tensor:
    """Squeeze-and-excitation, where the layer has one in one of these places."""
    rule = block.layer.rule.se
    if rule is None or rule.place not in places:
        return x
    scale = layers.GlobalAveragePooling2D(keepdims=True)(x)
    for name, act in (
        ("se.reduce", _ACTIVATIONS[rule.act or block.layer.act]),
        ("se.expand", _GATES[rule.gate]),
    ):
        conv = layers.Conv2D(block.part(name).out, 1, use_bias=rule.bias)
        scale = conv(scale)
        kernel, *bias = block.weights(name, "weight", "bias")
        conv.set_weights([kernel.transpose(2, 3, 1, 0), *bias])
        scale = act(scale)
    return layers.Multiply()([x, scale])


def _separable(x: Tensor, block: _Block) -> Tensor:
    return _excited(_conv(_conv(x, block, "depthwise"), block, "pointwise"), block, "spatial", "output")


def _inverted(x: Tensor, block: _Block) -> Tensor:
    y = _conv(x, block, "expand") if block.has("expand") else x
    y = _excited(_conv(y, block, "depthwise"), block, "spatial")
    y = _conv(y, block, "project")
    return layers.Add()([x, y]) if block.layer.shortcut else y


def _bottleneck(x: Tensor, block: _Block) -> Tensor:
    kept = _conv(x, block, "projection") if block.has("projection") else x
    y = _conv(_excited(x, block, "pre"), block, "reduce")
    y = _excited(_conv(y, block, "spatial"), block, "spatial")
    y = _excited(_conv(y, block, "restore"), block, "output")
    y = layers.Add()([y, _excited(kept, block, "identity")])
    return _excited(_ACTIVATIONS[block.layer.act](y), block, "post")


def _maxpool(x: Tensor, block: _Block) -> Tensor:
    layer = block.layer
    x, padding = _padded(x, layer.kernel, layer.stride, layer.pad, block.same)  # zeros: what is pooled is not negative
    return layers.MaxPooling2D(layer.kernel, layer.stride, padding)(x)


def _dense(x: Tensor, block: _Block) -> Tensor:
    (part,) = block.layer.parts
    dense = layers.Dense(part.out, use_bias=part.bias)
    kernel, *bias = block.weights(part.name, "weight", "bias")
    flattened = x.shape[1:]
    if len(flattened) > 1:  # torch flattens channels first
        high, wide, channels = flattened
        kernel = kernel.reshape(-1, channels, high, wide).transpose(0, 2, 3, 1).reshape(len(kernel), -1)
        x = layers.Flatten()(x)
    x = dense(x)
    dense.set_weights([kernel.T, *bias])
    return _ACTIVATIONS[part.act](x)


_BY_KIND: Mapping[BlockKind, Callable[[Tensor, _Block], Tensor]] = {
    "conv": lambda x, block: _conv(x, block, ""),
    "separable": _separable,
    "inverted": _inverted,
    "bottleneck": _bottleneck,
    "maxpool": _maxpool,
    "pool": lambda x, block: layers.GlobalAveragePooling2D()(x),
    "flatten": lambda x, block: x,  # done by the dense layer behind it, which has to know the order
    "dense": _dense,
}


def convert(model: keras.Model, precision: str, images: Float32) -> bytes:
    """Return the model as a TFLite file; input and output are float32 in every precision.

    Args:
        model: what :func:`build` made.
        precision: fp32, fp16, int8 or int8-dynamic.
        images: calibration images, [N, S, S, 3] float32, pre-processed; the representative dataset of INT8.
    """
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if precision != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]  # alone: INT8 weights, dynamic activations
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    elif precision == "int8":
        converter.representative_dataset = lambda: _one_by_one(images)
    content: bytes = converter.convert()
    return content


def _one_by_one(images: Float32) -> Iterator[list[Float32]]:
    for image in images:
        yield [image[None]]
