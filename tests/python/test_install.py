"""The package installed by pip, from the tree, without a network."""

import ast
import importlib.util
import inspect
import os
import pathlib
import subprocess
import sys
import zipfile

import pawl

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
    assert "pawl/_pawl.abi3.so" in names and "pawl/_keeper.py" in names and "pawl/py.typed" in names and "pawl/__init__.pyi" in names

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


def stubs():
    return ast.parse((TOP / "runtime/python/pawl/__init__.pyi").read_text(encoding="utf-8")).body


def test_the_types_name_all_that_the_package_has_and_nothing_else():
    declared = [each.name for each in stubs() if isinstance(each, (ast.ClassDef, ast.FunctionDef))]
    assert sorted(declared) == sorted(set(pawl.__all__) - {"LIBRARY_VERSION"})
    for cls in (each for each in stubs() if isinstance(each, ast.ClassDef)):
        there = getattr(pawl, cls.name)
        assert [ast.unparse(base) for base in cls.bases if ast.unparse(base) != "str"] == [
            base.__name__ if base.__module__ != "enum" else "enum." + base.__name__
            for base in there.__bases__
            if base not in (object, str)
        ], cls.name
        methods = {each.name for each in cls.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))}
        if not issubclass(there, BaseException):
            public = {name for name, value in vars(there).items() if callable(value) or hasattr(value, "__get__")}
            slots = set(getattr(there, "__slots__", ()))
            assert {name for name in methods if name[0] != "_"} == {
                name for name in public - slots if name[0] != "_" and name[0].islower()
            }, cls.name


def test_the_types_have_the_arguments_that_the_methods_have():
    looked_at = 0
    for cls in (each for each in stubs() if isinstance(each, ast.ClassDef)):
        for method in cls.body:
            if not isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef)) or method.name == "__exit__":
                continue
            there = inspect.getattr_static(getattr(pawl, cls.name), method.name)
            there = there.fget if isinstance(there, property) else getattr(there, "__func__", there)
            names = list(inspect.signature(there).parameters)
            arguments = method.args
            said = [each.arg for each in arguments.args + arguments.kwonlyargs]
            said += [each.arg for each in (arguments.vararg, arguments.kwarg) if each]
            if (cls.name, method.name) == ("Client", "publish"):  # its **options are those of message()
                names = names[:-1] + list(inspect.signature(pawl.message).parameters)[2:]
            assert said == names, (cls.name, method.name)
            assert isinstance(method, ast.AsyncFunctionDef) == inspect.iscoroutinefunction(there), method.name
            looked_at += 1
    assert looked_at > 50
