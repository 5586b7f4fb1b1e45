"""The command line: each command parses, calls the function of the same name, and prints. No logic lives here."""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from . import __version__
from .errors import EdgeattnError, InputError, MissingError
from .runtime.interrupts import interrupts_after_imports
from .views import show_bench, show_compilation, show_devices, show_doctor, show_inspect, show_models, show_probe, show_tuning, show_verification

STDERR = Console(stderr=True)
TRACEBACK = "EDGEATTN_TRACEBACK"  # set to 1 to see where an error came from
as_json = click.option("--json", "json_", is_flag=True, help="Print one JSON object on stdout and nothing else.")
bundle_argument = click.argument("bundle", type=click.Path())


def on_host(function: Callable[..., None]) -> Callable[..., None]:
    """The options of commands that can run on a board."""
    clean = click.option("--clean", is_flag=True, help="With --host: remove everything from the board afterwards.")
    return click.option("--host", metavar="USER@BOARD", help="Run on a board: over SSH with your keys, or over Ethernet on SpiNNaker.")(
        clean(function)
    )


class _Group(click.Group):
    """Turns every error into one sentence on stderr and the documented exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with interrupts_after_imports():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, click.Abort):
            self._fail("stopped; nothing half-written was left behind.", 130)
        except EdgeattnError as error:
            self._fail(str(error), error.exit_code)
        except ImportError as error:
            missing = MissingError(f"{error.name or error} is not installed: pip install 'edgeattn[compile]'.")
            self._fail(str(missing), missing.exit_code)
        except Exception as error:  # a bug of ours, or of a library: say so in one sentence, keep the trace for who asks
            self._fail(f"unexpected {type(error).__name__}: {error}. Set {TRACEBACK}=1 to see where.", 1)

    def _fail(self, message: str, code: int) -> None:
        if os.environ.get(TRACEBACK) == "1":
            traceback.print_exc()
        STDERR.print(f"[bold red]error[/]: {escape(message)}", soft_wrap=True, highlight=False)
        sys.exit(code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="edgeattn")
def main() -> None:
    """Puts a trained attention model on an edge or neuromorphic device, provably intact."""


@main.command("compile")
@click.argument("checkpoint", type=click.Path())
@click.option("--target", default="cpu", show_default=True, help="A device (edgeattn devices) or an alias: cpu, jetson, spinnaker.")
@click.option("--output", "-o", type=click.Path(), help="Where the bundle goes [default: NAME-DEVICE.edge].")
@click.option("--model", help="For a bare state_dict: a zoo name, or package.module:factory.")
@click.option("--precision", help="fp32, fp16, int8, int8-dynamic, w8, w4, auto (fastest that passes) [default: int8 where the device has it].")
@click.option("--recipe", type=click.Path(), help="A recipe.yaml to re-apply instead of the default one.")
@click.option("--calib", type=click.Path(), help="Your data: .npz or .safetensors by input name, `labels`; recordings/CLASS/*.")
@click.option("--input", "inputs", multiple=True, metavar="NAME=2x128[:DTYPE[:LOW..HIGH]]", help="Shape of an input, where no data say it.")
@click.option("--dynamic", multiple=True, metavar="NAME:AXIS,AXIS", help="Axes that vary at run time [default: the leading one].")
@click.option("--task", type=click.Choice(["classification", "regression", "embedding"]), help="How outputs are judged without labels.")
@click.option("--timestep", type=click.FloatRange(min=0, min_open=True), default=1e-3, show_default=True, help="Of a .nir file: seconds a step.")
@click.option("--reset", type=click.Choice(["value", "subtract", "hold"]), help="Of a .nir file that does not say it [default: value].")
@click.option("--window", type=click.IntRange(1, 10_000), default=35, show_default=True, help="Of event recordings: ms of each, from its start.")
@click.option("--roi", type=click.IntRange(min=1), help="Of event recordings: pixels cut out about the salient place [default: 96 % of the height].")
@click.option("--jetpack", help="The software on a Jetson, such as 5.1 [default: the oldest of the board's with TensorRT 10].")
@click.option(
    "--profile", multiple=True, metavar="NAME=1x128,4x128,8x512", help="Least, usual, largest shape of a Jetson's engine [default: 1 sample]."
)
@click.option("--bank", type=click.IntRange(min=1), metavar="TOKENS", help="Compress constant keys and values to so many tokens.")
@click.option("--engine", help="On a CPU: onnxruntime or openvino [default: onnxruntime; with --precision auto the faster].")
@click.option("--subspace", type=float, metavar="SHARE", help="Reduce linear layers to the directions that hold this share of their inputs: 0.999.")
@click.option("--variants", type=int, default=1, show_default=True, help="Carry so many forms; `edgeattn tune` chooses on the device.")
@click.option("--size-limit", type=float, metavar="MB", help="Megabytes of all variants together.")
@click.option("--trust", is_flag=True, help="Unpickle code from the checkpoint: only for files you made.")
@click.option("--allow-uncalibrated", is_flag=True, help="Quantise on generated inputs.")
@click.option("--force", is_flag=True, help="Write the bundle even if it misses its accuracy gate, marked as failing.")
@as_json
def compile_(json_: bool, inputs: tuple[str, ...], dynamic: tuple[str, ...], profile: tuple[str, ...], recipe: str | None, **options: Any) -> None:
    """Compile CHECKPOINT into a bundle that verifies itself on the device."""
    from .compiler import compile as run
    from .export.data import parse_dynamic, parse_inputs, parse_profiles
    from .quantize.recipe import Recipe
    from .runtime.memory import give_back_large_blocks

    give_back_large_blocks()
    gc.set_threshold(10_000, 10, 10)  # graphs are many small objects: looking through them at every 700 new ones took 3.6 of ViT-tiny's 58 seconds
    example = parse_inputs(inputs) or None
    named: dict[str, Any] = {"example": example, "dynamic": parse_dynamic(dynamic), "profiles": parse_profiles(profile)}
    read_recipe = Recipe.read(recipe) if recipe else None
    with _progress() as say:
        result = run(**options, recipe=read_recipe, **named, progress=say)
    _print(result.to_json(), json_, show_compilation)
    gc.freeze()  # nor is there anything to find in all that is left: the process ends two seconds sooner


@main.command()
@bundle_argument
@click.option("--threads", type=int, default=1, show_default=True)
@on_host
@as_json
def verify(bundle: str, threads: int, host: str | None, clean: bool, json_: bool) -> None:
    """Check every file of BUNDLE and run its golden vectors, here or on a board."""
    if host is not None:
        from .remote.run import verify_on

        with _progress() as say:
            result = verify_on(bundle, host, clean, say)
    else:
        from .runtime.verify import verify as run

        result = run(bundle, threads).to_json()
    _print(result, json_, show_verification)
    if not result["ok"]:
        sys.exit(1)


@main.command()
@bundle_argument
@click.option("--against", type=click.Path(), help="Another bundle to run in turn with this one.")
@click.option("--threads", type=int, help="[default: what was tuned, else 1]")
@click.option("--runs", type=int, default=1000, show_default=True)
@click.option("--seconds", type=float, help="Run for this long instead.")
@click.option("--every", type=float, metavar="MS", help="Start a call every so often, as a control loop does [default: one after the other].")
@click.option("--save", is_flag=True, help="Keep the result in the bundle's evidence; with --host it always is.")
@on_host
@as_json
def bench(bundle: str, save: bool, host: str | None, clean: bool, json_: bool, **options: Any) -> None:
    """Time BUNDLE on this machine or on a board, one sample at a time."""
    if host is not None:
        _print(_bench_on(bundle, host, clean, **options), json_, show_bench)
        return
    from .runtime.bench import bench as run
    from .runtime.bundle import add_evidence

    with _progress() as say:
        result = run(bundle, **options, progress=lambda done, runs: say(f"run {done} of {runs}"))
    if save:
        add_evidence(bundle, "bench.json", (json.dumps(result.to_json(), indent=2, sort_keys=True) + "\n").encode())
    _print(result.to_json(), json_, show_bench)


def _bench_on(bundle: str, host: str, clean: bool, against: str | None, threads: int | None, **options: Any) -> dict[str, Any]:
    from .remote.run import bench_on

    if against is not None or threads is not None:
        raise InputError("--against and --threads are for this machine: leave them out with --host, or run `edgeattn bench` on the board.")
    with _progress() as say:
        return bench_on(bundle, host, **options, clean=clean, say=say)


@main.command()
@bundle_argument
@click.option("--threads", type=int, help="The most to try [default: every core].")
@click.option("--seconds", type=float, default=20.0, show_default=True, help="How long to measure.")
@click.option("--again", is_flag=True, help="Measure even if these engines were measured before.")
@as_json
def tune(bundle: str, json_: bool, **options: Any) -> None:
    """Find BUNDLE's fastest variant and number of threads on this machine, for every later load."""
    from .runtime.tune import tune as run

    with _progress() as say:
        result = run(bundle, **options, progress=say)
    _print(result.to_json(), json_, show_tuning)


