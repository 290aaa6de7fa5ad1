"""``python train.py``, ``niphash train``: Hydra composes the run, the pipeline does it."""

import hydra
from omegaconf import DictConfig

from niphash.apps.session import check_data_choice, choices, overrides, run_folder, run_hydra, user_errors
from niphash.config import conf_dir


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
def program(cfg: DictConfig) -> None:
    """Train and measure one model, train a classifier, or answer a question of the papers."""
    with user_errors():
        check_data_choice()
        from niphash.pipeline.run import assemble

        run = assemble(cfg, run_folder(), choices(), overrides())
        if cfg.study is not None:
            run.part("study")(run).write(run.folder)
        elif cfg.stage == "classifier":
            from niphash.pipeline.classifying import run_classifier

            run_classifier(run)
        else:
            from niphash.pipeline.training import train

            train(run)


def main() -> None:
    """Run the program with the overrides of the command line."""
    run_hydra(program)


if __name__ == "__main__":
    main()
