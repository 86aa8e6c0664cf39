"""Every .pyx is an extension. Everything else is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import setup

setup(ext_modules=cythonize("outside/*.pyx"))
