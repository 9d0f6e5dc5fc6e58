"""Filesystems of our own to fill and to cut the power of."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers

# FS_IOC_SHUTDOWN and its flag "no log flush", linux/fs.h and ext4/super.c:
# everything that is not on the disk is gone, as when the power goes.
_SHUTDOWN = 0x8004587D
_NO_FLUSH = struct.pack("I", 2)


def as_root() -> None:
    """Skip where no filesystem may be mounted, and say so."""
    if os.geteuid() != 0:
        pytest.skip("this mounts a filesystem of its own, which needs root")


def _mount(*given: object) -> None:
    command = [servers.program("mount"), *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(command)}: {done.stderr.strip()}")


def _unmount(folder: Path) -> None:
    for _ in range(50):
        done = subprocess.run(
            [servers.program("umount"), str(folder)], capture_output=True, check=False
        )
        if not done.returncode:
            return
        time.sleep(0.1)
    raise RuntimeError(f"{folder}: cannot unmount it: {done.stderr.decode()}")


class Small:
    """A filesystem in memory with little room, and more if asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def resize(self, kilobytes: int) -> None:
        """Give it another size."""
        _mount("-o", f"remount,size={kilobytes}k", self.folder)

    @property
    def free(self) -> int:
        """How much room is left. [B]."""
        return shutil.disk_usage(self.folder).free


@contextlib.contextmanager
def small(folder: Path, kilobytes: int) -> Iterator[Small]:
    """Mount a small filesystem in a new folder."""
    as_root()
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={kilobytes}k", "none", folder)
    try:
        yield Small(folder)
    finally:
        _unmount(folder)


class Volume:
    """An ext4 in a file, whose power can be cut."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.image, self.folder = image, folder

    def mount(self) -> None:
        """Mount it; what its own log has is played back."""
        _mount("-o", "loop", self.image, self.folder)

    def unmount(self) -> None:
        """Unmount it; nobody may have a file of it open."""
        _unmount(self.folder)

    def cut(self) -> None:
        """Cut the power: nothing more reaches the disk, not even what waits."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUTDOWN, _NO_FLUSH)
        finally:
            os.close(folder)


@contextlib.contextmanager
def volume(folder: Path, megabytes: int = 64) -> Iterator[Volume]:
    """Make an ext4 in a file and mount it."""
    as_root()
    image = folder.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    made = [servers.program("mkfs.ext4"), "-q", "-F", str(image)]
    subprocess.run(made, check=True, capture_output=True)
    folder.mkdir()
    it = Volume(image, folder)
    it.mount()
    try:
        yield it
    finally:
        it.unmount()
