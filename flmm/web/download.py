"""Everything of a session as one zip file, made in memory."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from flmm.evaluation.drawings import colour_of, overlay
from flmm.masks import decode_mask
from flmm.web.session import Room, Session
from flmm.web.view import found


def zipped(session: Session) -> bytes:
    """One folder for each conversation: what `Conversation.save` writes, all masks as JSON, and a drawing.

    `flmm.Conversation.load` goes on with such a folder.
    """
    content = io.BytesIO()
    with TemporaryDirectory(prefix="flmm-web-") as folder, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        for index, room in enumerate(session.rooms, 1):
            root = Path(folder, f"conversation_{index}")
            room.chat.save(root)
            for path in sorted(root.iterdir()):
                file.write(path, f"{root.name}/{path.name}")
            file.writestr(f"{root.name}/masks.json", json.dumps(masks(room), ensure_ascii=False, indent=1))
            for picture in sorted({mark.picture for mark in room.marks}):
                file.writestr(f"{root.name}/drawing_{picture}.png", png(drawing(room, picture)))
    return content.getvalue()


def masks(room: Room) -> list[dict[str, Any]]:
    """Each mask with the text that it is a phrase of."""
    return [found(mark) | {"source": list(mark.source), "of": room.words(mark.source)} for mark in room.marks]


def drawing(room: Room, picture: int) -> Image.Image:
    """A picture below all of its masks."""
    shown = [mark for mark in room.marks if mark.picture == picture]
    stack = np.stack([decode_mask(mark.mask) for mark in shown])
    return overlay(room.chat.pictures[picture].image, stack, [colour_of(mark.number - 1) for mark in shown], 0.45)


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    content = io.BytesIO()
    image.save(content, "PNG")
    return content.getvalue()
