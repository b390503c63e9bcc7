"""The command line: `mobench VERB`. Each verb's module is imported only when it is called, so `--help` stays fast."""

from __future__ import annotations

import importlib
import signal
import sys

import click

from mobench import __version__
from mobench.errors import MobenchError

# verb: its one-line help; the verb's function `command` lies in mobench.cli.<verb>
VERBS = {
    "models": "List the networks: paper, params, MACs, published top-1.",
    "export": "Export a network to ONNX and TFLite in FP32, FP16 and INT8.",
    "run": "Time models: p50, ratio to a baseline, with intervals.",
    "eval": "Measure top-1 and top-5 of model files on a folder of images.",
    "compare": "Is B slower than A: the paired ratio, its interval, a verdict.",
    "gate": "Fail where a model got slower than is tolerated: for CI.",
    "profile": "Time by operator and block, MACs, and how far from the machine's ceilings.",
    "pareto": "Accuracy against latency: the front as a table and a plot.",
    "claims": "What the papers claim, judged by counts, our measurements and others'.",
    "order": "Networks in order on two devices: rank correlation, inverted pairs, predictors.",
    "pick": "The best network within a latency and an accuracy, and how to deploy it.",
    "report": "All results as one HTML file: fronts, claims, devices, doubts, data.",
    "results": "What was measured, here or by other tools: list, show, export, import.",
    "quickstart": "The whole road on this machine in three minutes; nothing is downloaded.",
    "devices": "The phones that adb sees, what can run on each, and the mend.",
    "android": "What a phone needs of mobench: build the harness, set up the runtimes.",
    "doctor": "What can run here, what cannot, and the mend.",
}


class _LazyGroup(click.Group):
    """A group that knows its verbs' names and help lines without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"mobench.cli.{cmd_name}").command
        command.short_help = VERBS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"did you mean `mobench {near[0]}`?" if near else "see `mobench --help`"
            raise click.UsageError(f"no such command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mobench")
def cli() -> None:
    """Benchmark and deploy mobile vision networks: export, time with an interval, evaluate, decide."""


def main() -> None:
    """Run the command line. An error a user can mend is one line on stderr.

    Exit 0 all ran, 1 something failed, 2 wrong usage or input, 130 Ctrl-C or SIGTERM.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a job that is cancelled ends as Ctrl-C does
    try:
        status = cli.main(standalone_mode=False)
    except MobenchError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2 if error.kind == "bad_input" else 1)
    except click.exceptions.NoArgsIsHelpError as error:  # `mobench` alone
        click.echo(error.format_message())
        sys.exit(error.exit_code)
    except click.UsageError as error:
        verb = error.ctx.command_path if error.ctx else "mobench"
        click.echo(f"error: {' '.join(error.format_message().split())} (see `{verb} --help`)", err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not cut off these last words
        click.echo("interrupted; what was finished is kept", err=True)
        sys.exit(130)
    except BrokenPipeError:  # `mobench models | head`
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:  # a full disk, a folder without permission
        where, why = error.filename or "input/output", error.strerror or error
        click.echo(f"error: {where}: {why}; choose another folder, or make room or permission there", err=True)
        sys.exit(1)
    sys.exit(status if isinstance(status, int) else 0)
