"""How the packages for OpenMMLab tasks run an experiment. A package of its own so that ``--help`` need not wait.

Importing anything of ``sw_models`` imports torch and timm; nothing here does before there is work to do.
"""
