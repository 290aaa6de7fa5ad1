"""``python evaluate.py``, ``niphash evaluate``: a trained model, a foreign ranking, runs side by side."""

import hydra
from omegaconf import DictConfig

from niphash.apps.session import data_nodes, run_folder, user_errors
from niphash.config import conf_dir


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate ``model=``, ``ranking=`` or ``compare=``."""
    with user_errors():
        from niphash.pipeline import evaluating

        if cfg.compare is not None:
            evaluating.compare_runs(list(cfg.compare), run_folder(), int(cfg.seed), cfg.reference)
        elif cfg.ranking is not None:
            evaluating.evaluate_ranking(cfg, run_folder(), data_nodes(cfg))
        else:
            evaluating.evaluate_model(cfg, run_folder(), data_nodes(cfg))


if __name__ == "__main__":
    main()
