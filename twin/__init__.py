"""hptwin: a digital twin for heat pumps that recover a data centre's waste heat.

Importing this package is free: CoolProp, numba and scikit-learn wait behind
the modules that need them.
"""

__version__ = "0.1.0"
