"""``sw-models``: look at the models, convert and export them, measure them. A file per command."""

from sw_models.cli.convert import convert
from sw_models.cli.coverage import coverage
from sw_models.cli.erf import erf
from sw_models.cli.export import export
from sw_models.cli.flops import flops
from sw_models.cli.list_models import info, list_models
from sw_models.cli.sparsity import sparsity
from sw_models.cli.throughput import throughput
from sw_models.console import program

__all__ = ["app"]

app = program("sw-models", "Look at the models, convert and export them, measure them.")
app.command("list")(list_models)
for command in (info, convert, export, flops, erf, throughput, coverage, sparsity):
    app.command()(command)
