"""Runs the wordllama package with its own table and tokenizer, and stores what it returns.

    python tests/oracles/wordllama_package.py

Written: wordllama_package.npz, with texts and embedding [texts, 256] of WordLlama.load().embed.
"""

from pathlib import Path

import numpy as np
import wordllama

TEXTS = (
    "the film is a delight from its first frame to its last .",
    "A tedious, overlong mess; I couldn't wait for it to end!",
    "",
    "   ",
    "Crème brûlée & naïve café-goers: 3.14 stars (★) 電影 …",
    "good",
    "from : someone subject : re : a long post\n\tlines : 400 " * 40,
)


def main() -> None:
    package = Path(wordllama.__file__).parent
    embedding = wordllama.WordLlama.load(cache_dir=package, disable_download=True).embed(list(TEXTS))
    np.savez_compressed(Path(__file__).with_suffix(".npz"), texts=np.array(TEXTS), embedding=embedding)


if __name__ == "__main__":
    main()
