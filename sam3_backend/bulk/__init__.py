"""Bulk pre-annotation: many tasks, one after the other, with nothing lost and nothing done twice.

``preannotate`` is the run as a whole, ``pipeline`` works on several tasks at a time and tries again what may succeed,
``journal`` remembers what is done. Tasks come from a ``project`` or from ``files``; predictions go through the
``writer`` into Label Studio, or through ``file_output`` into a file. ``statistics``, ``report`` and ``sample`` are for
people to look at. Nothing here knows HTTP or the model.
"""
