"""Prompts in groups that read alike: what one question's response cannot tell of its chains, those of its group can."""

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

from cola_learn.backbone.backbone import Backbone
from cola_learn.backbone.executor import Executor
from cola_learn.backbone.rows import Row
from cola_learn.tasks.questions import Question, Template, as_sample

_COMPONENTS = 32


def clusters_of(
    backbone: Backbone, questions: Sequence[Question], template: Template, count: int, seed: int = 0
) -> NDArray[numpy.int64]:
    """The cluster of each question, ``[Q]``: k-means on the principal components of its prompt's hidden states after an
    eighth of the layers, in the mean over tokens and at the last one."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    executor, depth = Executor(backbone, cache_bytes=0), backbone.num_layers // 8
    rows = []
    for question in questions:
        tokens = backbone.encoder.prompt(as_sample(question, template).prompt)
        handle = executor.open(Row.plain(backbone.encoder.cut(tokens, len(tokens) - backbone.max_tokens)))
        [states] = executor.read([handle], [depth])
        executor.close(handle)
        own = states[:, 0].float()
        rows.append(numpy.concatenate([own.mean(0).numpy(), own[-1].numpy()]))
    vectors = numpy.stack(rows)
    components = PCA(min(_COMPONENTS, *vectors.shape), random_state=seed)
    model = make_pipeline(StandardScaler(), components, KMeans(min(count, len(vectors)), n_init=10, random_state=seed))
    found: NDArray[numpy.int64] = model.fit_predict(vectors)
    return found
