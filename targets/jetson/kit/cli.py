"""python3 device/run.py build | verify | bench | doctor     in the bundle's folder, on the board."""

import argparse
import json
import os
import re
import sys
from typing import Any, Dict, List, Optional

import numpy as np

from . import board, measure, plans
from .bundle import Bundle
from .cuda import Cuda
from .engine import Engine, first_difference, import_tensorrt, version
from .errors import KitError

ALLOWED_LAYER_ERROR = 0.05  # relative, of one inner tensor: far above float16 and int8 rounding done in another order
NEWEST_KNOWN = (11,)


def main(arguments: Optional[List[str]] = None) -> int:
    """The exit code: 0 fine, 1 the check failed, 2 something is missing or wrong."""
    options = _parser().parse_args(arguments)
    try:
        result = COMMANDS[options.command](options)
    except KitError as error:
        return _fail(options, str(error))
    except KeyboardInterrupt:
        return _fail(options, "stopped; nothing half-written was left behind.", 130)
    except MemoryError:
        return _fail(options, "this board has too little free memory: close other programs.")
    if options.json:
        print(json.dumps(result, sort_keys=True))
    else:
        _show(result)
    return 0 if result.get("ok", True) else 1


def _fail(options: argparse.Namespace, message: str, code: int = 2) -> int:
    if options.json:
        print(json.dumps({"ok": False, "error": message}))
    sys.stderr.write("error: {}\n".format(message))
    return code


def _parser() -> argparse.ArgumentParser:
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    parser = argparse.ArgumentParser(prog="python3 device/run.py", description="Builds, checks and times this bundle's engine on the board.")
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("--bundle", default=here, help="the bundle's folder [default: the one this kit lies in]")
    parser.add_argument("--cache", default=plans.default_folder(), help="where engines are kept [default: %(default)s]")
    parser.add_argument("--plan", help="an engine that `build` made, instead of the kept one")
    parser.add_argument("--repository", help="with build: also write a Triton model repository's entry under this folder")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, help="bench for this long instead")
    parser.add_argument("--every", type=float, metavar="MS", help="bench: start a call every so often [default: one after the other]")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output and nothing else")
    return parser


def say(text: str) -> None:
    """Progress, on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def build(options: argparse.Namespace) -> Dict[str, Any]:
    """Builds the engine, or says that it is there."""
    bundle, trt = Bundle(options.bundle), import_tensorrt()
    cuda = Cuda()
    plan = plans.obtain(bundle, trt, cuda, options.cache, say)
    result = {"ok": True, "bytes": len(plan), "folder": options.cache, "built_for": plans.key(bundle, trt, cuda)}
    if options.repository:
        entry = os.path.join(options.repository, re.sub(r"[^A-Za-z0-9_-]", "_", bundle.manifest["name"]))
        plans.write(os.path.join(entry, "1", "model.plan"), plan)
        plans.write(os.path.join(entry, "config.pbtxt"), bundle.files["device/triton/config.pbtxt"])
        result["repository"] = entry
    return result


def verify(options: argparse.Namespace) -> Dict[str, Any]:
    """The golden vectors on the board's engine, and where they go wrong the first layer that differs."""
    bundle = Bundle(options.bundle)
    checks = [{"name": "integrity", "ok": True, "detail": "{} files, sha256 as in the manifest".format(len(bundle.files))}]
    trt = import_tensorrt()
    cuda = Cuda()
    engine = _engine(options, bundle, trt, cuda)
    checks.append({"name": "engine", "ok": True, "detail": "TensorRT {}, compute capability {}".format(trt.__version__, cuda.capability())})
    errors, failures = _golden(bundle, engine)
    checks.append({"name": "golden vectors", "ok": not failures, "detail": "; ".join(failures) or "all outputs within the tolerance"})
    layers = bundle.layers()
    if failures and layers:
        shown = Engine(trt, plans.obtain(bundle, trt, cuda, options.cache, say, list(layers)), cuda)
        found = first_difference(shown, measure.queries_of(bundle)[0], layers, ALLOWED_LAYER_ERROR)
        text = "{}: relative error {:.3g}".format(*found) if found else "no inner tensor differs by itself: marking them may have kept layers apart"
        checks.append({"name": "first differing layer", "ok": False, "detail": text})
    return {"ok": all(check["ok"] for check in checks), "checks": checks, "errors": errors, "machine": _identity(trt, cuda)}


