"""Runs the application on this machine: a local AWS, a stand-in for Genesys Cloud, and the deployment.

Nothing in ``functions/``, ``statemachine/`` or ``template.yaml`` depends on this package.
"""
