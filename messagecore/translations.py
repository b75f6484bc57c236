"""The compiled message catalogues: made from the `.po` files beside them, by this process if nobody did before."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import polib

logger = logging.getLogger(__name__)


def compile_catalogues(locale_paths: Iterable[Path | str]) -> list[Path]:
    """Writes every `.mo` that is missing or older than its `.po`, and returns those written.

    A stat or two a language where nothing is to be done. Several processes may do it at once: each file appears whole.
    Where the directory cannot be written (a sealed image whose build did not do it), the pages are in English and the
    log says so.
    """
    written = []
    for source in sorted(path for root in locale_paths for path in Path(root).glob("*/LC_MESSAGES/*.po")):
        target = source.with_suffix(".mo")
        if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
            continue
        content = polib.pofile(str(source)).to_binary()
        try:
            _write(target, content)
        except OSError as error:
            logger.warning("cannot write %s (%s): its language is missing", target.name, error.strerror)
        else:
            written.append(target)
    return written


def _write(target: Path, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
