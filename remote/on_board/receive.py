"""python3 receive.py FOLDER COUNT < archive.tar: writes COUNT files into FOLDER, all of them or none."""

import os
import shutil
import sys
import tarfile
import tempfile


def main(folder, count):
    folder = os.path.expanduser(folder)
    partial = None
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        partial = tempfile.mkdtemp(dir=os.path.dirname(folder), prefix=".partial-")
        written = 0
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
            for member in archive:
                name = os.path.normpath(member.name)
                if not member.isfile() or os.path.isabs(name) or name.startswith(".."):
                    raise OSError(22, "refused name " + member.name)
                target = os.path.join(partial, name)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                source = archive.extractfile(member)
                with open(target, "wb") as file:
                    shutil.copyfileobj(source, file)
                    file.flush()
                    os.fsync(file.fileno())
                if os.path.getsize(target) != member.size:
                    raise EOFError
                written += 1
        if written != count:
            raise EOFError
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(partial, folder)
        return 0
    except (EOFError, tarfile.ReadError):
        sys.stderr.write("the transfer was cut off\n")
    except OSError as error:
        sys.stderr.write("{} cannot be written ({})\n".format(folder, error.strerror or error))
    finally:
        if partial:
            shutil.rmtree(partial, ignore_errors=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
