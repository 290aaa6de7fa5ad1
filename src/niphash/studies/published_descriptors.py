"""What the papers call the descriptor of a run."""

from niphash.pipeline.run import Run

#: Fisher vectors by the interest points that they are made of: the class of the encoder, one size or several.
FISHER = {("SiftDoG", 1): "fv_dog", ("SiftDense", 1): "fv_dense", ("SiftDense", 4): "fv_multiscale"}

#: Databases described over rotations, by ``views.pool_database``.
DATABASE_POOLINGS = {"max": "db_max", "mean": "db_avg", "min_distance": "db_mindist"}


def published_descriptor(run: Run) -> str | None:
    """Return the name in ``paper_results.csv`` of the descriptor of ``run``, ``None`` where it has none.

    A Fisher vector of one kind of interest points, or a layer of a network; with ``_db_...`` behind it where
    the database is described over rotations.
    """
    backbone, pooling = run.option("backbone"), run.option("pooling")
    if not str(run.option("descriptor._target_")).endswith(".single"):
        return None
    kind = str(backbone["_target_"]).rpartition(".")[2]
    if str(pooling["_target_"]).endswith(".Fisher"):
        name = FISHER.get((kind, len(backbone.get("bin_sizes", [0]))))
    elif backbone.get("name") and str(backbone.get("layer")).startswith("fc"):
        name = f"{backbone['name']}_{backbone['layer']}"
    else:
        name = None
    views = run.option("views")
    if name is None or views["pool_database"] is None:
        return name
    return f"{name}_{DATABASE_POOLINGS[views['pool_database']]}_{views['pool_degrees']:g}"
