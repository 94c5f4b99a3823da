"""Checks of what the environment says about the network. No host is asked."""

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

from urllib3.util import parse_url

from aigid.doctor.check import Check, hint, ok, problem
from aigid.errors import UsageError
from aigid.storage import endpoint_variables, is_hub_offline, proxy_for

# Variables whose values are secret, or places of secrets: that they are set is all that is shown.
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
)
# A host that no NO_PROXY lists by name.
_ANY_HOST = "host.invalid"


def check_network() -> Iterator[Check]:
    """Yield proxies, servers of stores, credentials that are set, and the policy for addresses."""
    yield from check_proxies()
    yield from _check_endpoints()
    set_names = [name for name in _CREDENTIALS if os.environ.get(name)]
    if set_names:
        yield ok("credentials", f"set in the environment: {', '.join(set_names)}")
    if is_hub_offline():
        text = "offline (HF_HUB_OFFLINE): only copies on this host are read"
        yield hint("hub", text, "Unset HF_HUB_OFFLINE to read from the Hugging Face Hub.")
    options = sorted(name for name in os.environ if name.startswith("AIGID_") and os.environ[name])
    if options:
        yield ok("options", f"set by environment variables: {', '.join(options)}")
    yield ok("addresses", _address_policy())


def check_proxies() -> Iterator[Check]:
    """Yield the proxy of each scheme, without its credentials."""
    for scheme in ("http", "https"):
        name = f"{scheme} proxy"
        try:
            proxy = proxy_for(parse_url(f"{scheme}://{_ANY_HOST}/"))
        except UsageError as error:
            yield problem(name, str(error), "Correct the variable, or unset it.")
            continue
        if proxy is None:
            yield ok(name, "none")
        else:
            user = ", with credentials" if proxy.user is not None else ""
            yield ok(name, f"{proxy.url} from {proxy.variable}{user}")
    bypass = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    if bypass:
        yield ok("no proxy", f"for {bypass}")


def _check_endpoints() -> Iterator[Check]:
    try:
        variables = endpoint_variables()
    except UsageError as error:
        yield problem("stores", str(error), "Correct the variable, or unset it.")
        return
    servers = {"s3": variables["AWS_ENDPOINT_URL_S3"], "gs": variables["STORAGE_EMULATOR_HOST"]}
    others = [f"{scheme}:// asks {server}" for scheme, server in servers.items() if server]
    hub = urlsplit(variables["HF_ENDPOINT"]).netloc
    if hub != "huggingface.co":
        others.append(f"hf:// asks {hub}")
    yield ok("stores", "; ".join(others) or "the providers' own servers")


def _address_policy() -> str:
    if os.environ.get("AIGID_SCAN_ALLOW_PRIVATE_ADDRESSES", "").lower() in ("1", "true", "yes"):
        return "AIGID_SCAN_ALLOW_PRIVATE_ADDRESSES allows images from private addresses"
    return "images from private addresses are refused without --allow-private-addresses"
