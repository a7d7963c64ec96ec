"""The placement file's text, a piece at a time: it can be larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from placer.files import to_json
from placer.placement import EqualVms, Placement, number_of

VMS_A_PIECE = 10_000
NO_VMS = '\n "vms": []'


def placement_json(placement: Placement) -> Iterator[str]:
    """Yield the text of the placement file, in pieces; equal VMs are worked out once."""
    header, end = _text(placement.model_copy(update={"vms": []}).to_dict()).split(NO_VMS, 1)
    vms = _vms(placement)
    first = next(vms, None)
    yield header
    if first is None:
        yield NO_VMS
    else:
        yield f'\n "vms": [\n{first}'
        while piece := list(islice(vms, VMS_A_PIECE)):
            yield "".join(f",\n{vm}" for vm in piece)
        yield "\n ]"
    yield f"{end}\n"


def _vms(placement: Placement) -> Iterator[str]:
    """Yield the text of each VM."""
    vms = placement.vms
    if not isinstance(vms, EqualVms):
        yield from (_indented(vm.model_dump(mode="json")) for vm in vms)
        return
    for vm, places in vms.runs():
        name = _text(f"{vm.vm_type}-").removesuffix('"')
        before, after = _indented(vm.model_dump(mode="json")).split(_text(vm.name), 1)
        first = number_of(vm)
        yield from (f'{before}{name}{n}"{after}' for n in range(first, first + len(places)))


def _indented(vm: dict[str, Any]) -> str:
    return "  " + _text(vm).replace("\n", "\n  ")


def _text(data: Any) -> str:
    return to_json(data).removesuffix("\n")
