"""Upload a saved policy to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from nlhf.errors import InputError
from nlhf.language.extras import need


def check_repository(name: str) -> None:
    """Validate a repository name before any work starts.

    Raises:
        InputError: the name is invalid.
    """
    hub = need("huggingface_hub")
    try:
        hub.utils.validate_repo_id(name)
    except Exception as error:  # the hub library's own exceptions
        raise InputError(f"push_to_hub={name!r}: {' '.join(str(error).split())[:200]}") from None


def push(folder: Path, name: str) -> str:
    """Upload a folder, including its card, to a private repository; return the URL.

    The hub's client looks up the login itself.

    Raises:
        InputError: the hub refuses; the folder remains unchanged.
    """
    hub = need("huggingface_hub")
    try:
        api = hub.HfApi()
        address = api.create_repo(name, private=True, exist_ok=True)
        message = "policy of nash-md"
        api.upload_folder(repo_id=name, folder_path=str(folder), commit_message=message)
    except Exception as error:  # networks and hubs fail in many ways
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"push_to_hub={name}: {type(error).__name__}: {reason}; the policy is in {folder}: "
            f"huggingface-cli upload {name} {folder}"
        ) from None
    return str(address)
