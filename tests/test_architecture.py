"""Data flows one way: imports point from the command line to the records, and the light parts stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {
    "torch",
    "onnx",
    "onnxruntime",
    "litert_torch",
    "ai_edge_litert",
    "ai_edge_quantizer",
    "matplotlib",
    "plotly",
    "tensorflow",
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Return the dotted names a module imports, anywhere in it or only when it is itself imported."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def reaches(names: set[str], target: str) -> bool:
    return any(name == target or name.startswith(f"{target}.") for name in names)


def test_exporters_and_runners_do_not_know_each_other() -> None:
    assert modules("exporters") and modules("runners")
    assert not [p for p in modules("exporters") if reaches(imports(p), "runners")]
    assert not [p for p in modules("runners") if reaches(imports(p), "exporters")]


def test_only_the_command_line_imports_the_command_line() -> None:
    inner = [p for package in ("mobench", "exporters", "runners") for p in modules(package)]
    inner = [p for p in inner if p.parent.name != "cli" and p.name != "__main__.py"]
    assert not [p for p in inner if reaches(imports(p), "mobench.cli")]


def test_records_and_errors_import_nothing_of_ours_but_each_other() -> None:
    for name in ("records.py", "errors.py"):
        ours = {n for n in imports(ROOT / "mobench" / name) if n.split(".")[0] in ("mobench", "exporters", "runners")}
        assert ours <= {"mobench.errors", "mobench.records"}, name


def test_readers_of_the_store_do_not_reach_back_to_what_measures() -> None:
    names = (
        "stats",
        "pareto",
        "front_draws",
        "front_probability",
        "pick",
        "order",
        "results",
        *(f"verdicts/{name}" for name in ("comparability", "comparison", "matching", "gate")),
    )
    readers = [ROOT / "mobench" / f"{name}.py" for name in names]
    readers += [p for folder in ("report", "over_time", "foreign", "claims") for p in modules(f"mobench/{folder}")]
    assert not [p for p in readers if reaches(imports(p), "runners") or reaches(imports(p), "mobench.measure")]


def test_no_module_of_the_core_imports_a_heavy_library_when_it_is_imported() -> None:
    heavy = {
        str(p.relative_to(ROOT)): names & HEAVY
        for p in modules("mobench")
        if (names := {n.split(".")[0] for n in imports(p, top_level=True)}) & HEAVY
    }
    # The torch half of the zoo is imported only by those who build networks.
    assert {p for p in heavy if not p.startswith("mobench/zoo/")} == set()


def test_help_and_models_load_nothing_heavy() -> None:
    script = (
        "import sys\nfrom mobench.cli import cli\n"
        "verbs = ('run', 'compare', 'gate', 'pareto', 'claims', 'order', 'pick', 'report', 'results')\n"
        "for arguments in (['--help'], ['models', '--json'], *([verb, '--help'] for verb in verbs)):\n"
        "    cli.main(arguments, standalone_mode=False)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_help_alone_does_not_even_load_numpy() -> None:
    script = "import sys\nfrom mobench.cli import cli\ncli.main(['--help'], standalone_mode=False)\n"
    script += "print({'numpy', 'pandas', 'rich'} & set(sys.modules) or 'light', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "light"


@pytest.mark.parametrize("package", ["mobench", "exporters", "runners", "tests", "benchmarks"])
def test_no_module_has_outgrown_one_head(package: str) -> None:
    long = {str(p.relative_to(ROOT)): n for p in modules(package) if (n := len(p.read_text().splitlines())) > 450}
    assert not long
