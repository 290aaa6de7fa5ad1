"""``python train.py``, ``niphash train``: Hydra composes the run, the pipeline does it."""

from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig

from niphash.apps.session import (
    check_data_choice,
    choices,
    chooses_options,
    job_errors,
    overrides,
    run_folder,
    run_hydra,
)
from niphash.config import conf_dir

if TYPE_CHECKING:
    from niphash.pipeline.run import Run


@hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")
def program(cfg: DictConfig) -> float | None:
    """Train and measure one model, train a classifier or a backbone, or answer a question of the papers.

    Returns:
        The metric ``objective`` of a run that measures, which a sweeper makes large; ``None`` of a study, and
        of a run of a sweep that failed.
    """
    with job_errors():
        check_data_choice()
        from niphash.pipeline.run import assemble

        run = assemble(cfg, run_folder(), choices(), overrides())
        if cfg.study is not None:
            answer_study(run)
        elif cfg.stage == "classifier":
            from niphash.pipeline.classifying import run_classifier

            return run_classifier(run)["accuracy@1"]
        elif cfg.stage == "backbone":
            from niphash.pipeline.contrasting import run_backbone

            run_backbone(run)
        else:
            from niphash.pipeline.reporting import check_objective, objective
            from niphash.pipeline.training import train

            check_objective(cfg.objective, run)
            if chooses_options():
                check_held_out(run)
            return objective(train(run), cfg.objective)
    return None


def answer_study(run: "Run") -> None:
    """Answer a question of the papers, and show the answer on the loggers."""
    from niphash.studies.result import StudyResult
    from niphash.training.loggers import close, log_results

    for logger in run.loggers:
        logger.log_hyperparams(run.record)
    result = run.part("study")(run)
    result.write(run.folder)
    if isinstance(result, StudyResult):  # a report holds many, and is a page of its own
        log_results(run.loggers, {}, run.folder / f"{result.name}.png", {result.name: result.table()})
    close(run.loggers)


def check_held_out(run: "Run") -> None:
    """Refuse a sweeper that would choose options by what is reported.

    Raises:
        InputError: the run measures on a data set of its own, not on views of held-out photos.
    """
    from niphash.data.sets.held_out_views import HeldOutViews
    from niphash.errors import InputError

    for target in run.targets:
        if not isinstance(target.data, HeldOutViews):
            raise InputError(
                f"data={target.data.name}: this sweeper chooses options by what it measures, so it would "
                "choose them on the test photos; leave data and eval_data out, and give photos by "
                "data.root=<folder>"
            )


def main() -> None:
    """Run the program with the overrides of the command line."""
    run_hydra(program, "train")


if __name__ == "__main__":
    main()
