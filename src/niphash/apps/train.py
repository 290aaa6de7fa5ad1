"""``python train.py``, ``niphash train``: Hydra composes the run, the pipeline does it."""

import hydra
from omegaconf import DictConfig

from niphash.apps.session import data_nodes, run_folder, user_errors
from niphash.config import conf_dir


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
def main(cfg: DictConfig) -> None:
    """Train and measure one model, train a classifier, or answer a question of the papers."""
    with user_errors():
        if cfg.study is not None:
            from niphash.config import build

            build(cfg.study, _partial_=True)(cfg=cfg).write(run_folder())
        elif cfg.stage == "classifier":
            from niphash.pipeline.classifying import run_classifier

            run_classifier(cfg, run_folder())
        else:
            from niphash.pipeline.training import train

            train(cfg, run_folder(), data_nodes(cfg))


if __name__ == "__main__":
    main()
