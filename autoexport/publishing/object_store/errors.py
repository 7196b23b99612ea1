"""Turns the errors of an object store into ours: one line without the answer of the server, and a hint."""

from __future__ import annotations

import re

from autoexport.config.object_url import ObjectURL
from autoexport.errors import PublishError

_CREDENTIALS = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine a role.",
    "gs": "Set GOOGLE_APPLICATION_CREDENTIALS, or give this machine a service account.",
    "az": "Set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or give this machine an identity.",
}
_RIGHTS = "Allow reading, writing, deleting and listing there, or use other credentials."
_ENDPOINTS = {"s3": "the region and AWS_ENDPOINT_URL", "gs": "the network", "az": "the account and the network"}

_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_STATUS = re.compile(r"status code: (\d{3}(?: [A-Z][A-Za-z ]{1,40})?)")
_REFUSED = {
    "AccessDenied", "AllAccessDisabled", "AuthenticationFailed", "AuthorizationFailure", "ExpiredToken",
    "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch",
}  # fmt: skip
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}
_OTHER_REGION = {
    "PermanentRedirect",
    "TemporaryRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraint",
}
_METADATA = ("169.254.169.254", "metadata.google.internal", "169.254.170.2")


def is_bucket_missing(error: Exception) -> bool:
    """Whether the store says that there is no such bucket."""
    found = _CODE.search(str(error))
    return found is not None and found[1] in _NO_BUCKET


def explain(error: Exception, url: ObjectURL, action: str = "") -> PublishError:
    """The error of a store as a `PublishError`. Only codes and numbers of the answer are shown.

    Raise it `from None`: the error itself quotes the answer, which may name the key that was used.
    """
    text = str(error).partition("Debug source")[0]
    code = found[1] if (found := _CODE.search(text)) else ""
    status = found[1].strip() if (found := _STATUS.search(text)) else ""
    kind = type(error).__name__
    shown = f" ({code or status})" if code or status else ""
    doing = f" when {action}" if action else ""
    if any(host in text for host in _METADATA):
        return PublishError(f"No credentials for {url} were found.", hint=_CREDENTIALS[url.scheme])
    if is_bucket_missing(error):
        return PublishError(
            f"The bucket of {url} does not exist.",
            hint="Create it, or correct --export-dir: it has no such bucket.",
        )
    if code in _OTHER_REGION or "incorrectly configured region" in text or status.startswith("301"):
        return PublishError(
            f"The bucket of {url} is in another region{shown}.", hint="Set AWS_REGION to the region of the bucket."
        )
    refused = kind in ("PermissionDeniedError", "UnauthenticatedError") or status.startswith(("401", "403"))
    if refused or code in _REFUSED:
        return PublishError(f"{url} refuses this program{doing}{shown}.", hint=_RIGHTS)
    if status.startswith(("5", "429")):
        return PublishError(f"{url} fails{doing}{shown}.", hint="The exporter tries again. The old files stay.")
    if "error sending request" in text or "timed out" in text or "HTTP error" in text or "Connection" in text:
        return PublishError(
            f"{url} does not answer{doing}.",
            hint=f"Check {_ENDPOINTS[url.scheme]}. The exporter tries again, and the old files stay.",
        )
    return PublishError(f"{url} refuses a request{doing}{shown or f' ({kind})'}.", hint=_RIGHTS)
