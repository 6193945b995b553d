"""Teacher embeddings on disk: the store, and the stage that fills it."""

from jaxkd.embeddings.joined import JoinedStore
from jaxkd.embeddings.stage import embed_dataset, store_identity
from jaxkd.embeddings.store import EmbeddingStore, StoreWriter

__all__ = ["EmbeddingStore", "JoinedStore", "StoreWriter", "embed_dataset", "store_identity"]
