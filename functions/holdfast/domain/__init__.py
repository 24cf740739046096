"""The domain logic. It reaches AWS, Genesys, the clock and random numbers only through its arguments.

:mod:`holdfast.domain.ports` has their types.
"""
