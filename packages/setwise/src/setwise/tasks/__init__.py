"""Tasks: who owns the loss."""

from setwise.tasks.classification import Classification
from setwise.tasks.language_modeling import LanguageModeling
from setwise.tasks.regression import Regression
from setwise.tasks.task import AbstractTask, StepContext, StepOutput

__all__ = ["AbstractTask", "Classification", "LanguageModeling", "Regression", "StepContext", "StepOutput"]
