"""Ctrl-C waits for an import to end, and is then as prompt as ever."""

import importlib
import os
import signal
import sys
import time

import pytest
from click.testing import CliRunner

from edgeattn.cli import main
from edgeattn.runtime.interrupts import interrupts_after_imports


def module(folder, monkeypatch, text):
    (folder / "interrupted_module.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "interrupted_module", raising=False)
    return "interrupted_module"


def importing_then_waiting(name):
    with interrupts_after_imports():
        importlib.import_module(name)
        time.sleep(30)  # Ctrl-C is heard here


def test_an_import_ends_before_ctrl_c_is_heard(tmp_path, monkeypatch):
    name = module(tmp_path, monkeypatch, "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\ncomplete = True\n")
    with pytest.raises(KeyboardInterrupt):
        importing_then_waiting(name)
    assert sys.modules[name].complete


def test_a_second_ctrl_c_ends_the_import(tmp_path, monkeypatch):
    name = module(tmp_path, monkeypatch, "import os, signal\nfor _ in range(2): os.kill(os.getpid(), signal.SIGINT)\n")
    with pytest.raises(KeyboardInterrupt), interrupts_after_imports():
        importlib.import_module(name)
    assert name not in sys.modules


def test_outside_an_import_ctrl_c_is_heard_at_once_and_handlers_return():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyboardInterrupt), interrupts_after_imports():
        os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGALRM)) == before


def test_ctrl_c_that_a_library_turned_into_another_exception_is_still_ctrl_c():
    group = type(main)("group")

    @group.command()
    def turned():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(30)
        except KeyboardInterrupt as error:
            raise SystemError("returned a result with an exception set") from error

    result = CliRunner().invoke(group, ["turned"])
    assert result.exit_code == 130
