"""The one extension, compiled as C++. Everything else is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

setup(ext_modules=cythonize(Extension("cython_redis._server", ["cython_redis/_server.pyx"], language="c++")))
