"""Fetching large files: transfers that go on where they broke, checks, and archives that stay in their folder."""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from flmm.console import progress
from flmm.constants import PAUSE, TRIES

TIMEOUT = 60.0  # seconds until a silent server is given up
_BLOCK = 1 << 20
_BROKEN = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)


class IncompleteError(OSError):
    """A transfer that ended before its file did."""


def remote_size(url: str) -> int | None:
    """Return the bytes of a file on a server, or None when it does not say or cannot be reached."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            length = answer.headers.get("Content-Length")
    except _BROKEN:
        return None
    return int(length) if length and length.isdigit() else None


def download(url: str, path: Path, sha256: str | None = None, pause: float = PAUSE) -> None:
    """Fetch a file; what is there of an earlier try is kept and gone on with.

    The file appears under its name when it is complete. Until then it is NAME.part, and NAME.tag says which version of
    it the server sent.

    Args:
        url: Where it is.
        path: Where it goes.
        sha256: Its published checksum.
        pause: Seconds between tries.

    Raises:
        ValueError: The checksum is another one, and the file is removed; or the disk is full.
        OSError: The server refuses, or the transfer broke in every try.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, tag = (path.with_name(f"{path.name}.{ending}") for ending in ("part", "tag"))
    for attempt in range(TRIES):
        try:
            _transfer(url, part, tag)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == TRIES - 1:
                raise OSError(f"{url}: the server says {error.code} {error.reason}; fetch the file by hand") from error
        except (*_BROKEN, IncompleteError) as error:
            if attempt == TRIES - 1:
                kept = part.stat().st_size if part.exists() else 0
                raise OSError(
                    f"{url}: broken off {TRIES} times ({error}); {kept} bytes are kept in {part}, run the command again"
                ) from error
        time.sleep(pause)
    if sha256 and (found := file_sha256(part)) != sha256:
        part.unlink()
        tag.unlink(missing_ok=True)
        raise ValueError(
            f"{url}: SHA-256 is {found}, published is {sha256}: the file was damaged or replaced, try again"
        )
    os.replace(part, path)
    tag.unlink(missing_ok=True)


def _transfer(url: str, part: Path, tag: Path) -> None:
    """One try: appends to what is there, if the server still has the same version, else starts again."""
    have = part.stat().st_size if part.exists() and tag.exists() else 0
    headers = {"Range": f"bytes={have}-", "If-Range": tag.read_text()} if have else {}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the range begins at the end of the file, or behind it
            raise
        if error.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
            return
        part.unlink()
        raise IncompleteError("what was kept is longer than the file") from error
    with answer:
        have = have if answer.status == 206 else 0
        _receive(answer, part, tag, have)


def _receive(answer: Any, part: Path, tag: Path, have: int) -> None:
    length = answer.headers.get("Content-Length")
    total = have + int(length) if length else None
    _check_room(part.parent, (total or 0) - have)
    version = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
    if version:
        tag.write_text(version)
    else:
        tag.unlink(missing_ok=True)  # nothing would tell whether the rest is of the same version
    bar = progress(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem)
    with _naming(part), part.open("ab" if have else "wb") as file, bar:
        while block := answer.read(_BLOCK):
            file.write(block)
            file.flush()  # a full disk is noticed here
            have += len(block)
            bar.update(len(block))
    if total is not None and have < total:
        raise IncompleteError(f"{have} of {total} bytes came")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file that a full disk, or one that cannot be written, stopped."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
            raise
        raise ValueError(
            f"{path} cannot be written ({error.strerror}): make room and run the command again, it goes on"
        ) from error


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{folder} has {free >> 20} MB free, {needed >> 20} MB are needed: make room, or choose another folder"
        )


def file_sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archive: Path, folder: Path) -> list[Path]:
    """Unpacks a zip file; members that are there with their size are kept, so it goes on where it was stopped.

    Nothing is written before all names are known to stay in the folder.

    Args:
        archive: The zip file.
        folder: Where its members go.

    Returns:
        The files.

    Raises:
        ValueError: It is no zip file, is damaged, a member would leave the folder or is a link, or the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as source:
            members = list(_checked(source, archive, folder))
            _check_room(folder, sum(info.file_size for info, path in members if not _is_there(info, path)))
            for info, path in progress(members, desc=f"unpack {archive.name}", unit="file"):
                if not _is_there(info, path):
                    _extract(source, info, path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{archive} is damaged ({error}): delete it and fetch it again") from error
    return [path for _, path in members]


def _checked(source: zipfile.ZipFile, archive: Path, folder: Path) -> Iterator[tuple[zipfile.ZipInfo, Path]]:
    base = folder.resolve()
    for info in source.infolist():
        name = info.filename.replace("\\", "/")
        link = (info.external_attr >> 16) & 0o170000 == 0o120000
        inside = (base / name).resolve().is_relative_to(base) and not PurePosixPath(name).is_absolute()
        if link or not inside or ":" in name.split("/")[0]:
            raise ValueError(f"{archive}: member {info.filename!r} is a link or leaves {folder}: nothing was unpacked")
        if not info.is_dir():
            yield info, folder / name


def _is_there(info: zipfile.ZipInfo, path: Path) -> bool:
    return path.is_file() and path.stat().st_size == info.file_size


def _extract(source: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with _naming(path), source.open(info) as content, part.open("wb") as file:
            shutil.copyfileobj(content, file, _BLOCK)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
