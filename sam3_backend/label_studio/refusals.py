"""A request that is refused as a whole, told to the annotator who waits for it.

Label Studio's page shows nothing of an error status. Where the labelling config has a place for messages, a refusal
can be an answer that says why. Does not know what led to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sam3_backend.label_studio.label_config import message_control
from sam3_backend.label_studio.regions import failed_version, message_region, prediction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sam3_backend.errors import BackendError


def told(payload: Mapping[str, Any], fault: BackendError, model_version: str) -> dict[str, Any] | None:
    """The answer to ``/predict`` that shows the fault on the page.

    Args:
        payload: The body of the request, whatever is wrong with it.
        fault: Why it is refused.
        model_version: What the answer's version begins with.

    Returns:
        None where nobody waits, or there is no place to say it.
    """
    params, xml = payload.get("params"), payload.get("label_config")
    context = params.get("context") if isinstance(params, dict) else None
    is_prompted = isinstance(context, dict) and bool(context.get("result"))
    control = message_control(xml) if is_prompted and isinstance(xml, str) else None
    if control is None:
        return None
    version = failed_version(model_version, fault.code, fault.message)
    return {"results": [prediction([message_region(control, fault.message)], version)]}
