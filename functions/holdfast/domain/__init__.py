"""The domain logic. It makes no calls and reads neither the clock nor the environment.

It receives them as arguments (see :mod:`holdfast.domain.ports`).
"""