@main.command()
@bundle_argument
@as_json
def inspect(bundle: str, json_: bool) -> None:
    """Show what BUNDLE says about itself."""
    from .runtime.bundle import describe

    _print(describe(bundle), json_, show_inspect)


@main.command()
@click.argument("name", required=False)
@click.option("--probe", metavar="USER@BOARD", help="Describe a board that is not listed, over SSH.")
@click.option("--output", "-o", type=click.Path(), help="With --probe: the devices file that the entry is added to [default: print it].")
@as_json
def devices(name: str | None, probe: str | None, output: str | None, json_: bool) -> None:
    """List the devices edgeattn knows, or one with the source of every figure."""
    if probe is not None:
        _probe(probe, output, json_)
        return
    from .devices import describe_devices
    from .runtime.machine import isa_flags

    _print(describe_devices(name, isa_flags()), json_, show_devices)


def _probe(host: str, output: str | None, json_: bool) -> None:
    from .remote.probe import probe as run
    from .remote.probe import write_devices

    with _progress() as say:
        content = run(host, say)
    if output is not None:
        write_devices(content, output)
    _print(content, json_, show_probe)


@main.group(cls=click.Group, invoke_without_command=True)
@as_json
@click.pass_context
def models(context: click.Context, json_: bool) -> None:
    """List the zoo; `models train NAME` trains one."""
    if context.invoked_subcommand is None:
        from .models.listing import describe_models

        _print(describe_models(), json_, show_models)


