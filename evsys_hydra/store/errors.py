"""What can go wrong between us and a store, as types: the sync decides by them what to repeat.

StoreError
 ├── BadRequest     the record is refused as it is (400, 413, 422): repeating it cannot help
 ├── UnknownId      it names something the store does not have (404)
 ├── NotAllowed     bad key, or not a member (401, 403)
 ├── Unreachable    it certainly did not take the record: repeating is safe
 └── Unclear        it may have taken the record, and did not say so: look before repeating
"""

from __future__ import annotations

from ..errors import StoreError


class BadRequest(StoreError):
    """The store refuses this record as it is."""


class UnknownId(StoreError):
    """The record belongs to something that the store does not have."""


class NotAllowed(StoreError):
    """The store refuses the key."""


class Unreachable(StoreError):
    """The store did not take the record; it may later."""


class Unclear(StoreError):
    """The store failed after it had the record; whether it kept it is unknown."""
