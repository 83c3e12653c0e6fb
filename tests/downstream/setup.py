"""A project that uses fastpagemap at C level: from Cython, and from C++."""

from setuptools import Extension, setup

import fastpagemap

setup(
    ext_modules=[
        # cython finds core.pxd in the installed package; nothing has to be linked
        Extension("sampler", ["sampler.pyx"]),
        Extension(
            "native", ["native.cpp"], include_dirs=list(fastpagemap.__path__), language="c++"
        ),
    ],
    py_modules=["check"],
)
