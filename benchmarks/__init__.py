"""What the server costs, measured beside the way others do it. Never part of a pass or fail."""

from sam3_backend.settings import let_waiting_threads_sleep

# Before torch is imported: a benchmark run by itself would be off by a factor of two if its threads spun.
let_waiting_threads_sleep()
