"""The command line: a group that loads a command's module only when the command is asked for."""

import sys
from importlib import import_module
from typing import Any

import click

from aigid.cli.command import CONTEXT_SETTINGS, verbosity_options, write_options
from aigid.cli.errors import error_boundary
from aigid.cli.stdout import flush_or_discard, printing, replace_unprintable

COMMANDS = {
    "scan": "Scan image-prompt pairs: folders of images, tables and tars.",
    "plan": "Tell what a scan would find, take and cost, from a sample; write nothing.",
    "doctor": "Check that this host and this installation can run scans.",
    "pseudo-label": "Scan unlabelled pairs, and keep the confident ones as a labelled manifest.",
    "inspect": "Print what image files say of their origin, the strongest evidence first.",
    "verify": "Check that a results folder is whole: every row exactly once, nothing changed.",
    "relabel": "Decide anew what the images of a finished scan are, from its scores.",
    "filter": "Write the rows of a manifest that the results of its scan select.",
    "report": "Write one HTML page about a scan's results: answers, charts and images.",
    "serve": "Serve a model over HTTP, and a page to drop images on, until Ctrl-C.",
    "evaluate": "Measure a model on labelled manifests.",
    "train": "Train a model on labelled manifests.",
    "build": "Build a model repository from a checkpoint.",
    "adapt": "Fit new heads to a few labelled images of one's own.",
    "calibrate": "Fit a model's temperatures and thresholds anew, on labelled rows.",
    "ablation": "Train variants of a recipe with several seeds, and compare them in a table.",
    "audit": "Measure how well file facts alone give away the classes of a labelled manifest.",
    "simulate": "Make a labelled manifest of simulated image-prompt pairs.",
    "competition": "Write manifests of the CT2 competition's own folders.",
}
"""The first sentence of each command's help. Its module has the command's name."""


class LazyGroup(click.Group):
    """A group whose commands are modules of aigid.cli, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names, the most used first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and return the command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"aigid.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options and the commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
        write_options(self.get_params(ctx), ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the group's own options, on a stdout that can show every character."""
        replace_unprintable()
        with error_boundary(), printing("the help"):
            return super().parse_args(ctx, args)
        # The reader of --help has closed the pipe.
        raise click.exceptions.Exit(0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; Ctrl-C while it is still loading has its status too."""
        try:
            with error_boundary():
                return super().invoke(ctx)
        finally:
            flush_or_discard(sys.stderr)


def _print_versions(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from aigid.cli.versions import print_versions

        print_versions()
        context.exit()


@click.group(cls=LazyGroup, context_settings=CONTEXT_SETTINGS)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the versions of aigid and of the packages it runs on, and exit.",
)
def main() -> None:
    """Tell which images are AI-generated, and by which model, at scale.

    Every option can be given as an environment variable too: AIGID_SCAN_MODEL is --model of scan.

    \b
    Example:
      aigid scan manifest.parquet --out results/
    """


main.params.extend(verbosity_options())
