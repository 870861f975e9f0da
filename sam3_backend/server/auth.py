"""Who may ask: basic auth, when it is configured.

Knows neither routes nor which of them are open.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from sam3_backend.errors import Unauthorized

if TYPE_CHECKING:
    from werkzeug.datastructures import Authorization

    from sam3_backend.settings import Settings


class BasicAuth:
    """Compares credentials with the configured ones, in a time that tells nothing about them.

    Args:
        settings: ``basic_auth_user`` and ``basic_auth_pass``; without them everybody may ask.
    """

    def __init__(self, settings: Settings) -> None:
        user, password = settings.basic_auth_user, settings.basic_auth_pass
        self._expected = (
            (user.encode(), password.get_secret_value().encode()) if user is not None and password is not None else None
        )

    def require(self, given: Authorization | None) -> None:
        """Let the request pass, or not.

        Raises:
            Unauthorized: Credentials are configured and these are not them.
        """
        if self._expected is None:
            return
        is_basic = given is not None and given.type == "basic"
        user = (given.username or "") if given is not None and is_basic else ""
        password = (given.password or "") if given is not None and is_basic else ""
        is_user = hmac.compare_digest(user.encode(), self._expected[0])
        is_password = hmac.compare_digest(password.encode(), self._expected[1])
        if not (is_user & is_password):  # both are always compared
            raise Unauthorized(
                "This server asks for a user name and a password. Enter BASIC_AUTH_USER and BASIC_AUTH_PASS in Label "
                "Studio's settings of the model connection."
            )
