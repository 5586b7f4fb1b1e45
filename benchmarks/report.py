"""The figures of benchmarks/cpu.py as the table and the plot of docs/performance.md."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from peaks import peak_of

ENGINES = ("torch", "torch.compile", "ONNX Runtime float", "ONNX Runtime optimiser", "ONNX Runtime static int8", "ONNX Runtime dynamic int8",
           "OpenVINO float32", "OpenVINO default", "OpenVINO NNCF int8", "edgeattn")  # fmt: skip


def write(results: dict[str, Any], docs: Path) -> None:
    """Replaces what stands between the markers of docs/performance.md and draws docs/cpu.svg."""
    replace_section(docs / "performance.md", "benchmarks/cpu.py", markdown(results))
    replace_section(docs / "performance.md", "benchmarks/cpu.py, candidates", attention(results))
    (docs / "cpu.svg").write_bytes(plot(results))


def replace_section(page: Path, name: str, text: str) -> None:
    """Puts `text` between the comments `name` and `end` of a page."""
    begin, end = f"<!-- {name} -->", "<!-- end -->"
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n{text}{end}{rest.split(end, 1)[1]}")


def bootstrap(ours: np.ndarray, theirs: np.ndarray, compare: Callable[[Any, Any], Any]) -> tuple[float, list[float]]:
    """`compare` of the two medians and its 95 % interval; figures of a round stay together: they saw the same moment of the machine."""
    random = np.random.default_rng(0)
    picks = [random.integers(0, len(ours), len(ours)) for _ in range(1000)]
    low, high = np.percentile([compare(np.median(ours[pick]), np.median(theirs[pick])) for pick in picks], [2.5, 97.5])
    return float(compare(np.median(ours), np.median(theirs))), [float(low), float(high)]


def style() -> AbstractContextManager[None]:
    """matplotlib so that a plot is the same whenever its numbers are."""
    import matplotlib

    plain = {"svg.hashsalt": "edgeattn", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    return matplotlib.rc_context(plain)


def markdown(results: dict[str, Any]) -> str:
    """Where it was measured, a table a number of threads, and the geometric means."""
    at, peak = results["machine"], results["peak"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    features = ", ".join(flag for flag in ("avx2", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16") if flag in at["isa"])
    peaks = ", ".join(f"{label} {value:.0f}" for label, value in peak.items())
    text = f"{at['cpu']} ({features}), {at['cores']} cores, load {at['load_average_1min']:.1f} at the start, {results['date']}: {versions}.\n"
    text += f"Products of 1024 x 1024 matrices on one thread, GFLOP/s: {peaks}. The last column is the share of that of the engine and format.\n"
    for threads in ("1", "2"):
        use = "on 1 thread" if threads == "1" else f"with {threads} threads to use"
        text += f"\nMilliseconds {use}, one sample at a time:\n\n" + _table(results, threads)
    return text + "\n![latency against the best peer](cpu.svg)\n"


def geometric_mean(ratios: list[float]) -> float:
    return float(np.exp(np.mean(np.log(ratios))))


def ratio(figures: dict[str, Any], peer: str) -> str:
    """Of one network and number of threads: edgeattn's latency against a peer's, with its interval."""
    low, high = figures["against"][peer]["interval"]
    return f"{figures['against'][peer]['ratio']:.2f} ({low:.2f} to {high:.2f})"


def _against_best(results: dict[str, Any], threads: str) -> list[dict[str, Any]]:
    return [figures["against"][figures["best"]] for figures in (found["threads"][threads] for found in results["networks"].values())]


def taken(found: dict[str, Any], threads: str) -> str:
    """What `auto` chose, in words; with more threads, what `tune` did."""
    if threads != "1":
        took = found["threads"][threads]["took"]
        return f"{took['variant']} on {took['threads']}"
    attention = " with attention" if found["between"] == "attention" else ""
    return f"{found['precision']}{attention}, {found['floats']} around, on {found['engine']}"


def _table(results: dict[str, Any], threads: str) -> str:
    labels = [label for label in ENGINES if any(label in found["threads"][threads]["ms"] for found in results["networks"].values())]
    chooser = "auto" if threads == "1" else "tune"
    heads = ["network", *labels, f"what {chooser} took", "against the best peer (95 % interval)", "GFLOP/s"]
    heads += ["of the peak"] if threads == "1" else []
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name, found in results["networks"].items():
        figures = found["threads"][threads]
        ms = figures["ms"]
        rate = found["gflop"] / ms["edgeattn"] * 1e3
        cells = [name, *(f"{ms[label]:.3g}" if label in ms else "" for label in labels), taken(found, threads)]
        cells += [ratio(figures, figures["best"]), f"{rate:.0f}"]
        cells += [f"{100 * rate / peak_of(found, results['peak']):.0f} %"] if threads == "1" else []
        lines.append(f"| {' | '.join(cells)} |")
    mean = geometric_mean([one["ratio"] for one in _against_best(results, threads)])
    return "\n".join(lines) + f"\n\nGeometric mean against the best peer of each network: {mean:.2f}.\n"


def attention(results: dict[str, Any]) -> str:
    """OpenVINO's int8 forms with attention in float and in integers, as `auto` timed and judged them."""
    text = f"On {results['machine']['cpu']}, one thread; milliseconds as `auto` timed the candidates, and the gate's relative error.\n\n"
    text += "| network | around | attention in float | in integers | ratio | error | with integers |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    for name, found in results["networks"].items():
        forms = {
            (one["floats"], one["between"]): one for one in found["candidates"] if one["engine"] == "openvino" and one["name"].startswith("int8")
        }
        for floats in ("bf16", "fp32"):
            before, after = forms.get((floats, "float")), forms.get((floats, "attention"))
            if before is None or after is None:
                continue
            errors = [f"{one['relative_error']:.2%}" for one in (before, after)]
            if before["latency_ms"] is None or after["latency_ms"] is None:
                cells = ["", "misses the gate" if not after["passed"] else "", ""]
            else:
                cells = [f"{before['latency_ms']:.3g}", f"{after['latency_ms']:.3g}", f"{after['latency_ms'] / before['latency_ms']:.2f}"]
            text += f"| {' | '.join([name, floats, *cells, *errors])} |\n"
    return text


def plot(results: dict[str, Any]) -> bytes:
    """edgeattn over the best peer by network, with intervals, as SVG."""
    with style():
        from matplotlib.figure import Figure

        names = list(results["networks"])
        figure = Figure(figsize=(7.5, 1 + 0.32 * len(names)), layout="constrained")
        axes = figure.subplots()
        for offset, threads, colour in ((-0.18, "1", "#2a6f97"), (0.18, "2", "#b8c4d0")):
            found = _against_best(results, threads)
            ratios = [one["ratio"] for one in found]
            ends = [[max(0, one["ratio"] - one["interval"][0]) for one in found], [max(0, one["interval"][1] - one["ratio"]) for one in found]]
            label = f"{threads} thread{'s' if threads == '2' else ''}"
            axes.barh([i + offset for i in range(len(names))], ratios, 0.34, color=colour, xerr=ends, ecolor="#222222", label=label)
        axes.axvline(1, color="#c0392b", linewidth=1, linestyle="--")
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel("latency over the best peer's (dashed: equal; left is faster), 95 % intervals")
        axes.legend(frameon=False)
        text = io.BytesIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
