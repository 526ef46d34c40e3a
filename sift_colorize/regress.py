"""Module 3: `SigmoidRegressor`, the sigmoid network as a scikit-learn estimator.

Its shape is fixed, 10 fully connected layers × 128 sigmoid units and a linear output; what can be set is how it is
taught. One estimator learns one channel. The network itself is in `network.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from .checks import InputError, check_number
from .network import Network, safe_scale
from .threads import one_thread
from .trainer import Trainer

START_SAMPLES = 4096  # at most so many samples set the spread of the start
SHUFFLED = 8192  # rows that are gathered at a time
SMALL_BATCH = 32  # a small set is not cut finer than this …
BATCHES = 8  # … and not coarser than into so many batches
FLOATS = (np.float64, np.float32)


class SigmoidRegressor(RegressorMixin, BaseEstimator):
    """Regression by 10 fully connected layers of 128 sigmoid units each and a linear output.

    Inputs are standardised and the target is centred. The start is data-driven, since with usual initial weights ten
    sigmoid layers learn nothing. Trained by Adam on the squared error with decoupled weight decay, Gaussian noise on
    the inputs, and a rate that falls along a cosine.

    Parameters
    ----------
    epochs : int
        Passes over the samples.
    min_steps : int
        Steps of the optimiser at least; a small set is passed more often, until they are made.
    batch_size : int
        Samples of a step at most. A small set is cut into at least 8 batches, as far as 32 samples each allow.
    learning_rate : float
        Adam's, at the start.
    weight_decay : float
        Each step takes rate × decay × weight off the weights.
    input_noise : float
        Standard deviation of the noise on the standardised inputs.
    spread : float
        Standard deviation of each unit before its sigmoid, at the start.
    average : float
        Decay per step of a running average of the weights; 0 keeps the last ones.
    early_stopping : bool
        Whether samples are held out, training stops when they are predicted no better, and the best weights are kept.
    validation_fraction : float
        Share of the groups (photos), or of the samples if there are no groups, that is held out then.
    patience : int
        Epochs without a better score before training stops.
    random_state : int, RandomState or None
        Of the start, the order, the noise and what is held out. An int gives the same bytes every time.

    Attributes
    ----------
    network_ : Network
        The learned network; of `X`'s type.
    n_features_in_, n_iter_ : int
        Number of features; epochs made.
    loss_curve_ : list of float
        Mean squared error of each epoch, on the training samples as they were met, in units of `y`².
    validation_scores_ : list of float
        With early stopping, R² against the mean of the training samples after each epoch.
    best_iter_ : int
        With early stopping, the epoch (from 1) whose weights were kept.
    held_out_ : ndarray of int, if some are held out
        With early stopping on a part of `X`, the rows that were held out.

    Notes
    -----
    It computes in the type of `X`, in `fit` and in `predict`: float32 for float32, else float64. It runs on one BLAS
    thread, so that the result does not depend on their number; `predict` gives a row the same bytes in any company.
    """

    network_: Network
    trainer_: Trainer

    def __init__(
        self,
        *,
        epochs=4,
        min_steps=300,
        batch_size=1024,
        learning_rate=1e-3,
        weight_decay=0.5,
        input_noise=0.3,
        spread=1.6,
        average=0.0,
        early_stopping=False,
        validation_fraction=0.1,
        patience=5,
        random_state=None,
    ):
        self.epochs = epochs
        self.min_steps = min_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.input_noise = input_noise
        self.spread = spread
        self.average = average
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state

    def fit(self, X, y, groups=None, validation=None):
        """Learn from samples, forgetting what was learned before.

        Parameters
        ----------
        X : (N, D) array_like
            Features.
        y : (N,) array_like
            Target.
        groups : (N,) array_like, optional
            Photo of each sample; early stopping holds out whole photos.
        validation : pair of (M, D) and (M,) array_like, optional
            Samples for early stopping, which this turns on; then nothing of `X` is held out.

        Returns
        -------
        SigmoidRegressor
            Itself.

        Raises
        ------
        InputError
            If a parameter is out of its range, or there are not two groups to hold one out.
        ValueError
            If `X` or `y` has a wrong shape, NaN, or infinity.
        ColorizeError
            If the training diverges.
        """
        self._check_parameters()
        X, y = validate_data(self, X, y, dtype=FLOATS, y_numeric=True)
        y = y.astype(np.float64)
        random = check_random_state(self.random_state)
        seed = int(random.randint(2**31 - 1))
        if groups is not None:
            groups = column_or_1d(groups)
            check_consistent_length(X, groups)
        self._forget()
        if validation is not None:
            validation = self._check_validation(validation, X.dtype)
        elif self.early_stopping:
            held = hold_out(len(X) if groups is None else groups, self.validation_fraction, (seed, 1))
            self.held_out_ = np.flatnonzero(held)
            validation = X[held], y[held]
            X, y = X[~held], y[~held]
        with one_thread():
            self._train(X, y, validation, seed)
        return self

    def partial_fit(self, X, y):
        """Learn one pass over some samples, at a constant rate, going on from what was learned before.

        The first call sets the standardisation and the start, so it should see some hundred samples at least.

        Parameters
        ----------
        X, y : (N, D), (N,) array_like
            Features and target; D and the type stay those of the first call.

        Returns
        -------
        SigmoidRegressor
            Itself.
        """
        self._check_parameters()
        first = not hasattr(self, "network_")
        X, y = validate_data(self, X, y, dtype=FLOATS, y_numeric=True, reset=first)
        y = y.astype(np.float64)
        with one_thread():
            if not hasattr(self, "trainer_"):
                seed = int(check_random_state(self.random_state).randint(2**31 - 1))
                network = self._start(X, y, seed) if first else self.network_
                self.trainer_ = self._trainer(network, self._batch(len(X)), seed)
            if first:
                self.n_iter_, self.loss_curve_ = 0, []
            order = np.random.default_rng((self.trainer_.seed, 2, self.n_iter_))
            loss = self.trainer_.run(shuffled(X, y, order))
        self.network_ = self.trainer_.result()
        self.loss_curve_.append(loss * self.network_.y_scale**2)
        self.n_iter_ += 1
        return self

    def predict(self, X) -> np.ndarray:
        """Return the prediction (N,) for features (N, D), in their type: float32 for float32, else float64."""
        check_is_fitted(self, "network_")
        X = validate_data(self, X, dtype=FLOATS, reset=False)
        with one_thread():
            return self.network_.astype(X.dtype).predict(X)

    def _train(self, X, y, validation, seed):
        """Run the epochs; with `validation`, keep the best of them."""
        batch = self._batch(len(X))
        per_epoch = -(-len(X) // batch)
        epochs = max(self.epochs, -(-self.min_steps // per_epoch))
        trainer = self._trainer(self._start(X, y, seed), batch, seed, per_epoch * epochs)
        self.n_iter_, self.loss_curve_ = 0, []
        if validation is not None:
            self.validation_scores_, self.best_iter_ = [], 0
        for epoch in range(epochs):
            loss = trainer.run(shuffled(X, y, np.random.default_rng((seed, 2, epoch))))
            self.loss_curve_.append(loss * trainer.network.y_scale**2)
            self.n_iter_ = epoch + 1
            if validation is not None and self._stop(trainer, validation):
                break
        if validation is None:
            self.network_ = trainer.result()

    def _stop(self, trainer: Trainer, validation) -> bool:
        """Score the epoch, keep its weights if they are the best, and tell whether patience is at an end."""
        network = trainer.result()
        X, y = validation
        error = np.mean((network.predict(X) - y) ** 2)
        spread = np.mean((network.y_mean - y) ** 2)
        self.validation_scores_.append(float(1 - error / max(spread, np.finfo(float).tiny)))
        if self.best_iter_ == 0 or self.validation_scores_[-1] > self.validation_scores_[self.best_iter_ - 1]:
            self.best_iter_, self.network_ = self.n_iter_, network
        return self.n_iter_ - self.best_iter_ >= self.patience

    def _start(self, X, y, seed) -> Network:
        rows = np.random.default_rng((seed, 3)).permutation(len(X))[:START_SAMPLES]
        scaling = {"x_mean": X.mean(axis=0, dtype=np.float64), "x_scale": safe_scale(X)}
        y_scale = float(safe_scale(y[:, None])[0])
        return Network.start(X[rows], y.mean(), y_scale, seed=(seed, 4), spread=self.spread, **scaling)

    def _trainer(self, network, batch, seed, total_steps=None) -> Trainer:
        rates = (self.learning_rate, self.weight_decay, self.input_noise)
        return Trainer(network, *rates, batch, seed, self.average, total_steps)

    def _batch(self, n: int) -> int:
        """Return the batch size for n samples: batches as equal as can be."""
        wanted = min(self.batch_size, max(SMALL_BATCH, -(-n // BATCHES)))
        return -(-n // -(-n // wanted))

    def _check_parameters(self):
        for name, low in (("epochs", 1), ("min_steps", 0), ("batch_size", 1), ("patience", 1)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < low:
                raise InputError(f"{name} is {value!r}; wanted is a whole number, at least {low}")
        tiny = np.finfo(float).tiny
        check_number(self.learning_rate, "learning_rate", tiny)
        check_number(self.weight_decay, "weight_decay", 0)
        check_number(self.input_noise, "input_noise", 0)
        check_number(self.spread, "spread", tiny)
        check_number(self.average, "average", 0, 1 - 1e-9)
        check_number(self.validation_fraction, "validation_fraction", tiny, 1 - 1e-9)

    def _check_validation(self, validation, dtype):
        X, y = validate_data(self, *validation, dtype=dtype, y_numeric=True, reset=False)
        return X, y.astype(np.float64)

    def _forget(self):
        for name in ("trainer_", "validation_scores_", "best_iter_", "held_out_"):
            self.__dict__.pop(name, None)


def hold_out(groups, fraction: float, seed) -> np.ndarray:
    """Return which samples are held out: whole groups, at least one, and never all.

    Parameters
    ----------
    groups : (N,) ndarray, or int
        Group of each sample; a number N stands for N groups of one sample each.
    fraction : float
        Share of the groups, in 0…1.
    seed : int or sequence of int
        Of the draw.

    Returns
    -------
    (N,) ndarray of bool

    Raises
    ------
    InputError
        If there is only one group.
    """
    groups = np.arange(groups) if np.ndim(groups) == 0 else groups
    names, numbers = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise InputError("early stopping found 1 sample or group; wanted are at least 2, to hold one out")
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    chosen = np.random.default_rng(seed).permutation(len(names))[:count]
    return np.isin(numbers, chosen)


def shuffled(X, y, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the samples in random order, in blocks that bound what is copied at a time."""
    order = rng.permutation(len(X))
    for start in range(0, len(order), SHUFFLED):
        rows = order[start : start + SHUFFLED]
        yield X[rows], y[rows]
