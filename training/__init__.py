"""How the demo checkpoint is made: pictures of drawn shapes, losses, schedule, evaluation.

Lives outside the package: `sam3_backend` never imports it. See `docs/demo-checkpoint.md`.
"""
