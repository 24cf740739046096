"""Tools for operators. They use AWS's APIs only, so they work on a stack in AWS and on the local engine.

Nothing here imports ``local/``.
"""
