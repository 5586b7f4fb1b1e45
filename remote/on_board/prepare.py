"""python3 prepare.py FOLDER REQUIREMENT...: a virtual environment in FOLDER with the packages, complete or not there."""

import os
import shutil
import subprocess
import sys


def main(folder, requirements):
    folder = os.path.expanduser(folder)
    ready = os.path.join(folder, ".ready")
    if os.path.exists(ready):
        return 0
    shutil.rmtree(folder, ignore_errors=True)
    steps = [[sys.executable, "-m", "venv", folder], [os.path.join(folder, "bin", "python"), "-m", "pip", "install", "-q"] + requirements]
    for step in steps:
        run = subprocess.run(step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
        if run.returncode != 0:
            shutil.rmtree(folder, ignore_errors=True)
            said = [line for line in run.stdout.splitlines() if line.strip() and not line.startswith("[notice]")]
            hint = ": sudo apt install python3-venv" if "venv" in step and "ensurepip" in run.stdout else ""
            sys.stderr.write("{}{}\n".format(said[-1] if said else "no message", hint))
            return 1
    with open(ready, "w") as file:
        file.write("ready\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
