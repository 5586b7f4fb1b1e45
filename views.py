"""How results look on a terminal: tables over the same dictionaries that --json prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

YES, NO = "[green]yes[/]", "[red]no[/]"


def show_compilation(value: dict[str, Any], console: Console) -> None:
    """The candidates, the parity of the chosen one, warnings, and what to do next."""
    table = Table("candidate", "precision", "metric", "agreement", "rel. error", "ms", "passed", "chosen", title="candidates")
    several = len({candidate.get("engine") for candidate in value["candidates"]}) > 1
    for candidate in value["candidates"]:
        table.add_row(
            candidate["name"] + (f", {candidate['engine']}" if several else ""),
            candidate["precision"] + _around(candidate),
            number(candidate["metric"]),
            percent(candidate["agreement"]),
            percent(candidate["relative_error"]),
            number(candidate["latency_ms"]),
            YES if candidate["passed"] else NO,
            YES if candidate["chosen"] else "",
        )
    console.print(table)
    for candidate in value["candidates"]:
        if not candidate["passed"]:
            console.print(f"[red]not passed[/]: {escape(candidate['name'])}: {escape(candidate['reason'])}", soft_wrap=True, highlight=False)
    layers, metric = value["integer_layers"], value["parity"]["metric"]
    if metric:
        console.print(f"{metric['name']}: reference {number(metric['reference'])}, bundle {number(metric['artifact'])} {metric['unit']}")
    seen = layers["integer_in_engine"]
    quantised = f"{layers['quantised']} quantised"
    console.print(f"integer layers: {f'{quantised}, the device decides' if seen is None else f'{seen} in the engine of {quantised}'}")
    _show_findings(value["findings"], console)
    for check in value["checks"]:
        console.print(f"{check['name']}: {escape(check['detail'])}", soft_wrap=True, highlight=False)
    for left in value["left_to_device"]:
        console.print(f"left to the device: {escape(left)}", soft_wrap=True, highlight=False)
    for warning in value["warnings"]:
        console.print(f"[yellow]note[/]: {escape(warning)}", soft_wrap=True)
    console.print(f"[bold]{value['bundle']}[/] ({value['precision']}, {value['device']}); next: edgeattn verify {value['bundle']}", soft_wrap=True)


def _around(candidate: dict[str, Any]) -> str:
    """What the rest runs in, where that is not plain."""
    floats = candidate.get("floats", "fp32")
    return "" if floats in ("fp32", candidate["precision"]) else f" in {floats}"


def _show_findings(findings: list[dict[str, Any]], console: Console) -> None:
    """One row a rule: how often it was met, where first, and what that means."""
    if not findings:
        return
    table = Table("rule", "", "nodes", "first", "what", title="findings")
    for rule in dict.fromkeys(finding["rule"] for finding in findings):
        met = [finding for finding in findings if finding["rule"] == rule]
        table.add_row(rule, met[0]["severity"], str(len(met)), escape(met[0]["node"]), escape(met[0]["message"]))
    console.print(table)


def show_verification(value: dict[str, Any], console: Console) -> None:
    """One row a check."""
    table = Table("check", "ok", "detail")
    for check in value["checks"]:
        table.add_row(check["name"], YES if check["ok"] else NO, escape(check["detail"]))
    console.print(table)
    console.print("[bold green]verified[/]" if value["ok"] else "[bold red]not verified[/]")


def show_bench(value: dict[str, Any], console: Console) -> None:
    """Latencies, the machine, and what makes them less trustworthy."""
    spacing = "" if value.get("every_ms") is None else f" every {number(value['every_ms'])} ms"
    title = f"ms, {value['runs']} runs{spacing}, {value['threads']} thread(s)"
    table = Table("p50", "p90", "p99", "p99.9", "mean", "per second", "cold start", "resident", title=title)
    latency = value["latency_ms"]
    table.add_row(
        *[number(latency[key]) for key in ("p50", "p90", "p99", "p999", "mean")],
        number(value["throughput_per_s"]),
        number(value["cold_start_ms"]),
        f"{value['rss_mb']:.0f} MB",
    )
    console.print(table)
    machine = value["machine"]
    if "onnxruntime" in machine:
        console.print(f"on {machine['cpu']}, {machine['cores']} cores, {value['engine']}")
    else:
        console.print(f"on {machine['board']}, L4T {machine['l4t']}, {value['engine']}, power mode {machine['power_mode']}")
        for rail, joules in (value["energy_per_inference_j"] or {}).items():
            console.print(f"{rail}: {number(value['power']['mean_w'][rail])} W, {number(joules * 1000)} mJ an inference")
    if "comparison" in value:
        compared = value["comparison"]
        low, high = compared["interval"]
        console.print(f"{compared['ratio']:.3f} of {compared['against']} (95 % interval {low:.3f} to {high:.3f}): {compared['verdict']}")
    if spacing:
        console.print(f"one after the other, just before: median {number(value['back_to_back_ms'])}")
    for note in value["notes"]:
        console.print(f"[yellow]note[/]: {escape(note)}", soft_wrap=True)


def show_tuning(value: dict[str, Any], console: Console) -> None:
    """What was measured, and what is taken from now on."""
    if value["rows"]:
        table = Table("variant", "engine", "threads", "ms", "taken", "")
        for row in value["rows"]:
            taken = row["ms"] is not None and (row["variant"], row["threads"]) == (value["variant"], value["threads"])
            table.add_row(row["variant"] or "-", row["engine"], str(row["threads"]), number(row["ms"]), YES if taken else "", escape(row["note"]))
        console.print(table)
    what = f"{value['variant']}, " if value["variant"] else ""
    since = "remembered, the engines being the same (--again measures)" if value["remembered"] else "taken by every later load"
    console.print(f"{what}{value['threads']} thread(s) on {value['cpu']}: {since}", soft_wrap=True, highlight=False)
    for note in value["notes"]:
        console.print(f"[yellow]note[/]: {escape(note)}", soft_wrap=True)


def show_inspect(value: dict[str, Any], console: Console) -> None:
    """What the bundle is, its inputs and outputs, its layers."""
    console.print(f"[bold]{value['name']}[/] for {value['device']} ({value['target']}), {value['precision']}, {value['bytes']:,} bytes")
    for kind in ("inputs", "outputs"):
        for spec in value[kind]:
            shape = " x ".join(map(str, spec["shape"]))
            console.print(f"{kind[:-1]} {spec['name']}: {shape} {spec['dtype']} {spec['unit']} {spec['preprocessing']}".rstrip(), highlight=False)
    table = Table("layer", "precision")
    for layer, precision in value["layers"].items():
        table.add_row(layer, precision)
    console.print(table)
    for other in value["variants"]:
        console.print(f"also: {other['variant']}, {other['precision']} on {other['engine']}", soft_wrap=True, highlight=False)
    console.print(f"from {value['provenance']['checkpoint']}, {value['provenance']['calibration']}", soft_wrap=True)


def show_devices(value: dict[str, Any], console: Console) -> None:
    """All devices, or one with its sources."""
    if "devices" in value:
        table = Table("device", "target", "cores", "formats", "what it is")
        for name, device in value["devices"].items():
            table.add_row(name, device["target"], number(device["cores"]), " ".join(device["formats"]), device["description"])
        console.print(table)
        for alias, name in value["aliases"].items():
            console.print(f"{alias} stands for {name} here", highlight=False)
        return
    if value["note"]:
        console.print(value["note"])
    for key, content in value["device"].items():
        console.print(f"{key}: {content}", soft_wrap=True, highlight=False)


def show_probe(value: dict[str, Any], console: Console) -> None:
    """The entry as the YAML that a devices file holds."""
    import yaml

    console.print(yaml.safe_dump(value, sort_keys=False), highlight=False, soft_wrap=True, end="", markup=False)


def show_models(value: dict[str, Any], console: Console) -> None:
    """One row a system."""
    table = Table("model", "task", "parameters", "targets", "claim", "source")
    for model in value["models"]:
        table.add_row(model["name"], model["task"], f"{model['parameters']:,}", " ".join(model["targets"]), model["claim"], model["source"])
    console.print(table)


def show_doctor(value: dict[str, Any], console: Console) -> None:
    """Packages against what was tested, and what is missing."""
    console.print(f"{value['machine']['cpu']}, python {value['machine']['python']}, {value['machine']['system']}", highlight=False)
    table = Table("extra", "package", "installed", "tested")
    for row in value["packages"]:
        table.add_row(row["extra"], row["package"], row["installed"] or "[red]missing[/]", row["tested"] or "")
    console.print(table)
    for advice in value["advice"]:
        console.print(f"[yellow]missing[/]: {escape(advice)}", soft_wrap=True)
    console.print("[bold green]ready[/]" if value["ok"] else "[bold red]the base install is incomplete[/]")


def number(value: float | None) -> str:
    """Three significant digits; a dash for what was not measured."""
    return "-" if value is None else f"{value:.4g}"


def percent(value: float | None) -> str:
    """A share in percent; a dash for what has no meaning here."""
    return "-" if value is None else f"{value:.2%}"
