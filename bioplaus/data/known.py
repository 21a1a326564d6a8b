"""Named data sets, and the hashes of their files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from bioplaus.data.raw import Raw
from bioplaus.data.reader import refuse_split
from bioplaus.data.readers.idx import IdxReader
from bioplaus.errors import InputError


@dataclass(frozen=True)
class Known:
    """A data set of four IDX files.

    Attributes:
        folder: where the files are.
        help: how to get them there.
        sha256: hashes of the unpacked files: train images, train labels, test images, test labels.
        classes: number of classes.
    """

    folder: Path
    help: str
    sha256: tuple[str, str, str, str]
    classes: int = 10


KNOWN = {
    "mnist": Known(
        Path(__file__).parent / "mnist",
        "install the package again",
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion-mnist": Known(
        Path("/usr/share/datasets/fashion-mnist"),  # where Debian's package installs it
        "`apt-get install dataset-fashion-mnist` puts it there; or name the folder of its four "
        "files with --data-dir (data_dir=)",
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}


def read_known(name: str, data_dir: Path | None, split: str | None) -> Raw:
    """Read a named data set.

    Args:
        name: its key in KNOWN.
        data_dir: where its files are, if not in the usual place; may be torchvision's root.
        split: rejected.

    Raises:
        InputError: a file is missing, damaged, or has an unexpected hash.
    """
    refuse_split(split, name)
    known = KNOWN[name]
    folder = known.folder if data_dir is None else _at_home(data_dir)
    if data_dir is None and not folder.is_dir():
        raise InputError(f"{name} is not at {folder}: {known.help}")
    raw = IdxReader().read(folder, None)
    roles = ("train images", "train labels", "test images", "test labels")
    found = [*raw.digests, *[""] * (4 - len(raw.digests))]
    paths = [name for part in raw.parts for name in (part.inputs_name, part.targets_name)]
    for role, path, digest, right in zip(roles, paths, found, known.sha256, strict=False):
        if digest != right:
            raise InputError(
                f"{path} is not {name}'s {role}: its unpacked sha256 is {digest}, legal is "
                f"{right}; get a fresh copy, or give the folder itself as the data set"
            )
    if raw.test is None:
        raise InputError(f"{folder} has no test images of {name}: get a fresh copy")
    return dataclasses.replace(raw, left_out=())


def _at_home(folder: Path) -> Path:
    """The folder, or the subfolder where torchvision puts the files."""
    if folder.is_dir():
        reader = IdxReader()
        homes = [folder, *(folder / home for home in reader.homes)]
        found = [home for home in homes if reader.recognises(home)]
        if len(found) == 1:
            return found[0]
    return folder
