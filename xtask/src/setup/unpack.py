"""Takes entries out of a wheel: unpack.py WHEEL FOLDER KEEP... where a KEEP that ends in "/" stands for all below it.

Exits with 28 (ENOSPC) when the disk is full. zipfile checks each entry's CRC and keeps it inside FOLDER.
"""

import errno
import sys
import zipfile

wheel, folder, *keep = sys.argv[1:]


def wanted_by(keep, name):
    return name.startswith(keep) if keep.endswith("/") else name == keep


try:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        for pattern in keep:
            matches = [name for name in names if wanted_by(pattern, name)]
            if not matches:
                sys.exit(f"{wheel} has no entry {pattern}")
            for name in matches:
                archive.extract(name, folder)
except OSError as error:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        sys.exit(28)
    raise
