"""Layer tables: shares by kind as the papers have them, and activation memory against torch's own graph."""

import pytest

from mobench import zoo
from mobench.zoo.count import count
from mobench.zoo.layers import BYTES, live_elements, operators, peak, shares

# architectures.md, section 10, and MobileNetV1's table 2 with its stem's misprint (1.19) mended: percent of MACs.
MAC_SHARES = {
    "mobilenet_v1": {"pointwise": 94.86, "depthwise": 3.06, "conv": 1.91, "dense": 0.18},
    "mobilenet_v2": {"pointwise": 89.1, "depthwise": 6.9, "conv": 3.6},
    "mobilenet_v3_large": {"pointwise": 87.2, "depthwise": 8.5, "conv": 2.5, "se": 0.7},
    "efficientnet_b0": {"pointwise": 87.7, "depthwise": 9.0, "se": 0.2},
}
PARAMS_SHARES = {
    "mobilenet_v1": {"pointwise": 74.47, "depthwise": 1.29, "conv": 0.02, "dense": 24.22},
    "mobilenet_v3_large": {"se": 27.6},
}


def percent(name, what):
    spec = zoo.get(name)
    whole = getattr(count(spec), what)
    return {share.role: 100 * getattr(share, what) / whole for share in shares(operators(spec))}


def half_a_digit(value):
    """Of the last decimal that was printed."""
    return 0.51 * 10 ** -len(str(value).partition(".")[2])


def live_in_block(name, index):
    ops = operators(zoo.get(name))
    return [live for op, live in zip(ops, live_elements(ops), strict=True) if op.block == index]


@pytest.mark.parametrize("name", MAC_SHARES)
def test_macs_by_kind_are_the_papers(name):
    found = percent(name, "macs")
    assert sum(found.values()) == pytest.approx(100)
    for role, value in MAC_SHARES[name].items():
        assert found[role] == pytest.approx(value, abs=half_a_digit(value))


@pytest.mark.parametrize("name", PARAMS_SHARES)
def test_params_by_kind_are_the_papers(name):
    found = percent(name, "params")
    for role, value in PARAMS_SHARES[name].items():
        assert found[role] == pytest.approx(value, abs=half_a_digit(value))


def test_mogas_seven_by_seven_depthwise_layers_weigh():
    """architectures.md, section 10: 51.6 M of 304 M for A, 20.7 M of 221 M for C."""
    of = {
        name: next(share.macs for share in shares(operators(zoo.get(name))) if share.role == "depthwise")
        for name in ("moga_a", "moga_c")
    }
    assert of["moga_a"] / 1e6 == pytest.approx(51.6, abs=0.05)
    assert of["moga_c"] / 1e6 == pytest.approx(20.7, abs=0.05)


@pytest.mark.parametrize("name", zoo.names())
def test_the_operators_are_the_whole_network(name):
    spec = zoo.get(name)
    ops = operators(spec)
    assert (sum(op.params for op in ops), sum(op.macs for op in ops)) == (count(spec).params, count(spec).macs)
    assert (str(ops[0].reads[0]), str(ops[-1].writes)) == (f"{spec.input_size}x{spec.input_size}x3", "1000")
    # Whatever is read was written before, and each block begins where the one before it ended.
    written = {ops[0].reads[0]}
    for op in ops:
        assert set(op.reads) <= written
        written.add(op.writes)


def test_v2s_expansion_at_112_pixels_is_the_peak():
    """Its 112x112x96 tensor alone takes 2.4 MB in 16 bits (claim v2.peak_memory); with what it becomes, 6.0 in FP32."""
    most = peak(operators(zoo.get("mobilenet_v2")))
    (read,) = most.operator.reads
    assert (str(read), most.operator.name, most.operator.block) == ("112x112x96", "depthwise", 2)
    assert read.elements * 2 / 1e6 == pytest.approx(2.4, abs=0.01)
    assert most.elements == 112 * 112 * 96 + 56 * 56 * 96
    assert (BYTES["fp32"], BYTES["int8"]) == (4, 1)


def test_without_shortcuts_the_peak_is_the_largest_input_and_output():
    ops = operators(zoo.get("mobilenet_v1"))
    assert live_elements(ops) == tuple(op.reads[0].elements + op.writes.elements for op in ops)
    assert peak(ops).elements == 112 * 112 * (32 + 64)


def test_a_shortcut_lives_until_it_is_added():
    """V2's third block, 56x56x24 in and out, 144 channels inside."""
    x, hidden = 56 * 56 * 24, 56 * 56 * 144
    assert live_in_block("mobilenet_v2", 3) == [x + hidden, x + 2 * hidden, x + hidden + x, 3 * x]


def test_se_holds_the_tensor_it_scales():
    """MnasNet-A1's second row with SE at 14 pixels: 112 channels in, 672 inside, 28 reduced, a shortcut."""
    index = next(i for i, layer in enumerate(zoo.get("mnasnet_a1").layers) if layer.inp == layer.out == 112)
    x, hidden = 14 * 14 * 112, 14 * 14 * 672
    assert live_in_block("mnasnet_a1", index) == [
        *(x + hidden, x + 2 * hidden),
        *(x + hidden + 672, x + hidden + 672 + 28, x + hidden + 28 + 672, x + hidden + 672 + hidden),
        *(x + hidden + x, 3 * x),
    ]


def traced(spec):
    """The peak and the sum of all tensors that torch's graph of our network has, by the definition of liveness."""
    import torch
    from torch.fx import symbolic_trace
    from torch.fx.passes.shape_prop import ShapeProp

    from mobench.zoo.build import build

    writing = (torch.nn.Conv2d, torch.nn.Linear, torch.nn.AdaptiveAvgPool2d, torch.nn.MaxPool2d)
    with torch.device("meta"):
        graph = symbolic_trace(build(spec))
        ShapeProp(graph).propagate(torch.zeros(1, 3, spec.input_size, spec.input_size))
    root, made, last, sizes = {}, {}, {}, {}
    for step, node in enumerate(graph.graph.nodes):
        if node.op == "output":
            last[root[node.args[0]]] = step
            continue
        sources = list(dict.fromkeys(root[each] for each in node.all_input_nodes))
        module = graph.get_submodule(node.target) if node.op == "call_module" else None
        if node.op == "placeholder" or isinstance(module, writing) or len(sources) > 1:
            root[node] = node
            made[node], last[node] = step, step
            sizes[node] = node.meta["tensor_meta"].shape.numel()
            last |= dict.fromkeys(sources, step)
        else:  # batch norm, activations, flattening: in place
            (root[node],) = sources
            last[sources[0]] = step
    steps = {made[node] for node in made}
    peaks = [sum(size for node, size in sizes.items() if made[node] <= step <= last[node]) for step in steps]
    return max(peaks), sum(sizes.values())


@pytest.mark.parametrize("name", zoo.names())
def test_the_peak_is_that_of_the_graph_torch_runs(name):
    pytest.importorskip("torch", reason="needs mobench[export]")
    spec = zoo.get(name)
    ops = operators(spec)
    most, all_tensors = traced(spec)
    assert ops[0].reads[0].elements + sum(op.writes.elements for op in ops) == all_tensors
    assert peak(ops).elements == most


def test_places_are_those_of_our_weights_keys():
    torch = pytest.importorskip("torch", reason="needs mobench[export]")
    from mobench.zoo.build import build

    spec = zoo.get("se_resnet50_stride1x1")
    with torch.device("meta"):
        modules = dict(build(spec).named_modules())
    for op in operators(spec):
        if op.params:
            assert f"{op.block}.{op.name}".rstrip(".") in modules
