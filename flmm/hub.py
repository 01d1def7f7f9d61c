"""Repositories of the Hugging Face hub, as folders of its cache. Nothing in them is run."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from flmm import __version__
from flmm.constants import PAUSE, TRIES

PREFIX = "hf://"
_NAME = re.compile(r"(?P<repository>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[^@\s]+))?")
_FILES = (".py", ".json", ".pth", ".pt", ".bin", ".safetensors")  # a name that ends so is that of a file
_SHA256, _GIT = 64, 40  # hexadecimal digits of the two digests that name files of the cache
_TRANSPORTS = ("httpx", "httpx2", "requests", "hf_xet")  # whose errors need be no OSError; which, varies with versions


class HubName(NamedTuple):
    """A repository of the hub.

    Attributes:
        repository: `user/name`.
        revision: Branch, tag or commit; the main branch when there is none.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repository + (f"@{self.revision}" if self.revision else "")


def hub_name(text: str | os.PathLike, revision: str | None = None) -> HubName | None:
    """Read `user/name`, `user/name@revision`, or either of them after `hf://`.

    Args:
        text: The name, or a path.
        revision: Branch, tag or commit, when the name has none.

    Returns:
        The repository, or nothing for what can only be a path. A file or folder that exists is never a repository,
        unless `hf://` says so.

    Raises:
        ValueError: When `hf://` is followed by no name of a repository, or two revisions are given.
    """
    text = str(text)
    explicit = text.startswith(PREFIX)
    found = _NAME.fullmatch(text.removeprefix(PREFIX))
    if explicit and not found:
        raise ValueError(f"{text} names no repository of the hub: write hf://user/name or hf://user/name@revision")
    if not found or not explicit and (text.endswith(_FILES) or Path(text).expanduser().exists()):
        return None
    if revision and found["revision"] not in (None, revision):
        raise ValueError(f"{text} names revision {found['revision']}, and {revision} is asked for: give one of them")
    return HubName(found["repository"], found["revision"] or revision)


def fetch(name: HubName, allow: list[str] | None = None, ignore: list[str] | None = None, pause: float = PAUSE) -> Path:
    """Return the folder of a repository in the hub's cache, after what is missing there was downloaded.

    Without network, or with HF_HUB_OFFLINE=1, it is what the cache has. A download that breaks is continued.

    Args:
        name: The repository.
        allow: Patterns of the files that are wanted; all by default.
        ignore: Patterns of files that are not.
        pause: Seconds before a broken download is continued.

    Raises:
        FileNotFoundError: When there is no such repository or revision, it is closed to this user, or it is not in
            the cache and the hub cannot be reached.
        ConnectionError: When a transfer broke in every try.
    """
    for attempt in range(TRIES):
        try:
            return _fetch(name, allow, ignore)
        except ConnectionError:
            if attempt == TRIES - 1:
                raise
        time.sleep(pause)
    raise AssertionError("unreachable")


def _fetch(name: HubName, allow: list[str] | None, ignore: list[str] | None) -> Path:
    """One try of `fetch`."""
    from huggingface_hub import snapshot_download

    with _plain_errors(name):
        folder = snapshot_download(
            name.repository,
            revision=name.revision,
            allow_patterns=allow,
            ignore_patterns=ignore,
            library_name="flmm",
            library_version=__version__,
        )
    return Path(folder)


def file_names(name: HubName) -> list[str]:
    """Ask the hub for the files of a repository.

    Raises:
        FileNotFoundError, ConnectionError: As in `fetch`.
    """
    from huggingface_hub import HfApi

    with _plain_errors(name):
        return HfApi().list_repo_files(name.repository, revision=name.revision)


def upload(folder: Path, name: HubName, private: bool = False, message: str = "Upload a grounding head") -> str:
    """Upload a folder as one commit of a repository, which is made when it is not there.

    Args:
        folder: The folder.
        name: The repository; its revision is a branch that exists.
        private: Whether a new repository can be seen by its owner alone.
        message: What the commit says.

    Returns:
        The address of the repository.

    Raises:
        FileNotFoundError: When the hub cannot be reached, or does not let this user write.
        ConnectionError: When the transfer broke.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="flmm", library_version=__version__)
    with _plain_errors(name):
        url = api.create_repo(name.repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=name.repository, folder_path=folder, revision=name.revision, commit_message=message)
    return str(url)


@contextmanager
def _plain_errors(name: HubName) -> Iterator[None]:
    """Say in one sentence what the hub's errors say in several."""
    from huggingface_hub import constants, errors

    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except errors.GatedRepoError as error:
        raise FileNotFoundError(
            f"{name} wants its license accepted: do so on {constants.ENDPOINT}/{name.repository}, then {login}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"{name} is no folder here, and the hub knows no such repository or does not show it: check the name, or "
            f"{login} to an account that may see it"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileNotFoundError(
            f"{name.repository} has no revision {name.revision}: see its branches and tags"
        ) from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} cannot be reached"
        raise FileNotFoundError(
            f"{name} is no folder here and not whole in {constants.HF_HUB_CACHE}, and {why}: run "
            f"`flmm download {name}` where there is network, into the same HF_HOME"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        if status in (401, 403):
            raise FileNotFoundError(f"the hub refuses {name} ({status}): {login} with the rights it takes") from error
        raise ConnectionError(f"{name}: the hub answers {status} ({_first_line(error)}); try again later") from error
    except Exception as error:
        if not (isinstance(error, OSError) or type(error).__module__.split(".")[0] in _TRANSPORTS):
            raise
        raise ConnectionError(
            f"{name}: the transfer broke ({_first_line(error)}); run it again, what is there is kept"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def check_contents(folder: Path) -> int:
    """Compare the files of a cached repository with the digests that the hub gave them.

    Args:
        folder: As `fetch` returns it.

    Returns:
        How many files were compared.

    Raises:
        ValueError: When files differ; they are removed, so that the next download brings them again.
    """
    damaged, compared = [], 0
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        stored = file.resolve()
        if not re.fullmatch(rf"[0-9a-f]{{{_GIT}}}|[0-9a-f]{{{_SHA256}}}", stored.name):
            continue  # no file of the cache
        compared += 1
        if _digest(stored) != stored.name:
            damaged.append(str(file.relative_to(folder)))
            stored.unlink()
            file.unlink(missing_ok=True)
    if damaged:
        raise ValueError(f"{folder}: damaged and removed: {', '.join(damaged)}; download it again")
    return compared


def _digest(file: Path) -> str:
    """The digest that the hub names a file by: SHA-256 of a large one, git's of a small one."""
    if len(file.name) == _SHA256:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode())
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: digest).hexdigest()
