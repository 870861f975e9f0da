"""Bulk pre-annotation: many tasks, with nothing lost and nothing done twice.

``preannotate`` is the run as a whole, ``pipeline`` works on several tasks at a time and tries again what may succeed,
``ray_engine`` does that on the machines of a ``ray_cluster``, from a ``recipe``; ``journal`` remembers what is done.
Tasks come from a ``project`` or from ``files``; predictions go through the ``writer`` into Label Studio, or into
``shards`` and then through ``file_output`` into a file. ``statistics``, ``report`` and ``sample`` are for people to
look at. Nothing here knows HTTP or the model.
"""
