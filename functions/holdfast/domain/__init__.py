"""What the product decides, and nothing that touches the world: no boto3, no environment, no clock, no randomness.

Time, chance and every AWS or Genesys call come in through :mod:`holdfast.domain.ports`.
"""
