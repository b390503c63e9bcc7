"""Every network by name: the papers' tables, one module a paper. A new network is an entry there.

CONTRIBUTING.md lists the other places.
"""

from collections.abc import Mapping

from mobench.zoo.rows import Network
from mobench.zoo.tables import (
    alexnet_vgg,
    efficientnet,
    mnasnet,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    moga,
    resnet,
)

NETWORKS: Mapping[str, Network] = {
    name: network
    for paper in (mobilenet_v1, mobilenet_v2, mobilenet_v3, efficientnet, mnasnet, moga, resnet, alexnet_vgg)
    for name, network in paper.NETWORKS.items()
}
