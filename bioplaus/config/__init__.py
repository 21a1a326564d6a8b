"""The typed configs of the commands, and the plain objects that they describe."""

from bioplaus.config.data import DataCheckConfig, DataConfig, data_origins, make_dataset
from bioplaus.config.eqprop import (
    EqpropConfig,
    make_estimator,
    make_optimizer,
    make_settling,
    origins,
    restore_field,
    task_of,
)
from bioplaus.config.fitting import FitConfig, fit_config, loop_settings, optimizer_settings
from bioplaus.config.gradcheck import (
    GradcheckConfig,
    check_origins,
    check_settings,
    check_settling,
    compared,
    make_check,
    require_servable,
    restore_check,
    restored_origins,
)
from bioplaus.config.loop import LoopConfig
from bioplaus.config.network import LeakyConfig, NetworkConfig, Task, as_inputs
from bioplaus.config.resolving import resolve

__all__ = [
    "DataCheckConfig",
    "DataConfig",
    "EqpropConfig",
    "FitConfig",
    "GradcheckConfig",
    "LeakyConfig",
    "LoopConfig",
    "NetworkConfig",
    "Task",
    "as_inputs",
    "check_origins",
    "check_settings",
    "check_settling",
    "compared",
    "data_origins",
    "fit_config",
    "loop_settings",
    "make_check",
    "make_dataset",
    "make_estimator",
    "make_optimizer",
    "make_settling",
    "optimizer_settings",
    "origins",
    "require_servable",
    "resolve",
    "restore_check",
    "restore_field",
    "restored_origins",
    "task_of",
]
