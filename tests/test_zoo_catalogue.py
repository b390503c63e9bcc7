"""The list of networks: order, variants, and printed counts against ours, none of which differs in silence."""

import csv
import re
from decimal import Decimal
from pathlib import Path

import pytest

from mobench import zoo
from mobench.errors import BadInputError
from mobench.zoo import catalogue
from mobench.zoo.count import count
from mobench.zoo.tables import NETWORKS

PRINTED = [(name, variant) for name in NETWORKS for variant in NETWORKS[name].printed]


def spec_of(name, variant):
    width, size, depth = variant
    return zoo.get(name, width=width, input_size=size, depth=depth)


@pytest.mark.parametrize(("name", "variant"), PRINTED)
def test_what_is_printed_agrees_or_says_why_not(name, variant):
    """Params within the last digit or 0.1 M (papers truncate), MACs within the last digit or 1 %, else a note."""
    spec = spec_of(name, variant)
    printed, counts = spec.printed, count(spec)
    assert printed.params or printed.macs
    assert re.match(r"arXiv:\d{4}\.\d{5}(v\d| \(ICCV\))? table \d+$|tensorflow/models ", printed.source)
    off = []
    for text, value, slack in ((printed.params, counts.params, 0.1e6), (printed.macs, counts.macs, None)):
        if text:
            number, unit = text.split()
            scale = {"M": 1e6, "B": 1e9}[unit]
            digit = scale / 10 ** len(number.partition(".")[2])
            allowed = max(digit, 0.01 * float(number) * scale if slack is None else slack)
            off.append(abs(value - float(number) * scale) > allowed * (1 + 1e-9))
    assert catalogue.agrees(spec) is not any(off)
    assert printed.note or not any(off)


def test_every_printed_accuracy_has_its_printed_counts_where_the_table_has_both():
    """The tables that print accuracy alone: V3's table 5, SENet's 12, 14 and, for params only, 10."""
    alone = {
        source
        for name, network in NETWORKS.items()
        for variant, published in network.published.items()
        if variant not in network.printed
        for source in [published.source]
    }
    assert alone == {"arXiv:1905.02244 table 5", "arXiv:1709.01507 table 12", "arXiv:1709.01507 table 14"}


@pytest.mark.parametrize("name", ["mnasnet_e3k3", "mnasnet_e3k5", "mnasnet_e6k3", "mnasnet_e6k5"])
def test_networks_whose_layers_nobody_printed_claim_no_accuracy(name):
    network = NETWORKS[name]
    assert not network.published and not network.printed
    assert "whose layers are not printed" in network.source


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("mobilenet_v1", "stride 2 for the last depthwise layer"),
        ("mobilenet_v2", "3.505 M"),
        ("mobilenet_v2_1.4_224", "6.9 M is not reproducible"),
        ("mobilenet_v3_large", "217 M"),
        ("mobilenet_v3_small", "66 M"),
        ("mobilenet_v3_small_minimalistic", "65 M is not reproducible"),
        ("efficientnet_b0_1.0_224_d4.0", "12 to 20 % less"),
        ("efficientnet_b4", "4.39 B"),
        ("efficientnet_b5", "10.27 B"),
        ("resnet50", "3.86 B"),
        ("se_resnet50_stride1x1", "0.26 %"),
        ("mobilenet_v1_se", "pooling and scaling"),
        ("moga_a", "figure"),
        ("alexnet", "two towers"),
    ],
)
def test_known_misprints_and_conventions_are_said(label, said):
    assert said in zoo.get(label).printed.note


def scaled(number, unit):
    """A quoted figure, and half of its last digit."""
    scale = {"M": 1e6, "B": 1e9}[unit]
    return float(number) * scale, scale / 10 ** len(number.partition(".")[2]) / 2


def disagreeing():
    """Every printed count that is not ours, with ours."""
    for name, variant in PRINTED:
        printed, counts = NETWORKS[name].printed[variant], count(spec_of(name, variant))
        if not catalogue.params_agree(printed.params, counts.params):
            yield name, variant, counts.params
        if not catalogue.macs_agree(printed.macs, counts.macs):
            yield name, variant, counts.macs


@pytest.mark.parametrize(("name", "variant", "ours"), list(disagreeing()))
def test_where_print_and_count_disagree_the_note_begins_with_the_count(name, variant, ours):
    """So that no note excuses a misprint that nobody has looked at, or a count that has changed since."""
    note = NETWORKS[name].printed[variant].note
    number, unit = re.match(r"(\d+\.\d+) ([MB])(?=[;:]| at )", note).groups()
    value, slack = scaled(number, unit)
    assert slack <= 0.005 * ours and abs(value - ours) <= slack


QUOTED = [
    (name, variant, number, unit, int(size))
    for name, variant in PRINTED
    for number, unit, size in re.findall(r"([\d.]+) ([MB]) at (\d+) px", NETWORKS[name].printed[variant].note)
]


