"""`mobench models`: the table and its JSON."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from mobench import zoo
from mobench.cli.models import command, models
from mobench.errors import BadInputError
from mobench.zoo.count import count


def run(*arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_json_lists_every_network_with_its_exact_counts():
    records = json.loads(run("--json").stdout)
    assert [record["name"] for record in records] == list(zoo.names())
    for record in records:
        spec = zoo.get(record["name"])
        assert (record["params"], record["macs"]) == (count(spec).params, count(spec).macs)
        assert record["published_top1"] == spec.published_top1
        assert record["published_source"].startswith("arXiv:")
        assert {"family", "paper", "input_size"} <= record.keys()


def test_family_keeps_only_its_networks():
    records = json.loads(run("--family", "mobilenet_v3", "--json").stdout)
    assert [record["name"] for record in records] == ["mobilenet_v3_large", "mobilenet_v3_small"]


def test_an_unknown_family_is_one_line_with_the_known_ones():
    with pytest.raises(BadInputError, match=r"no family is named 'resnets'.*mobilenet_v1, mobilenet_v2, mobilenet_v3"):
        models("resnets")


def test_the_table_shows_a_network_a_line():
    lines = run().stdout.splitlines()
    row = next(line for line in lines if "mobilenet_v3_large" in line)
    assert row.split()[-6:] == ["5.48", "216.6", "75.2", "arXiv:1905.02244", "table", "3"]
    assert "arXiv:1905.02244 (MobileNetV3)" in row


def test_it_works_where_torch_cannot_be_imported():
    code = "import sys; sys.modules['torch'] = None; sys.argv[1:] = ['models', '--json']; from mobench.cli import main"
    done = subprocess.run([sys.executable, "-c", f"{code}; main()"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == len(zoo.names())
