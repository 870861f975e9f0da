"""Bulk pre-annotation: many tasks, one after the other, with nothing lost and nothing done twice.

``preannotate`` is the run as a whole, ``pipeline`` works on several tasks at a time and tries again what may succeed,
``writer`` stores predictions chunk by chunk, ``journal`` remembers what is done. Nothing here knows HTTP or the model.
"""