def bench(options: argparse.Namespace) -> Dict[str, Any]:
    """Latency, power, energy."""
    bundle, trt = Bundle(options.bundle), import_tensorrt()
    cuda = Cuda()
    engine = _engine(options, bundle, trt, cuda)
    script = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "run.py")
    again = [script, "first", "--bundle", options.bundle, "--cache", options.cache] + (["--plan", options.plan] if options.plan else [])
    identity = _identity(trt, cuda)
    return measure.bench(bundle, engine, identity, options.runs, options.seconds, options.every, lambda: measure.cold_start(again), say)


def first(options: argparse.Namespace) -> Dict[str, Any]:
    """One answer: what a cold start is measured with."""
    bundle, trt = Bundle(options.bundle), import_tensorrt()
    engine = _engine(options, bundle, trt, Cuda())
    engine.run(measure.queries_of(bundle)[0])
    return {"ok": True}


def doctor(options: argparse.Namespace) -> Dict[str, Any]:
    """What is there, what is missing, and the line that mends it."""
    trouble, facts = [], {"machine": board.identity(), "memory_available_bytes": board.memory()["available"]}  # type: Any, Dict[str, Any]
    try:
        trt = import_tensorrt()
        facts["machine"]["tensorrt"] = trt.__version__
        if version(trt) >= NEWEST_KNOWN:
            trouble.append("TensorRT {} is newer than what this kit was written for".format(trt.__version__))
    except KitError as error:
        trouble.append(str(error))
    try:
        facts["machine"]["compute_capability"] = Cuda().capability()
    except KitError as error:
        trouble.append(str(error))
    if facts["machine"]["l4t"] is None:
        trouble.append("/etc/nv_tegra_release is missing: this is no Jetson, or its software is incomplete (sudo apt install nvidia-l4t-core).")
    facts["rails"] = sorted(board.rails())
    facts["temperatures_c"] = board.temperatures()
    facts["throttling"] = board.cooling()
    facts.update(ok=not trouble, missing=trouble)
    return facts


COMMANDS = {"build": build, "verify": verify, "bench": bench, "doctor": doctor, "first": first}


def _engine(options: argparse.Namespace, bundle: Bundle, trt: Any, cuda: Cuda) -> Engine:
    if options.plan:
        return Engine(trt, plans.load(options.plan, plans.key(bundle, trt, cuda)), cuda)
    return Engine(trt, plans.obtain(bundle, trt, cuda, options.cache, say), cuda)


def _golden(bundle: Bundle, engine: Engine) -> Any:
    """(largest error by output, what is beyond the tolerance). One sample at a time: an engine is built for one unless asked otherwise."""
    allowed = bundle.manifest["tolerance"]["absolute_error"]
    parts = [engine.run(query) for query in measure.queries_of(bundle)]
    errors, failures = {}, []
    for spec in bundle.manifest["outputs"]:
        name = spec["name"]
        actual, reference = np.concatenate([part[name] for part in parts]), bundle.golden["reference." + name]
        if actual.shape != reference.shape:
            failures.append("output {} has shape {}, {} was expected".format(name, actual.shape, reference.shape))
            continue
        difference = np.abs(actual.astype(np.float64) - reference)
        largest = float(difference.max()) if np.isfinite(difference).all() else None
        errors[name] = largest
        if largest is None or largest > allowed.get(name, 0.0):
            told = "NaN or infinity" if largest is None else "{:.4g}".format(largest)
            failures.append("output {} differs by {}, {:.4g} are allowed".format(name, told, allowed.get(name, 0.0)))
    return errors, failures


def _identity(trt: Any, cuda: Cuda) -> Dict[str, Any]:
    return board.identity(trt.__version__, cuda.capability())


def _show(result: Dict[str, Any]) -> None:
    for check in result.get("checks", ()):
        print("{} {}: {}".format("ok    " if check["ok"] else "FAILED", check["name"], check["detail"]))
    for name, value in sorted(result.items()):
        if name not in ("checks", "notes", "missing"):
            print("{}: {}".format(name, json.dumps(value, sort_keys=True)))
    for note in list(result.get("notes", ())) + list(result.get("missing", ())):
        print("note: {}".format(note))
