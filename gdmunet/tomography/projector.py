"""Forward projection and its exact adjoint, differentiable, for any number of slices at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch

from gdmunet.errors import GdmError
from gdmunet.tomography.sampling import SampledViews
from gdmunet.tomography.scan_geometry import ScanGeometry
from gdmunet.tomography.weights import pixel_weights, ray_weights

# Entries of one sparse matrix: large enough for speed, small enough for memory (some 100 bytes each while it is made).
BLOCK_ENTRIES = 4_000_000
# Matrices up to this size in bytes are kept from one call to the next; larger ones are made anew, view by view.
KEPT_BYTES = 1_000_000_000
# Slices that are worked on at once: with kept matrices the product gains nothing beyond the first number.
SLICES, MANY_SLICES = 32, 256
_BYTES_PER_ENTRY = 8

# Up to this number of slices it takes less time to sample them than to make matrices.
FEW_SLICES = 12

Map = Callable[[torch.Tensor], torch.Tensor]
Weights = Callable[[ScanGeometry, slice, torch.device, torch.dtype], torch.Tensor]


class ViewMatrices:
    """The sparse matrices of all views, a few views each, made when they are needed."""

    def __init__(
        self, weights: Weights, geometry: ScanGeometry, device: torch.device, dtype: torch.dtype, transposed: bool
    ) -> None:
        self._make: Callable[[slice], torch.Tensor] = lambda views: weights(geometry, views, device, dtype)
        self._transposed = transposed
        entries = 2.5 * geometry.slice_shape[0] * geometry.slice_shape[1]  # a view
        step = max(1, int(BLOCK_ENTRIES / entries))
        self._ranges = [slice(v, min(v + step, geometry.views)) for v in range(0, geometry.views, step)]
        keep = entries * geometry.views * _BYTES_PER_ENTRY <= KEPT_BYTES
        self._kept: dict[int, torch.Tensor] | None = {} if keep else None
        # Matrices that are made anew for every batch of slices must serve many of them.
        self.slices = SLICES if keep else MANY_SLICES

    def __iter__(self) -> Iterator[tuple[slice, torch.Tensor]]:
        for views in self._ranges:
            yield views, self._matrix(views)

    def _matrix(self, views: slice) -> torch.Tensor:
        if self._kept is not None and views.start in self._kept:
            return self._kept[views.start]
        matrix = self._make(views)
        if self._transposed:
            matrix = matrix.t().to_sparse_csr()
        if self._kept is not None:
            self._kept[views.start] = matrix
        return matrix


class Projector:
    """Line integrals of slices, and the adjoint.

    Parameters
    ----------
    geometry
        Parallel or fan beam.
    device
        Device of the matrices; slices and sinograms must lie there too.
    dtype
        Type of the weights; they are computed in float64.
    """

    def __init__(
        self, geometry: ScanGeometry, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        if geometry.beam == "cone":
            raise GdmError(
                "the built-in projector works slice by slice",
                found="a cone beam",
                expected="a parallel or fan beam",
                remedy="choose --backend rtk for cone beams",
            )
        self.geometry, self.device, self.dtype = geometry, torch.device(device), dtype
        matrices = functools.partial(ViewMatrices, geometry=geometry, device=self.device, dtype=dtype)
        rays, rays_back = matrices(ray_weights, transposed=False), matrices(ray_weights, transposed=True)
        pixels, pixels_back = matrices(pixel_weights, transposed=False), matrices(pixel_weights, transposed=True)
        sampled = SampledViews(geometry, dtype)
        self._project = self._by_number(sampled.project, functools.partial(self._to_views, rays))
        self._adjoint = self._by_number(sampled.adjoint, functools.partial(self._to_slices, rays_back))
        self._spread = self._by_number(sampled.back_project, functools.partial(self._to_slices, pixels))
        self._gather = self._by_number(sampled.gather, functools.partial(self._to_views, pixels_back))

    def project(self, images: torch.Tensor) -> torch.Tensor:
        """Line integrals (..., views, bins) of attenuations (..., y, x) in 1/mm."""
        return _linear(images, self._project, self._adjoint)

    def adjoint(self, sinogram: torch.Tensor) -> torch.Tensor:
        """The exact adjoint of `project`: (..., views, bins) to (..., y, x)."""
        return _linear(sinogram, self._adjoint, self._project)

    def back_project(self, sinogram: torch.Tensor) -> torch.Tensor:
        """Sum over views (..., y, x) of the sinogram, interpolated at every pixel: the last step of an FBP."""
        return _linear(sinogram, self._spread, self._gather)

    def _by_number(self, few: Map, many: Map) -> Map:
        """Samples for a few slices on a CPU, matrices for many; a GPU makes matrices in one go, samples in many."""

        def apply(stack: torch.Tensor) -> torch.Tensor:
            sampled = self.device.type == "cpu" and stack.shape[:-2].numel() <= FEW_SLICES
            return few(stack) if sampled else many(stack)

        return apply

    def _to_views(self, matrices: ViewMatrices, images: torch.Tensor) -> torch.Tensor:
        geometry = self.geometry

        def product(columns: torch.Tensor) -> torch.Tensor:
            result = columns.new_empty(geometry.views * geometry.bins, columns.shape[1])
            for views, matrix in matrices:
                result[views.start * geometry.bins : views.stop * geometry.bins] = matrix @ columns
            return result

        return self._in_batches(images, matrices, product, (geometry.views, geometry.bins))

    def _to_slices(self, matrices: ViewMatrices, sinogram: torch.Tensor) -> torch.Tensor:
        height, width = self.geometry.slice_shape

        def product(columns: torch.Tensor) -> torch.Tensor:
            result = columns.new_zeros(height * width, columns.shape[1])
            for views, matrix in matrices:
                part = columns[views.start * self.geometry.bins : views.stop * self.geometry.bins]
                result = torch.addmm(result, matrix, part)
            return result

        return self._in_batches(sinogram, matrices, product, (height, width))

    def _in_batches(
        self,
        stack: torch.Tensor,
        matrices: ViewMatrices,
        product: Callable[[torch.Tensor], torch.Tensor],
        shape: tuple[int, int],
    ) -> torch.Tensor:
        """Apply `product` to columns (values, slices) of a few slices at a time, so that the memory stays small."""
        slices = stack.reshape(-1, stack.shape[-2] * stack.shape[-1]).to(self.dtype)
        result = slices.new_empty(len(slices), shape[0] * shape[1])
        for start in range(0, len(slices), matrices.slices):
            batch = slices[start : start + matrices.slices].t().contiguous()
            result[start : start + matrices.slices] = product(batch).t()
        return result.view(*stack.shape[:-2], *shape)


def _linear(values: torch.Tensor, forward: Map, adjoint: Map) -> torch.Tensor:
    apply: Callable[..., torch.Tensor] = _Linear.apply
    return apply(values, forward, adjoint)


class _Linear(torch.autograd.Function):
    """A linear map whose gradient is its adjoint."""

    @staticmethod
    def forward(context, values, forward, adjoint):  # type: ignore[no-untyped-def]
        context.maps = forward, adjoint
        return forward(values)

    @staticmethod
    def backward(context, gradient):  # type: ignore[no-untyped-def]
        forward, adjoint = context.maps
        return _linear(gradient, adjoint, forward), None, None
