"""Builds the extension from this tree: `make` makes the library, of which it takes a copy.

    pip install --no-build-isolation runtime/python

PAWL_BUILD: the build directory of make, within the tree (default: build). PAWL_MAKE=no: the library lies there already.
"""

import os
import pathlib
import subprocess

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
BUILD = TOP / os.environ.get("PAWL_BUILD", "build")
LIBRARY = BUILD / "libpawl.a"


class build_with_make(build_ext):
    def run(self):
        if os.environ.get("PAWL_MAKE") != "no":
            self.make_library()
        super().run()

    def make_library(self):
        target = os.path.relpath(LIBRARY, TOP)
        jobs = "-j%d" % (os.cpu_count() or 2)
        make = ["make", "-C", str(TOP), jobs, "BUILD=" + os.path.relpath(BUILD, TOP), target]
        environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
        subprocess.run(make, check=True, env=environment)


setup(
    cmdclass={"build_ext": build_with_make},
    options={"bdist_wheel": {"py_limited_api": "cp39"}},
    ext_modules=[
        Extension(
            "pawl._pawl",
            sources=[os.path.relpath(each, HERE) for each in sorted(HERE.glob("ext/*.c"))],
            depends=[os.path.relpath(HERE / "ext/ext.h", HERE)],
            include_dirs=[str(TOP)],
            extra_objects=[str(LIBRARY)],
            libraries=["uring", "fyaml", "jansson", "xxhash", "m"],
            extra_compile_args=["-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden"],
            extra_link_args=["-Wl,--exclude-libs,ALL", "-pthread"],
            py_limited_api=True,
        )
    ],
)
