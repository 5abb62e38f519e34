"""Runs in a process of its own: starts a scheduler for a program that may be large and have threads by now.

    python3 -I -S _keeper.py PACKAGE_DIR private DIR     a scheduler that ends with this process; DIR is removed
    python3 -I -S _keeper.py PACKAGE_DIR shared DIR      a temporary one, which leaves with its last client

Says "ok", or a JSON object with code and text, on standard output. Ends when its standard input does: that is
when the program has ended, however it did.
"""

import os
import sys

sys.path.insert(0, sys.argv[1])
import _pawl  # noqa: E402  pylint: disable=wrong-import-position,import-error


class Failed(Exception):
    pass


def main(mode, state):
    _pawl.set_error_factory(lambda code, text: Failed(code, text))
    try:
        client = _pawl.start(state) if mode == "private" else _pawl.connect(state, None, True)
    except Failed as error:
        import json

        print(json.dumps({"code": error.args[0], "text": error.args[1]}), flush=True)
        client = None
    else:
        print("ok", flush=True)
        os.close(1)
        while os.read(0, 4096):
            pass
        client.close()
    if mode == "private":
        import shutil

        shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[2], sys.argv[3])
