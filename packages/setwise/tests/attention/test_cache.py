import pytest
import torch

from setwise.attention.cache import KVCache
from setwise.errors import ConfigError, ShapeError


def test_tokens_are_kept_in_order():
    cache = KVCache(2, max_tokens=7)
    k, v = torch.randn(2, 3, 7, 5), torch.randn(2, 3, 7, 11)
    for start, end in ((0, 4), (4, 5), (5, 7)):
        keys, values = cache.append(k[:, :, start:end], v[:, :, start:end])
        assert torch.equal(keys, k[:, :, :end])
        assert torch.equal(values, v[:, :, :end])
        assert len(cache) == end


def test_memory_is_taken_once():
    cache = KVCache(1, max_tokens=3)
    pointers = {cache.append(*torch.randn(2, 1, 1, 1, 2))[0].data_ptr() for _ in range(3)}
    assert len(pointers) == 1


def test_dtype_is_that_of_the_first_tokens():
    cache = KVCache(1, max_tokens=3)
    first, _ = cache.append(*torch.randn(2, 1, 1, 1, 2, dtype=torch.bfloat16))
    second, _ = cache.append(*torch.randn(2, 1, 1, 1, 2))
    assert first.dtype == second.dtype == torch.bfloat16


def test_gradients_do_not_pass_through():
    k = torch.randn(1, 1, 1, 2, requires_grad=True)
    keys, values = KVCache(1, max_tokens=3).append(k, k)
    assert not keys.requires_grad
    assert not values.requires_grad


def test_a_full_cache_says_how_much_is_needed():
    cache = KVCache(1, max_tokens=3)
    cache.append(*torch.randn(2, 1, 1, 2, 5))
    with pytest.raises(ShapeError, match=r"2 more tokens.*holds 2 of max_tokens=3.*max_tokens >= 4"):
        cache.append(*torch.randn(2, 1, 1, 2, 5))


def test_another_batch_is_refused():
    with pytest.raises(ShapeError, match="batch=3 does not fit a cache for batch=2"):
        KVCache(2, max_tokens=3).append(*torch.randn(2, 3, 1, 1, 5))


@pytest.mark.parametrize(("batch", "max_tokens"), [(0, 3), (2, 0), (2, -1)])
def test_a_cache_that_holds_nothing_is_refused(batch, max_tokens):
    with pytest.raises(ConfigError, match=f"batch={batch} and max_tokens={max_tokens}"):
        KVCache(batch, max_tokens=max_tokens)
