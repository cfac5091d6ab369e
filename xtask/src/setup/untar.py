"""Takes single files out of a tar archive: untar.py ARCHIVE FOLDER ENTRY... Each lands in FOLDER under its last name.

Exits with 28 (ENOSPC) when the disk is full. Only the content of plain files is read, so no entry can lead elsewhere.
"""

import errno
import pathlib
import shutil
import sys
import tarfile

archive, folder, *entries = sys.argv[1:]

try:
    with tarfile.open(archive) as found:
        for entry in entries:
            try:
                source = found.extractfile(entry)
            except KeyError:
                source = None
            if source is None:
                sys.exit(f"{archive} has no file {entry}")
            with source, open(pathlib.Path(folder) / pathlib.PurePosixPath(entry).name, "wb") as target:
                shutil.copyfileobj(source, target)
except OSError as error:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        sys.exit(28)
    raise