@pytest.mark.parametrize(("name", "variant", "number", "unit", "size"), QUOTED)
def test_what_a_note_says_of_a_size_is_the_count_there(name, variant, number, unit, size):
    width, _, depth = variant
    value, slack = scaled(number, unit)
    assert abs(count(spec_of(name, (width, size, depth))).macs - value) <= slack


# ../shared/papers/published.csv: what was read out of the papers, a figure a line. Their names by arXiv number.
PAPERS = {
    "1704.04861": "MobileNetV1",
    "1801.04381": "MobileNetV2",
    "1905.02244": "MobileNetV3",
    "1905.11946": "EfficientNet",
    "1908.01314": "MoGA",
    "1709.01507": "SENet",
    "1807.11626": "MnasNet",
}
_V5 = "MobileNetV3", "Table 3 (arXiv v5)"


@pytest.fixture(scope="module")
def read_figures():
    """Figures by paper, table, metric and size of the input; a size is not always given."""
    path = Path(__file__).parents[1].parent / "shared" / "papers" / "published.csv"
    if not path.is_file():
        pytest.skip("needs ../shared/papers/published.csv (the papers' figures)")
    figures = {}
    with path.open(newline="") as table:
        for row in csv.DictReader(table):
            metric, value = row["metric"], Decimal(row["value"]) if re.fullmatch(r"[\d.]+", row["value"]) else None
            if metric in ("top1", "top1_err") and value is not None:
                metric, value = "top1", value if metric == "top1" else 100 - value
            figures.setdefault((row["paper"], row["table"], metric, row["input_size"]), set()).add((value, row["unit"]))
    return figures


def places(source, family):
    """Where in that table a source is: paper and table."""
    if source.startswith("tensorflow/models"):
        return {"mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2", "mobilenet_v3": "MobileNetV3"}[family], (
            "released checkpoints"
        )
    number, version, table = re.match(r"arXiv:(\d{4}\.\d{5})(v5)?(?: \(ICCV\))? table (\d+)$", source).groups()
    return _V5 if version else (PAPERS[number], f"Table {table}")


def read_as(figures, source, family, metric, size):
    return set().union(*(figures.get((*places(source, family), metric, each), set()) for each in (str(size), "")))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_published_and_printed_figure_was_read_in_the_paper(read_figures, name):
    """By the table and the size it is said to be from; whose row it is, the counts' tests tell."""
    network = NETWORKS[name]
    for (_, size, _), published in network.published.items():
        known = {value for value, _ in read_as(read_figures, published.source, network.family, "top1", size)}
        assert Decimal(str(published.top1)) in known, published
    for (_, size, _), printed in network.printed.items():
        for metric, text in (("params", printed.params), ("mult_adds", printed.macs)):
            if text:
                number, unit = text.split()
                assert (Decimal(number), unit) in read_as(read_figures, printed.source, network.family, metric, size), (
                    printed
                )


def test_nothing_printed_agrees_with_nothing():
    assert catalogue.agrees(zoo.get("mobilenet_v3_large_relu")) is None
    assert catalogue.agrees(zoo.get("mobilenet_v2", width=0.66)) is None
    assert catalogue.params_agree("", 1) and catalogue.macs_agree("", 1)


@pytest.mark.parametrize("text", ["5.4", "5.4M", "5,4 M", "about 5 M", "", "5.4 k"])
def test_a_printed_figure_is_a_number_with_a_unit(text):
    with pytest.raises(ValueError, match="is not a number with a unit"):
        catalogue.read(text)


def test_the_list_has_every_name_once_each_network_before_its_variants():
    order = catalogue.ordered()
    assert sorted(order) == sorted(zoo.names())
    for name in order:
        first = catalogue.base(name)
        group = (first, *catalogue.variants(first))
        assert order[order.index(first) : order.index(first) + len(group)] == group
    assert catalogue.variants("moga_c_no_se") == ("moga_c",)
    assert catalogue.variants("efficientnet_b0") == ()


def test_families_together_are_the_list():
    together = [spec.name for family in catalogue.families() for spec in catalogue.of_family(family)]
    assert together == [spec.name for spec in catalogue.of_family()] == list(catalogue.ordered())


def test_an_unknown_family_is_one_line_with_the_known_ones():
    with pytest.raises(BadInputError, match=r"no family is named 'resnets'.*mobilenet_v1, mobilenet_v2, .*resnet"):
        catalogue.of_family("resnets")


def test_printed_sizes_begin_with_the_networks_own():
    labels = [spec.label for spec in catalogue.printed_sizes("mobilenet_v1")]
    assert labels[:3] == ["mobilenet_v1", "mobilenet_v1_2.0_224", "mobilenet_v1_1.0_448"]
    assert labels[-1] == "mobilenet_v1_1.2_291_d1.4"
    assert len(labels) == len(set(labels)) == 19
    assert [spec.label for spec in catalogue.printed_sizes("mobilenet_v3_large_no_se")] == ["mobilenet_v3_large_no_se"]
