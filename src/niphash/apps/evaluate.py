"""``python evaluate.py``, ``niphash evaluate``: a trained model, a foreign ranking, runs side by side."""

import hydra
from omegaconf import DictConfig

from niphash.apps.session import check_data_choice, choices, job_errors, run_folder, run_hydra
from niphash.config import conf_dir
from niphash.errors import InputError


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="evaluate")
def program(cfg: DictConfig) -> None:
    """Evaluate ``model=``, ``ranking=`` or ``compare=``."""
    with job_errors():
        check_data_choice()
        from niphash.model import load
        from niphash.pipeline import evaluating
        from niphash.pipeline.run import assemble

        run = assemble(cfg, run_folder(), choices())
        if cfg.compare is not None:
            evaluating.compare_runs(list(cfg.compare), run.folder, run.seed, cfg.reference)
        elif cfg.ranking is not None:
            evaluating.evaluate_ranking(run, cfg.ranking)
        elif cfg.model is not None:
            evaluating.evaluate_model(run, load(cfg.model, trust=cfg.trust))
        else:
            raise InputError(
                "name a trained model, model=<run folder>/model (or ranking=<file>, or compare=[a,b])"
            )


def main() -> None:
    """Run the program with the overrides of the command line."""
    run_hydra(program, "evaluate")


if __name__ == "__main__":
    main()
