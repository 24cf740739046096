"""The decisions of the product. Nothing here reaches AWS, the environment, the clock or a source of randomness.

Time, randomness and every call come in through :mod:`holdfast.domain.ports`.
"""
