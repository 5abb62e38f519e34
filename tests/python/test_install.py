"""The package installed by pip, from the tree, without a network."""

import importlib.util
import os
import pathlib
import subprocess
import sys
import zipfile

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
# The build directory that is tested: that of PAWL_BIN.
BUILD = pathlib.Path(os.environ.get("PAWL_BIN", "build/pawl")).resolve().parent


def test_pip_installs_it_from_the_tree(tmp_path):
    environment = dict(os.environ, PAWL_BUILD=os.path.relpath(BUILD, TOP), PAWL_MAKE="no", TMPDIR=str(tmp_path))
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index"]
    built = subprocess.run(
        command + ["--wheel-dir", str(tmp_path / "wheel"), str(TOP / "runtime/python")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (tmp_path / "wheel").iterdir()
    assert wheel.name.startswith("pawl-0.1.0-cp39-abi3-linux_"), wheel.name
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "pawl/_pawl.abi3.so" in names and "pawl/_keeper.py" in names and "pawl/py.typed" in names

    # Into a virtual environment, since a system's own Python may refuse to have anything installed. That it is made
    # without a pip of its own only saves time: with one, which people take, it wants ensurepip.
    assert importlib.util.find_spec("ensurepip"), "python3 -m venv does not work here"
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--system-site-packages", "--without-pip", str(tmp_path / "env")],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    python = str(tmp_path / "env/bin/python")
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--no-deps", "--no-index", str(wheel)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    program = (
        "import asyncio, pawl\n"
        "async def main():\n"
        "    async with pawl.EventBackend() as backend:\n"
        "        print(await backend.publish(pawl.MessagingEvent('a')), pawl.__file__)\n"
        "asyncio.run(main())\n"
    )
    ran = subprocess.run([python, "-c", program], capture_output=True, text=True, env=environment, timeout=300, cwd=tmp_path)
    assert ran.returncode == 0 and ran.stdout.startswith("True %s/" % (tmp_path / "env/lib")), ran.stdout + ran.stderr