@models.command()
@click.argument("name")
@click.option("--output", "-o", type=click.Path(), help="Where the weights go [default: NAME.pt].")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--epochs", type=int, help="[default: the system's own]")
@as_json
def train(name: str, output: str | None, seed: int, epochs: int | None, json_: bool) -> None:
    """Train a zoo system from scratch and write its weights."""
    from .models.listing import train_system

    with _progress() as say:
        result = train_system(name, output, seed, epochs, lambda text, done, total: say(f"epoch {done} of {total}, {text}"))
    _print(result, json_, lambda value, console: console.print(value))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address it answers at.")
@click.option("--state", type=click.Path(dir_okay=False, path_type=Path), help="Go on from this file if it is there; end with the board in it.")
def board(host: str, state: Path | None) -> None:
    """Be a SpiNNaker board: run sPyNNaker's own binaries for whoever connects, until interrupted."""
    from .board.server import run

    run(host, state, lambda line: click.echo(line))


@main.command()
@as_json
def doctor(json_: bool) -> None:
    """Say what is installed, what is missing and how to get it."""
    from .doctor import examine

    result = examine()
    _print(result, json_, show_doctor)
    if not result["ok"]:
        sys.exit(3)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done and since when."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=STDERR, transient=True) as progress:
        task = progress.add_task("starting")
        yield lambda text: progress.update(task, description=text)


def _print(value: dict[str, Any], json_: bool, show: Callable[[dict[str, Any], Console], None]) -> None:
    if json_:
        click.echo(json.dumps(value, allow_nan=False, default=str))
    else:
        show(value, Console())
