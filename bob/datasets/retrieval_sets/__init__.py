"""The paper's retrieval datasets, in their official layouts under the data root."""
