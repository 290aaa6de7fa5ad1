"""The walk through the rooms: one assembled run, fitted and measured."""

from niphash.lazy import exports

__getattr__, __all__ = exports(
    __name__,
    {
        "run": ("Run", "assemble"),  # what a configuration stands for, checked before any work
        "task_views": ("TaskViews",),  # how the photos of a task are seen
        "training": ("train",),  # fit a model, then measure it
        "evaluating": ("evaluate_model", "evaluate_ranking", "compare_runs"),  # measure without fitting
    },
)
