"""How much Redis may keep, how much of that is left, and what it does once it is full, as Redis itself says.

It is asked by ``INFO`` alone, because managed servers refuse ``CONFIG``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from redis.exceptions import RedisError, ResponseError

from sam3_backend.embeddings.redis_access import connect, in_words
from sam3_backend.errors import BackendError

NO_EVICTION = "noeviction"
"""The policy of a Redis that takes nothing more once it is full. Under every other one embeddings make room, since all
of them expire, https://redis.io/docs/latest/develop/reference/eviction/."""


@dataclass(frozen=True, slots=True)
class RedisRoom:
    """What Redis says of its memory.

    Attributes:
        limit_bytes: Its ``maxmemory``; 0 for none, None where it does not say.
        used_bytes: What counts against that now.
        policy: Its ``maxmemory-policy``; None where it does not say.
        untold: Why something is not said, and what to do; empty where everything is.
    """

    limit_bytes: int | None
    used_bytes: int
    policy: str | None
    untold: str = ""

    @property
    def left_bytes(self) -> int:
        """What may be stored before anything makes room or is refused; 0 where there is no limit to be left of."""
        return max(0, (self.limit_bytes or 0) - self.used_bytes)

    def fitting(self, each_bytes: int) -> int:
        """How many values that Redis counts as so many bytes each fit into what is left.

        One less than memory has place for: while Redis takes one it also holds a buffer as large for the next.
        """
        return max(0, self.left_bytes // each_bytes - 1)

    def fitting_alone(self, each_bytes: int) -> int:
        """How many fit where everything else has made room; see ``fitting``."""
        return replace(self, used_bytes=0).fitting(each_bytes)


def ask_room(url: str, timeout_s: float) -> RedisRoom:
    """Ask Redis for its room.

    Args:
        url: Its address; see ``redis_access.connect``.
        timeout_s: Longest wait for Redis to connect or to go on answering.

    Raises:
        BackendError: Redis does not answer.
        SettingsError: The address cannot be used, whatever stands behind it.
    """
    client = connect(url, timeout_s)
    try:
        client.ping()
        said: dict[str, Any] = client.info("memory")
    except ResponseError as fault:
        return RedisRoom(None, 0, None, in_words(fault))
    except (RedisError, OSError) as fault:
        raise BackendError(
            f"Redis does not answer: {in_words(fault)} The server goes on without it, more slowly."
        ) from fault
    finally:
        client.close()
    limit_bytes, used_bytes, policy = (said.get(name) for name in ("maxmemory", "used_memory", "maxmemory_policy"))
    if not isinstance(limit_bytes, int) or not isinstance(used_bytes, int):
        return RedisRoom(None, 0, policy, "Its INFO names no maxmemory.")
    uncounted_bytes = said.get("mem_not_counted_for_evict", 0)  # what it holds for replicas and its append-only file
    return RedisRoom(limit_bytes, used_bytes - uncounted_bytes, policy)
