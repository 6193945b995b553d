"""The students on token ids: bags of embeddings, a convolutional network and a transformer, all trained from scratch."""

from collections.abc import Sequence

from jaxkd.errors import ConfigError
from jaxkd.models.bag_of_embeddings import BagOfEmbeddings
from jaxkd.models.bag_of_words import BagOfWords
from jaxkd.models.text_cnn import TextCNN
from jaxkd.models.text_transformer import TextTransformer


def bag_of_words_tiny(*, num_outputs: int, axis_name: str | None = None, vocabulary: int = 1024, width: int = 32, dropout: float = 0.0) -> BagOfWords:
    """One hidden layer of 32 units on the counts of 1,024 hashed words: 32,866 parameters at 2 outputs."""
    return BagOfWords(num_outputs=num_outputs, vocabulary=vocabulary, width=width, dropout=dropout, axis_name=axis_name)


def bag_of_embeddings(
    *,
    num_outputs: int,
    axis_name: str | None = None,
    vocabulary: int = 16_384,
    width: int = 64,
    hidden: Sequence[int] = (64,),
    dropout: float = 0.0,
) -> BagOfEmbeddings:
    """Mean of 64-d word embeddings and two hidden layers of 64: 1,052,930 parameters at 2 outputs."""
    return BagOfEmbeddings(num_outputs=num_outputs, vocabulary=vocabulary, width=width, hidden=tuple(hidden), dropout=dropout, axis_name=axis_name)


def text_cnn(
    *,
    num_outputs: int,
    axis_name: str | None = None,
    vocabulary: int = 16_384,
    width: int = 64,
    filters: int = 128,
    windows: Sequence[int] = (3, 4, 5),
    dropout: float = 0.0,
) -> TextCNN:
    """Kim's network (arXiv 1408.5882), narrower: 1,148,034 parameters at 2 outputs."""
    return TextCNN(num_outputs=num_outputs, vocabulary=vocabulary, width=width, filters=filters, windows=tuple(windows), dropout=dropout, axis_name=axis_name)


def text_transformer(
    *,
    num_outputs: int,
    axis_name: str | None = None,
    vocabulary: int = 16_384,
    width: int = 64,
    layers: int = 2,
    heads: int = 2,
    mlp_width: int = 256,
    positions: int = 512,
    dropout: float = 0.0,
) -> TextTransformer:
    """Two encoder layers of 64 units, 2 heads: 1,181,442 parameters at 2 outputs.

    Raises:
      ConfigError: the width cannot be divided among the heads.
    """
    if width % heads:
        raise ConfigError(f"a width of {width} cannot be divided among {heads} heads: choose a multiple of {heads}.")
    return TextTransformer(
        num_outputs=num_outputs,
        vocabulary=vocabulary,
        width=width,
        layers=layers,
        heads=heads,
        mlp_width=mlp_width,
        positions=positions,
        dropout=dropout,
        axis_name=axis_name,
    )
