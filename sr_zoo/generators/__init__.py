"""Generators: networks f(x) that propose a picture ỹ, by name.

The first box of *method = generator × consistency × objective*. Any ``nn.Module`` that maps ``(batch, 3, h, w)`` to
``(batch, 3, scale·h, scale·w)`` can be one; those registered here can be written into a checkpoint. They share one skeleton
(:class:`~sr_zoo.generators.network.Network`) and differ in the block of which its body is made:

=====================  ==========================================================  ========
name                   block                                                       file
=====================  ==========================================================  ========
``residual``           two 3×3 convolutions and an activation                      residual
``reparameterised``    the same, each convolution folded out of four branches      folded
``attention``          the same, and each value gated by what is added to it       variants
``channel_attention``  the same, and each channel gated by its mean (global)       variants
``depthwise``          a large depthwise kernel, then two 1×1 convolutions         variants
``gated``              products of two 3×3 convolutions instead of an activation   variants
=====================  ==========================================================  ========

``projected`` is another generator's picture after the projection that it was trained with (file projected).

A global skip from A⁺x is none of their business: consistency adds it (Free: A⁺x + ỹ; Affine: A⁺x + (I − A⁺A) ỹ).
"""

from sr_zoo.generators.folded import Reparameterised
from sr_zoo.generators.network import GENERATORS, Network
from sr_zoo.generators.projected import Projected
from sr_zoo.generators.residual import Residual, start_from
from sr_zoo.generators.variants import Attention, ChannelAttention, Depthwise, Gated

__all__ = [
    "GENERATORS",
    "Attention",
    "ChannelAttention",
    "Depthwise",
    "Gated",
    "Network",
    "Projected",
    "Reparameterised",
    "Residual",
    "start_from",
]
